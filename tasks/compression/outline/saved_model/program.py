"""What ``saved_model.pb`` says: the signatures, and whether every operation in it may be run.

Numbers of fields are those of TensorFlow's saved_model.proto, meta_graph.proto, graph.proto, function.proto,
node_def.proto and op_def.proto.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tasks.compression.errors import CompressionError
from tasks.compression.outline.bounds import Bounds, too_large
from tasks.compression.outline.saved_model.members import ASSET
from tasks.compression.outline.saved_model.operators import ALLOWED, SAVERS
from tasks.compression.outline.saved_model.wire import Malformed, fields, messages, numbers, text, texts

__all__ = ["DTYPES", "Program", "Signature", "TensorSpec", "read_program"]

DTYPES: Final[Mapping[int, str]] = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
"""Names of the types of numbers, by their number in types.proto."""

_META_GRAPHS = 2
_META_INFO, _GRAPH, _SIGNATURES, _ASSETS, _OBJECTS = 1, 2, 5, 6, 7
_TAGS = 4
_NODES, _LIBRARY = 1, 2
_FUNCTIONS = 1
_FUNCTION_SIGNATURE, _FUNCTION_NODES = 1, 3
_NODE_OPERATION = 2
_MAP_KEY, _MAP_VALUE = 1, 2
_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS = 1, 2
_TENSOR_DTYPE, _TENSOR_SHAPE = 2, 3
_SHAPE_DIMENSION, _SHAPE_UNKNOWN = 2, 3
_ASSET_NAME = 2

_INITIALISER = "__saved_model_init_op"
_DEFAULT = "serving_default"
_SAVER = re.compile(r"__inference__traced_(?:save|restore)_\d+")
_LOOPS = frozenset({"While", "StatelessWhile", "Enter", "LoopCond"})
_IMPLEMENTS = b"api_implements"
_HINT = "upload the network as a .keras file, or save a signature that only computes on tensors"


@dataclass(frozen=True)
class TensorSpec:
    """`shape` has the batch axis; None where it is not known at all."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """The one to be converted, by the order of names that protocol buffers sort a map in."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass
class Program:
    """`signatures` are the names of all; `loops` says that a function has a loop; `objects` is the
    SavedObjectGraph."""

    signature: Signature
    signatures: tuple[str, ...]
    loops: bool
    objects: memoryview = field(repr=False)


def read_program(content: bytes, bounds: Bounds) -> Program:
    """CompressionError unsupported_model for a graph with operations that are not run here and for one whose
    signature cannot be told; bad_model for a damaged file or one beyond `bounds`."""
    try:
        return _program(memoryview(content), bounds)
    except Malformed as error:
        raise CompressionError(
            "bad_model", f"saved_model.pb is damaged or cut off: {error}", hint="pack and upload it again"
        ) from error


def _program(content: memoryview, bounds: Bounds) -> Program:
    graphs = list(messages(content, _META_GRAPHS))
    if len(graphs) != 1:
        raise _unsupported(
            f"the SavedModel has {len(graphs)} graphs, and one is needed", "save it for serving alone"
        )
    graph = graphs[0]
    tags = [tag for info in messages(graph, _META_INFO) for tag in texts(info, _TAGS)]
    if "serve" not in tags:
        raise _unsupported("the SavedModel is not tagged for serving", "save it with tf.saved_model.save")
    objects = b"".join(messages(graph, _OBJECTS))
    if not objects:
        raise _unsupported(
            "the SavedModel is one of TensorFlow 1, without the objects it is made of",
            "load it in TensorFlow 2 and save it again with tf.saved_model.save",
        )
    operations = _check_operations(graph, objects, bounds)
    _check_assets(graph)
    signatures = _signatures(graph)
    return Program(
        _chosen(signatures), tuple(sorted(signatures)), not _LOOPS.isdisjoint(operations), memoryview(objects)
    )


def _check_operations(graph: memoryview, objects: bytes, bounds: Bounds) -> set[str]:
    """The operations of the graph and of every function in it, called or not; all may be run."""
    found: set[str] = set()
    functions = list(_functions(graph))
    names = [name for name, _ in functions]
    if len(set(names)) != len(names):
        raise Malformed("two functions of one name")
    savers = {name for name in names if _SAVER.fullmatch(name)}
    _check_savers_are_alone(graph, functions, savers, objects)
    callable_ = ALLOWED | (set(names) - savers)
    count = 0
    for name, nodes in ((None, _nodes_of_graph(graph)), *((name, _body(part)) for name, part in functions)):
        allowed = SAVERS | (callable_ - ALLOWED) if name in savers else callable_
        for node in nodes:
            count += 1
            if count > bounds.operations:
                raise too_large(f"more than {bounds.operations} operations")
            for operation in texts(node, _NODE_OPERATION):
                found.add(operation)
                if operation not in allowed:
                    raise _unsupported(
                        f"the SavedModel has the operation {operation[:100]}, which is not run here", _HINT
                    )
    return found


def _functions(graph: memoryview) -> Iterator[tuple[str, memoryview]]:
    for part in messages(graph, _GRAPH):
        for library in messages(part, _LIBRARY):
            for function in messages(library, _FUNCTIONS):
                found = [
                    name
                    for signature in messages(function, _FUNCTION_SIGNATURE)
                    for name in texts(signature, 1)
                ]
                if len(found) != 1:
                    raise Malformed("a function without one name")
                yield found[0], function


def _nodes_of_graph(graph: memoryview) -> Iterator[memoryview]:
    for part in messages(graph, _GRAPH):
        yield from messages(part, _NODES)


def _body(function: memoryview) -> Iterator[memoryview]:
    return messages(function, _FUNCTION_NODES)


def _check_savers_are_alone(
    graph: memoryview, functions: list[tuple[str, memoryview]], savers: set[str], objects: bytes
) -> None:
    """Saving and restoring take names of files. What TensorFlow loads calls them from nowhere but the outer
    graph, which is not loaded: no other function and no object may as much as name them, and they may not
    offer themselves to TensorFlow's optimiser in the place of another."""
    for saver in savers:
        name = saver.encode()
        offered = any(_IMPLEMENTS in bytes(part) for own, part in functions if own == saver)
        others = (bytes(part) for other, part in functions if other != saver)
        inside = sum(
            bytes(body).count(name) for own, part in functions if own == saver for body in _body(part)
        )
        rest = (
            bytes(value)
            for part in messages(graph, _GRAPH)
            for library in messages(part, _LIBRARY)
            for number, value in fields(library)
            if number != _FUNCTIONS and not isinstance(value, int)
        )
        if offered or inside or name in objects or any(name in part for part in (*others, *rest)):
            raise _unsupported(
                f"the SavedModel calls {saver[:100]}, which reads and writes files, as a part of it", _HINT
            )


def _check_assets(graph: memoryview) -> None:
    for asset in messages(graph, _ASSETS):
        for name in texts(asset, _ASSET_NAME):
            if not re.fullmatch(ASSET, name):
                raise CompressionError(
                    "archive_refused",
                    f"the SavedModel has an asset {name[:100]!r}, which is no plain name",
                    hint="save it again with tf.saved_model.save",
                )


def _signatures(graph: memoryview) -> dict[str, memoryview]:
    found = {
        text(entry, _MAP_KEY): value
        for entry in messages(graph, _SIGNATURES)
        for value in messages(entry, _MAP_VALUE)
    }
    return {name: value for name, value in found.items() if name != _INITIALISER}


def _chosen(signatures: Mapping[str, memoryview]) -> Signature:
    if not signatures:
        raise _unsupported(
            "the SavedModel has no signature", 'save it with signatures={"serving_default": function}'
        )
    if _DEFAULT not in signatures and len(signatures) > 1:
        raise _unsupported(
            f"the SavedModel has the signatures {', '.join(sorted(signatures))[:300]}, and none is called "
            f"{_DEFAULT}",
            f"save it with the one that is meant as {_DEFAULT}",
        )
    name = _DEFAULT if _DEFAULT in signatures else next(iter(signatures))
    found = signatures[name]
    inputs, outputs = _tensors(found, _SIGNATURE_INPUTS), _tensors(found, _SIGNATURE_OUTPUTS)
    if not inputs or not outputs:
        raise _unsupported(f"the signature {name} has no inputs or no outputs", _HINT)
    return Signature(name, inputs, outputs)


def _tensors(signature: memoryview, number: int) -> tuple[TensorSpec, ...]:
    found = {
        text(entry, _MAP_KEY): value
        for entry in messages(signature, number)
        for value in messages(entry, _MAP_VALUE)
    }
    return tuple(_tensor(name, found[name]) for name in sorted(found))


def _tensor(name: str, info: memoryview) -> TensorSpec:
    kinds = list(numbers(info, _TENSOR_DTYPE))
    shapes = list(messages(info, _TENSOR_SHAPE))
    dtype = DTYPES.get(kinds[-1] if kinds else 0, f"type {kinds[-1] if kinds else 0}")
    if not shapes or any(numbers(shapes[-1], _SHAPE_UNKNOWN)):
        return TensorSpec(name, dtype, None)
    sizes = [list(numbers(dimension, 1)) for dimension in messages(shapes[-1], _SHAPE_DIMENSION)]
    shape = tuple((size[-1] if size and size[-1] >= 0 else None) if size else 0 for size in sizes)
    return TensorSpec(name, dtype, shape)


def _unsupported(detail: str, hint: str) -> CompressionError:
    return CompressionError("unsupported_model", detail, hint=hint)
