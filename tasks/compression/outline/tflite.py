"""The outline of a ``.tflite`` file, read straight from its FlatBuffer without LiteRT.

Operations are its layers, named by their first output where that has a name of its own. Every offset is
checked against the file before it is followed; numbers of fields are those of TFLite's schema.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.compression.errors import CompressionError
from tasks.compression.outline.bounds import Bounds, too_large
from tasks.compression.outline.facts import Call, Layer, Outline, Refusal, Weight
from tasks.compression.outline.tflite_writer import writer

__all__ = ["ACTIVATIONS", "KINDS", "TYPES", "Fields", "File", "builtin", "operation_name", "read_tflite"]

_KINDS = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
    EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
    LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1
    RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM
    CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND
    SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
    BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM
    CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE
    SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW
    ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK
    REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR
    LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS
    WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
    NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
    BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG
    REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
    CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL
    BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD
    UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR
    RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE STABLEHLO_MULTIPLY
    STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE
    STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL
    STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL
    STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER
    STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH
    STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE
    STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL
    STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE
    DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT
    STABLEHLO_CBRT STABLEHLO_CASE
"""
KINDS = dict(enumerate(_KINDS.split()))
"""Names of operations, in the order of their numbers in TFLite's schema."""

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

_FLOATS = frozenset({"float32", "float64"})
ACTIVATIONS = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}


class Fields:
    """Of the tables: a field's number in the vtable."""

    MODEL_CODES, MODEL_GRAPHS, MODEL_BUFFERS, MODEL_SIGNATURES = 6, 8, 12, 18
    GRAPH_TENSORS, GRAPH_INPUTS, GRAPH_OUTPUTS, GRAPH_OPERATORS, GRAPH_NAME = 4, 6, 8, 10, 12
    TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_NAME = 4, 6, 8, 10
    TENSOR_SPARSITY, TENSOR_SIGNATURE = 16, 18
    SIGNATURE_INPUTS, SIGNATURE_OUTPUTS = 4, 6
    ENTRY_NAME, ENTRY_TENSOR = 4, 6
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
    sparse: bool

    @property
    def batched(self) -> bool:
        """Whether its first axis is the samples, of any number or one at a time."""
        return bool(self.shape) and self.shape[0] in (-1, 1)

    @property
    def open_shape(self) -> tuple[int | None, ...]:
        return tuple(size if size >= 0 else None for size in self.shape)


def _outline(file: File, bounds: Bounds) -> Outline:
    model = file.root()
    graphs = file.tables(model, Fields.MODEL_GRAPHS)
    graph = graphs[0]
    layers: dict[str, Layer] = {}
    tensors, calls = _read_graph(file, graph, layers, bounds)
    for inner in graphs[1:]:  # bodies of loops: what they hold is the network's too
        _read_graph(file, inner, layers, bounds)
    inputs, outputs = file.integers(graph, Fields.GRAPH_INPUTS), file.integers(graph, Fields.GRAPH_OUTPUTS)
    maker = next((call.layer for call in reversed(calls) if outputs and outputs[0] in call.outputs), None)
    return Outline(
        format="tflite",
        framework="tensorflow",
        writer=writer(file, model, file.tables(model, Fields.MODEL_BUFFERS)),
        kind="tflite",
        name=file.text(graph, Fields.GRAPH_NAME),
        bytes=len(file.content),
        layers=tuple(layers.values()),
        calls=tuple(calls),
        tensors=tuple(tensor.open_shape for tensor in tensors),
        types=tuple(tensor.dtype for tensor in tensors),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        input_names=_names(file, model, tensors, inputs, Fields.SIGNATURE_INPUTS),
        output_names=_names(file, model, tensors, outputs, Fields.SIGNATURE_OUTPUTS),
        output_activation=ACTIVATIONS.get(layers[maker].kind, "linear") if maker is not None else None,
        refused=_refused(
            file,
            model,
            list(layers.values()),
            tensors,
            [tensors[i] for i in inputs],
            [tensors[i] for i in outputs],
        )
        if len(graphs) == 1
        else _unfit("the .tflite has loops or branches", "upload the network as a .keras file"),
    )


def _read_graph(
    file: File, graph: int, layers: dict[str, Layer], bounds: Bounds
) -> tuple[list[_Tensor], list[Call]]:
    """A graph's tensors and calls; its operations go into `layers`."""
    model = file.root()
    codes, buffers = file.tables(model, Fields.MODEL_CODES), file.tables(model, Fields.MODEL_BUFFERS)
    tensors = [_tensor(file, place) for place in file.tables(graph, Fields.GRAPH_TENSORS)]
    operators = file.tables(graph, Fields.GRAPH_OPERATORS)
    if len(tensors) > bounds.objects or len(operators) + len(layers) > bounds.calls:
        raise too_large(f"more than {bounds.calls} operations or {bounds.objects} tensors")
    calls = []
    for position, operator in enumerate(operators):
        kind = _kind(file, codes[file.scalar(operator, Fields.OPERATOR_CODE, "<I")])
        given = [place for place in file.integers(operator, Fields.OPERATOR_INPUTS) if place >= 0]
        made = file.integers(operator, Fields.OPERATOR_OUTPUTS)
        path = operation_name(tensors[made[0]].name if made else "", kind, position, layers)
        weights = tuple(_weights(file, [tensors[place] for place in given], buffers, bounds))
        layers[path] = Layer(path=path, name=path, kind=kind, weights=weights)
        calls.append(Call(layer=path, inputs=tuple(given), outputs=tuple(made)))
    return tensors, calls


def operation_name(output: str, kind: str, position: int, taken: Container[str]) -> str:
    """What an operation goes by: its first output's name, where that is there and not taken already, else its
    kind and position in the graph."""
    if output and output not in taken:
        return output
    count, name = 1, f"{kind.lower()}_{position}"
    found = name
    while found in taken:
        count += 1
        found = f"{name};{count}"
    return found


def _names(
    file: File, model: int, tensors: Sequence[_Tensor], numbers: Sequence[int], side: int
) -> tuple[str, ...]:
    """As the file's signature has them, else the tensors' own."""
    names = {number: tensors[number].name for number in numbers}
    for signature in file.tables(model, Fields.MODEL_SIGNATURES)[:1]:
        for entry in file.tables(signature, side):
            number = file.scalar(entry, Fields.ENTRY_TENSOR, "<I")
            if number in names:
                names[number] = file.text(entry, Fields.ENTRY_NAME)
    return tuple(names[number] for number in numbers)


def _refused(
    file: File,
    model: int,
    layers: Sequence[Layer],
    tensors: Sequence[_Tensor],
    inputs: Sequence[_Tensor],
    outputs: Sequence[_Tensor],
) -> Refusal | None:
    """What there is no quantising: not as a job of this service does it."""
    for layer in layers:
        if layer.kind in ("CUSTOM", "STABLEHLO_CUSTOM_CALL"):
            return Refusal(
                code="unsupported_model",
                detail="the .tflite has an operation of its own (CUSTOM), which LiteRT alone cannot run",
                hint="convert the model with built-in operations alone",
                layer=layer.path,
            )
        narrow = sorted({weight.dtype for weight in layer.weights} - _FLOATS)
        if narrow or layer.kind in ("QUANTIZE", "FAKE_QUANT"):
            return Refusal(
                code="already_quantized",
                detail="the .tflite is quantised already: "
                f"{' and '.join(narrow) or layer.kind} in {layer.path}",
                hint="upload the float file that it was made from",
                layer=layer.path,
            )
    if any(tensor.sparse for tensor in tensors):
        return _unfit("the .tflite stores zeros encoded", "convert the model without EXPERIMENTAL_SPARSITY")
    if not inputs or not outputs or len(file.tables(model, Fields.MODEL_SIGNATURES)) > 1:
        return _unfit("the .tflite has no one set of inputs and outputs", "convert one signature alone")
    for side, found in (("input", inputs), ("output", outputs)):
        for tensor in found:
            if tensor.dtype not in ("float32", "int32", "int64"):
                what = f"is of the type {tensor.dtype}"
            elif not tensor.batched:
                what = f"has the shape {list(tensor.shape)}, whose first axis is not the samples"
            else:
                continue
            return _unfit(
                f"the {side} {tensor.name} of the .tflite {what}",
                "convert it with a first axis of any number of samples, or of one",
            )
    return None


def _unfit(detail: str, hint: str) -> Refusal:
    return Refusal(code="unsupported_model", detail=detail, hint=hint)


def _tensor(file: File, place: int) -> _Tensor:
    kind = file.scalar(place, Fields.TENSOR_TYPE, "<b")
    shape = file.integers(place, Fields.TENSOR_SHAPE)
    return _Tensor(
        file.text(place, Fields.TENSOR_NAME),
        # Where sizes are open, the shape has a one.
        tuple(file.integers(place, Fields.TENSOR_SIGNATURE) or shape),
        TYPES.get(kind, f"type {kind}"),
        file.scalar(place, Fields.TENSOR_BUFFER, "<I"),
        file.field(place, Fields.TENSOR_SPARSITY) is not None,
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
    if min(tensor.shape, default=0) < 0:
        raise ValueError("a stored tensor has an open size")
    values: Any = np.frombuffer(stored, dtype=_NUMPY.get(tensor.dtype, "u1"))
    if tensor.dtype == "int4":
        values = np.stack([values & 15, values >> 4], axis=-1).reshape(-1)[: _size(tensor.shape)]
    if tensor.dtype == "int2":
        values = np.stack([values >> shift & 3 for shift in (0, 2, 4, 6)], axis=-1).reshape(-1)
        values = values[: _size(tensor.shape)]
    return Weight.counted(tensor.name, tensor.shape, tensor.dtype, values)


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
