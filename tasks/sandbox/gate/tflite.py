"""``.tflite`` files, table by table: every offset in the file, no custom operation, no tensor beyond bounds.

LiteRT verifies a file again when it is loaded from bytes, as it always is here.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

from tasks.compression.errors import CompressionError
from tasks.compression.outline.tflite import Fields, File, builtin

__all__ = ["check"]

MAX_TENSOR_BYTES = 4 << 30
_MAX_GRAPHS = 1_000
_MAX_TABLES = 1_000_000
_MAX_AXES = 32
_CUSTOM, _PLACEHOLDER, _DELEGATE = 32, 127, 51
# Bytes of a value by type; those with less than one count as one.
_WIDTHS = {0: 4, 1: 2, 2: 4, 4: 8, 7: 2, 8: 8, 10: 8, 11: 16, 12: 8, 15: 4, 16: 2, 18: 2}
_LARGEST_TYPE = 32
_LARGEST_BUILTIN = 300


def check(path: Path) -> None:
    """CompressionError bad_tflite, op_not_allowed, model_too_large."""
    try:
        _check(File(path.read_bytes()))
    except (struct.error, IndexError, ValueError) as error:
        raise _bad(str(error)) from error


def _check(file: File) -> None:
    model = file.root()
    codes = file.tables(model, Fields.MODEL_CODES)
    for code in codes:
        _check_code(file, code)
    buffers = [
        len(file.data(place, Fields.BUFFER_DATA)) for place in file.tables(model, Fields.MODEL_BUFFERS)
    ]
    graphs = file.tables(model, Fields.MODEL_GRAPHS)
    if not graphs or len(graphs) > _MAX_GRAPHS:
        raise _bad(f"it has {len(graphs)} graphs")
    for graph in graphs:
        _check_graph(file, graph, len(codes), buffers)


def _check_code(file: File, code: int) -> None:
    number = builtin(file, code)
    custom = file.text(code, Fields.CODE_CUSTOM)
    if number in (_CUSTOM, _DELEGATE) or custom:
        raise CompressionError(
            "op_not_allowed",
            f"the file has the custom operation {custom[:80]!r}",
            hint="convert the model to TFLite's own operations (TFLITE_BUILTINS)",
        )
    if not 0 <= number <= _LARGEST_BUILTIN or number == _PLACEHOLDER:
        raise _bad(f"it has an operation of the number {number}")


def _check_graph(file: File, graph: int, codes: int, buffers: list[int]) -> None:
    tensors = file.tables(graph, Fields.GRAPH_TENSORS)
    operators = file.tables(graph, Fields.GRAPH_OPERATORS)
    if len(tensors) > _MAX_TABLES or len(operators) > _MAX_TABLES:
        raise CompressionError("model_too_large", f"it has more than {_MAX_TABLES} tensors or operations")
    for place in tensors:
        _check_tensor(file, place, buffers)
    for operator in operators:
        if file.scalar(operator, Fields.OPERATOR_CODE, "<I") >= codes:
            raise IndexError("an operation is of no kind that the file lists")
        for field in (Fields.OPERATOR_INPUTS, Fields.OPERATOR_OUTPUTS):
            _check_indices(file.integers(operator, field), len(tensors))
    for field in (Fields.GRAPH_INPUTS, Fields.GRAPH_OUTPUTS):
        _check_indices(file.integers(graph, field), len(tensors))


def _check_indices(indices: list[int], count: int) -> None:
    if any(not -1 <= index < count for index in indices):
        raise IndexError("an operation names a tensor that there is not")


def _check_tensor(file: File, place: int, buffers: list[int]) -> None:
    shape = file.integers(place, Fields.TENSOR_SHAPE)
    kind = file.scalar(place, Fields.TENSOR_TYPE, "<b")
    buffer = file.scalar(place, Fields.TENSOR_BUFFER, "<I")
    name = file.text(place, Fields.TENSOR_NAME)[:80]
    if len(shape) > _MAX_AXES or any(size < -1 for size in shape) or not 0 <= kind <= _LARGEST_TYPE:
        raise ValueError(f"the tensor {name!r} has no valid shape or type")
    if buffer >= len(buffers):
        raise IndexError(f"the tensor {name!r} is in no buffer of the file")
    size = math.prod(max(1, size) for size in shape) * _WIDTHS.get(kind, 1)
    if size > MAX_TENSOR_BYTES:
        raise CompressionError("model_too_large", f"the tensor {name!r} has {size} bytes", layer=name or None)


def _bad(why: str) -> CompressionError:
    return CompressionError(
        "bad_tflite", f"the .tflite file is damaged or cut off: {why[:200]}", hint="convert it again"
    )
