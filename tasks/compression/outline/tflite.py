"""The outline of a ``.tflite`` file, read straight from its FlatBuffer without LiteRT.

Operations that hold weights are its layers, named by their first output. Every offset is checked against the
file before it is followed; numbers of fields are those of TFLite's schema.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.compression.errors import CompressionError
from tasks.compression.outline.bounds import Bounds, too_large
from tasks.compression.outline.facts import DISTINCT_COUNTED, Call, Layer, Outline, Weight

__all__ = ["KINDS", "TYPES", "Fields", "File", "builtin", "read_tflite"]

KINDS = {
    0: "ADD",
    1: "AVERAGE_POOL_2D",
    2: "CONCATENATION",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    6: "DEQUANTIZE",
    7: "EMBEDDING_LOOKUP",
    9: "FULLY_CONNECTED",
    14: "LOGISTIC",
    16: "LSTM",
    17: "MAX_POOL_2D",
    18: "MUL",
    19: "RELU",
    21: "RELU6",
    22: "RESHAPE",
    23: "RESIZE_BILINEAR",
    24: "RNN",
    25: "SOFTMAX",
    27: "SVDF",
    28: "TANH",
    32: "CUSTOM",
    34: "PAD",
    35: "UNIDIRECTIONAL_SEQUENCE_RNN",
    36: "GATHER",
    39: "TRANSPOSE",
    40: "MEAN",
    41: "SUB",
    42: "DIV",
    43: "SQUEEZE",
    44: "UNIDIRECTIONAL_SEQUENCE_LSTM",
    45: "STRIDED_SLICE",
    54: "PRELU",
    67: "TRANSPOSE_CONV",
    70: "EXPAND_DIMS",
    74: "SUM",
    77: "SHAPE",
    83: "PACK",
    97: "RESIZE_NEAREST_NEIGHBOR",
    98: "LEAKY_RELU",
    114: "QUANTIZE",
    119: "WHILE",
    126: "BATCH_MATMUL",
    132: "CONV_3D",
    141: "CONV_3D_TRANSPOSE",
}
"""Names of operations; those not listed go by their number."""

TYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    5: "string",
    6: "bool",
    7: "int16",
    9: "int8",
    10: "float64",
    15: "uint32",
    16: "uint16",
    17: "int4",
    18: "bfloat16",
    19: "int2",
}
_NUMPY = {"float32": "<f4", "float16": "<f2", "int8": "i1", "uint8": "u1", "int16": "<i2", "float64": "<f8"}
_WEIGHTS = frozenset(_NUMPY) | {"int4", "int2", "bfloat16"}


class Fields:
    """Of the tables: a field's number in the vtable."""

    MODEL_CODES, MODEL_GRAPHS, MODEL_BUFFERS = 6, 8, 12
    GRAPH_TENSORS, GRAPH_INPUTS, GRAPH_OUTPUTS, GRAPH_OPERATORS, GRAPH_NAME = 4, 6, 8, 10, 12
    TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_NAME = 4, 6, 8, 10
    OPERATOR_CODE, OPERATOR_INPUTS, OPERATOR_OUTPUTS = 4, 6, 8
    CODE_DEPRECATED, CODE_CUSTOM, CODE_BUILTIN = 4, 6, 10
    BUFFER_DATA = 4


def read_tflite(content: bytes, bounds: Bounds) -> Outline:
    """CompressionError bad_model for a file whose offsets lead out of it, or beyond `bounds`."""
    try:
        return _outline(File(content), bounds)
    except (struct.error, IndexError, ValueError, UnicodeDecodeError) as error:
        raise CompressionError(
            "bad_model", f"the .tflite file is damaged or cut off: {error}"[:300], hint="upload it again"
        ) from error


class File:
    """Tables, vectors and numbers of a FlatBuffer; struct.error or IndexError beyond its end."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def number(self, form: str, place: int) -> int:
        if place < 0:
            raise IndexError("an offset leads out of the file")
        return int(struct.unpack_from(form, self.content, place)[0])

    def root(self) -> int:
        return self.number("<I", 0)

    def field(self, table: int, number: int) -> int | None:
        """Where a table's field is, None where it has its default."""
        vtable = table - self.number("<i", table)
        if number >= self.number("<H", vtable):
            return None
        offset = self.number("<H", vtable + number)
        return table + offset if offset else None

    def scalar(self, table: int, number: int, form: str) -> int:
        place = self.field(table, number)
        return 0 if place is None else self.number(form, place)

    def vector(self, table: int, number: int) -> tuple[int, int]:
        """(where its items begin, how many there are)."""
        place = self.field(table, number)
        if place is None:
            return 0, 0
        start = place + self.number("<I", place)
        return start + 4, self.number("<I", start)

    def tables(self, table: int, number: int) -> list[int]:
        start, count = self.vector(table, number)
        if count > (len(self.content) - start) // 4:
            raise IndexError("a vector is longer than the file")
        return [(place := start + 4 * i) + self.number("<I", place) for i in range(count)]

    def integers(self, table: int, number: int) -> list[int]:
        start, count = self.vector(table, number)
        if count > (len(self.content) - start) // 4:
            raise IndexError("a vector is longer than the file")
        return [self.number("<i", start + 4 * i) for i in range(count)]

    def data(self, table: int, number: int) -> bytes:
        start, count = self.vector(table, number)
        if start + count > len(self.content):
            raise IndexError("a buffer is longer than the file")
        return self.content[start : start + count]

    def text(self, table: int, number: int) -> str:
        return self.data(table, number).decode("utf-8", "replace")


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: int


def _outline(file: File, bounds: Bounds) -> Outline:
    model = file.root()
    codes, buffers = file.tables(model, Fields.MODEL_CODES), file.tables(model, Fields.MODEL_BUFFERS)
    graph = file.tables(model, Fields.MODEL_GRAPHS)[0]
    tensors = [_tensor(file, place) for place in file.tables(graph, Fields.GRAPH_TENSORS)]
    operators = file.tables(graph, Fields.GRAPH_OPERATORS)
    if len(tensors) > bounds.objects or len(operators) > bounds.calls:
        raise too_large(f"more than {bounds.calls} operations or {bounds.objects} tensors")
    layers: dict[str, Layer] = {}
    calls = []
    for operator in operators:
        kind = _kind(file, codes[file.scalar(operator, Fields.OPERATOR_CODE, "<I")])
        given = [place for place in file.integers(operator, Fields.OPERATOR_INPUTS) if place >= 0]
        made = file.integers(operator, Fields.OPERATOR_OUTPUTS)
        path = _unique(tensors[made[0]].name if made else kind.lower(), layers)
        weights = tuple(_weights(file, [tensors[place] for place in given], buffers, bounds))
        layers[path] = Layer(path=path, name=path, kind=kind, weights=weights)
        calls.append(Call(layer=path, inputs=tuple(given), outputs=tuple(made)))
    return Outline(
        format="tflite",
        framework="tensorflow",
        name=file.text(graph, Fields.GRAPH_NAME),
        bytes=len(file.content),
        layers=tuple(layers.values()),
        calls=tuple(calls),
        tensors=tuple(tensor.shape for tensor in tensors),
        inputs=tuple(file.integers(graph, Fields.GRAPH_INPUTS)),
        outputs=tuple(file.integers(graph, Fields.GRAPH_OUTPUTS)),
    )


def _tensor(file: File, place: int) -> _Tensor:
    kind = file.scalar(place, Fields.TENSOR_TYPE, "<b")
    return _Tensor(
        file.text(place, Fields.TENSOR_NAME),
        tuple(file.integers(place, Fields.TENSOR_SHAPE)),
        TYPES.get(kind, f"type {kind}"),
        file.scalar(place, Fields.TENSOR_BUFFER, "<I"),
    )


def _kind(file: File, code: int) -> str:
    number = builtin(file, code)
    return KINDS.get(number, f"BUILTIN_{number}")


def builtin(file: File, code: int) -> int:
    """The number of an operator code, which older files keep in another field."""
    old, new = Fields.CODE_DEPRECATED, Fields.CODE_BUILTIN
    return max(file.scalar(code, old, "<b"), file.scalar(code, new, "<i"))


def _weights(file: File, given: Sequence[_Tensor], buffers: list[int], bounds: Bounds) -> Iterator[Weight]:
    for tensor in given:
        stored = file.data(buffers[tensor.buffer], Fields.BUFFER_DATA) if tensor.buffer else b""
        if stored and tensor.dtype in _WEIGHTS:
            if len(tensor.shape) > bounds.axes:
                raise too_large(f"a tensor of {len(tensor.shape)} axes")
            yield _weight(tensor, stored)


def _weight(tensor: _Tensor, stored: bytes) -> Weight:
    values: Any = np.frombuffer(stored, dtype=_NUMPY.get(tensor.dtype, "u1"))
    if tensor.dtype == "int4":
        values = np.stack([values & 15, values >> 4], axis=-1).reshape(-1)[: _size(tensor.shape)]
    if tensor.dtype == "int2":
        values = np.stack([values >> shift & 3 for shift in (0, 2, 4, 6)], axis=-1).reshape(-1)
        values = values[: _size(tensor.shape)]
    different = np.unique(values)
    return Weight(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        zeros=values.size - int(np.count_nonzero(values)),
        distinct=len(different) if len(different) <= DISTINCT_COUNTED else None,
    )


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _unique(name: str, taken: dict[str, Layer]) -> str:
    count, found = 1, name
    while found in taken:
        count += 1
        found = f"{name};{count}"
    return found
