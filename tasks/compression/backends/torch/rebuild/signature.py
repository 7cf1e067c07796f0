"""What an exported program takes and answers: names, shapes without the batch axis, and types."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.compression.backends.torch._framework import export, fx, torch
from tasks.compression.backends.torch.network import Signature
from tasks.compression.errors import CompressionError
from tasks.compression.facts import Shape

__all__ = ["Ends", "ends_of"]

_TYPES = {torch.float32: "float32", torch.int64: "int64", torch.int32: "int32"}
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SAVE = "export it with featherweight.torch.save(model, example_inputs, path), which leaves the batch open"


@dataclass(frozen=True)
class Ends:
    """Which nodes of the program are its inputs and outputs, in order, and what they are to callers."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    output_shapes: tuple[Shape, ...]
    signature: Signature


def ends_of(program: export.ExportedProgram, names: Mapping[str, Sequence[str]]) -> Ends:
    """`names` are the caller's own, as ``input_names`` and ``output_names``, where there are any.

    Raises CompressionError unsupported_model for inputs and outputs that no network of ours has.
    """
    inputs, outputs = _inputs(program), _outputs(program)
    batch = {_batch(node, "input") for node in inputs}
    if len(batch) > 1:
        raise _unsupported("the inputs do not share one batch axis", _SAVE)
    for node in outputs:
        if _batch(node, "output") not in batch:
            raise _unsupported(
                f"the first axis of the output {node.name} is not the batch's",
                "let the model answer with one entry for each sample",
            )
    signature = Signature(
        _named(names, "input_names", [node.name for node in inputs]),
        tuple(_shape(node, "input") for node in inputs),
        tuple(_type(node) for node in inputs),
        _named(names, "output_names", _output_names(program, outputs)),
    )
    shapes = tuple(_shape(node, "output") for node in outputs)
    return Ends(tuple(node.name for node in inputs), tuple(node.name for node in outputs), shapes, signature)


def _inputs(program: export.ExportedProgram) -> list[fx.Node]:
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    wanted = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    found = [nodes[name] for name in wanted if isinstance(nodes[name].meta.get("val"), torch.Tensor)]
    if not found:
        raise _unsupported("the model has no tensor as its input", _SAVE)
    return found


def _outputs(program: export.ExportedProgram) -> list[fx.Node]:
    nodes = {node.name: node for node in program.graph.nodes}
    found: list[fx.Node] = []
    for spec in program.graph_signature.output_specs:
        if spec.kind.name in ("BUFFER_MUTATION", "USER_INPUT_MUTATION", "PARAMETER_MUTATION"):
            continue
        node = nodes.get(getattr(spec.arg, "name", None) or "")
        value = None if node is None else node.meta.get("val")
        if node is None or not isinstance(value, torch.Tensor):
            raise _unsupported(
                f"output {len(found)} of the model is no tensor", "let forward return tensors alone"
            )
        if value.dtype != torch.float32:
            raise _unsupported(
                f"the output {node.name} is of the type {_plain(value.dtype)}",
                "let forward return float32, as logits and not the class they say",
            )
        found.append(node)
    return found


def _batch(node: fx.Node, what: str) -> str:
    value = node.meta["val"]
    if value.ndim == 0:
        raise _unsupported(f"the {what} {node.name} is a single number", f"give every {what} a batch axis")
    size = value.shape[0]
    if isinstance(size, int):
        raise _unsupported(f"the {what} {node.name} has a fixed batch size of {size}", _SAVE)
    return str(size)


def _shape(node: fx.Node, what: str) -> Shape:
    sizes = node.meta["val"].shape[1:]
    for axis, size in enumerate(sizes, start=1):
        if not isinstance(size, int):
            raise _unsupported(
                f"axis {axis} of the {what} {node.name} has any size; only the batch may",
                "export it with the sizes fixed but the batch's: featherweight.torch.save does",
            )
    return tuple(int(size) for size in sizes)


def _type(node: fx.Node) -> str:
    dtype = node.meta["val"].dtype
    if dtype not in _TYPES:
        raise _unsupported(
            f"the input {node.name} is of the type {_plain(dtype)}", "use float32, int32 or int64 inputs"
        )
    return _TYPES[dtype]


def _output_names(program: export.ExportedProgram, outputs: Sequence[fx.Node]) -> list[str]:
    """The keys where the model answers with a dictionary; else output, or output_0, output_1 ..."""
    spec: Any = program.call_spec.out_spec
    keys = [] if spec is None or spec.type is not dict else [str(key) for key in spec.context]
    if len(keys) == len(outputs) and all(map(_KEY.fullmatch, keys)):
        return keys
    return ["output"] if len(outputs) == 1 else [f"output_{index}" for index in range(len(outputs))]


def _named(names: Mapping[str, Sequence[str]], key: str, default: Sequence[str]) -> tuple[str, ...]:
    given = names.get(key)
    if given is None:
        return tuple(default)
    if len(given) != len(default):
        raise CompressionError(
            "bad_model",
            f"the archive has {len(given)} {key} and the model {len(default)}",
            hint="give featherweight.torch.save one for each",
        )
    return tuple(given)


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _unsupported(detail: str, hint: str) -> CompressionError:
    return CompressionError("unsupported_model", detail, hint=hint)
