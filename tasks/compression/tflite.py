"""Reads and rewrites ``.tflite`` files by their schema: the stored type of every tensor, the operations that
hold weights, and a copy without what inference does not need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

__all__ = [
    "Operation",
    "Tensor",
    "ends",
    "is_empty",
    "kind_of",
    "operations",
    "read",
    "strip",
    "tensors",
    "type_name",
    "weight_types",
    "with_entry",
    "written",
]

_IDENTIFIER = b"TFL3"
_TYPES = {value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
_KINDS = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}


@dataclass(frozen=True)
class Tensor:
    """`dtype` is the schema's name in lower case (``int4``, ``float16``); `stored` says that the file holds
    its values: weights and other constants."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    stored: bool


@dataclass(frozen=True)
class Operation:
    """An operation and its weights: the largest stored floating-point or quantised input of two axes or more,
    itself or through a DEQUANTIZE; None for an operation without. `inputs` are the tensors that it computes
    on, `names` those of its weights, outputs and everything stored."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    names: tuple[str, ...]
    weights: Tensor | None


def tensors(content: bytes) -> list[Tensor]:
    """Every tensor of the file."""
    model = read(content)
    return [_tensor(model, item) for graph in model.subgraphs for item in graph.tensors]


def weight_types(content: bytes) -> dict[str, int]:
    """How many stored tensors there are of each type."""
    return dict(sorted(Counter(item.dtype for item in tensors(content) if item.stored).items()))


def operations(content: bytes) -> list[Operation]:
    """Every operation of the file, in the order it is run."""
    model = read(content)
    return [item for graph in model.subgraphs for item in _operations(model, graph)]


def strip(content: bytes) -> bytes:
    """The same program without the names of inner tensors, metadata, recorded ranges and unused buffers.

    Inputs and outputs keep their names, and the signatures stay as they are. About 600 bytes of a small
    gzipped file are such things.
    """
    model = read(content)
    model.metadata = model.metadataBuffer = model.description = None
    for graph in model.subgraphs:
        graph.name = None
        kept = {int(index) for index in (*graph.inputs, *graph.outputs)}
        for index, tensor in enumerate(graph.tensors):
            _strip_tensor(tensor, keep_name=index in kept)
    _drop_buffers(model)
    return written(model, len(content))


def ends(content: bytes) -> tuple[list[str], list[str]]:
    """The names of the inputs and of the outputs, in the order of the file: those of its signature, and of
    the tensors in a file without one."""
    model = read(content)
    graph = model.subgraphs[0]
    names = [(tensor.name or b"").decode("utf-8", "replace") for tensor in graph.tensors]
    for signature in (model.signatureDefs or ())[:1]:
        for item in (*signature.inputs, *signature.outputs):
            names[int(item.tensorIndex)] = item.name.decode("utf-8", "replace")
    return [names[int(index)] for index in graph.inputs], [names[int(index)] for index in graph.outputs]


def with_entry(content: bytes, name: str, entry: bytes) -> bytes:
    """The same program with `entry` in its metadata, under that name."""
    model = read(content)
    held = schema.BufferT()
    held.data = np.frombuffer(entry, dtype=np.uint8)
    told = schema.MetadataT()
    told.name, told.buffer = name, len(model.buffers)
    model.buffers.append(held)
    model.metadata = [*(model.metadata or ()), told]
    return written(model, len(content) + len(entry))


def read(content: bytes) -> Any:
    """The file as the schema's objects; weights that stand behind the tables, as large files have them, are
    brought into their buffers."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(content), 0))
    for buffer in model.buffers or ():
        if buffer.offset > 1 and 0 < buffer.size <= len(content) - buffer.offset:
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def written(model: Any, size: int) -> bytes:
    """The file of the schema's objects; `size` is about its own."""
    builder = flatbuffers.Builder(size)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def _strip_tensor(tensor: Any, *, keep_name: bool) -> None:
    if not keep_name:
        tensor.name = None
    if tensor.shapeSignature is not None and list(tensor.shapeSignature) == list(tensor.shape):
        tensor.shapeSignature = None
    if tensor.quantization is not None:
        tensor.quantization.min = tensor.quantization.max = None
        if tensor.quantization.scale is None and tensor.quantization.details is None:
            tensor.quantization = None


def _drop_buffers(model: Any) -> None:
    """Tensors without values share buffer 0, which the format reserves for them. Variables have a buffer each
    and keep it."""
    places = {0: 0}
    kept = [model.buffers[0]]
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.buffer not in places:
                empty = is_empty(model.buffers[tensor.buffer]) and not tensor.isVariable
                places[tensor.buffer] = 0 if empty else len(kept)
                if not empty:
                    kept.append(model.buffers[tensor.buffer])
            tensor.buffer = places[tensor.buffer]
    model.buffers = kept


def is_empty(buffer: Any) -> bool:
    """Whether the file holds no values there."""
    return (buffer.data is None or len(buffer.data) == 0) and not buffer.offset


def _tensor(model: Any, item: Any) -> Tensor:
    shape = () if item.shape is None else tuple(int(size) for size in item.shape)
    name = (item.name or b"").decode("utf-8", "replace")
    return Tensor(name, type_name(item), shape, not is_empty(model.buffers[item.buffer]))


def _operations(model: Any, graph: Any) -> Iterator[Operation]:
    sources: dict[int, int] = {}
    for item in graph.operators or ():
        kind = kind_of(model, item)
        if kind == "DEQUANTIZE":
            sources[int(item.outputs[0])] = int(item.inputs[0])
        yield _operation(model, graph, item, kind, sources)


def _operation(model: Any, graph: Any, item: Any, kind: str, sources: dict[int, int]) -> Operation:
    given = () if item.inputs is None else item.inputs
    indices = [int(index) for index in given if index >= 0]
    inputs = [_tensor(model, graph.tensors[sources.get(index, index)]) for index in indices]
    stored = [tensor for tensor in inputs if tensor.stored]
    weights = [
        tensor for tensor in stored if len(tensor.shape) > 1 and tensor.dtype not in ("int32", "int64")
    ]
    outputs = tuple(_tensor(model, graph.tensors[int(index)]).name for index in item.outputs)
    names = dict.fromkeys([*(item.name for item in weights), *outputs, *(item.name for item in stored)])
    computed = tuple(tensor.name for tensor in inputs if not tensor.stored)
    return Operation(kind, computed, outputs, tuple(names), max(weights, key=_size, default=None))


def _size(tensor: Tensor) -> int:
    size = 1
    for length in tensor.shape:
        size *= length
    return size


def type_name(tensor: Any) -> str:
    """The schema's name of a tensor's type, in lower case."""
    return str(_TYPES[tensor.type])


def kind_of(model: Any, item: Any) -> str:
    """The schema's name of an operation."""
    code = model.operatorCodes[item.opcodeIndex]
    return str(_KINDS[max(int(code.builtinCode), int(code.deprecatedBuiltinCode))])
