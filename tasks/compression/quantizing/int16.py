"""Which operations LiteRT computes in 16-bit integers."""

from __future__ import annotations

from tasks.compression.errors import CompressionError
from tasks.compression.tflite import operations

__all__ = ["refuse_unknown_int16"]

# Run and compared with the float network, each. The converter takes others that end LiteRT's process.
_INT16_KERNELS = frozenset(
    [
        "ADD",
        "AVERAGE_POOL_2D",
        "CONCATENATION",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "DEQUANTIZE",
        "EXPAND_DIMS",
        "FULLY_CONNECTED",
        "GATHER",
        "GELU",
        "LEAKY_RELU",
        "LOGISTIC",
        "MAX_POOL_2D",
        "MAXIMUM",
        "MEAN",
        "MINIMUM",
        "MUL",
        "PACK",
        "PAD",
        "QUANTIZE",
        "REDUCE_MAX",
        "REDUCE_PROD",
        "RELU",
        "RELU6",
        "RESHAPE",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "SHAPE",
        "SOFTMAX",
        "SQUEEZE",
        "STRIDED_SLICE",
        "SUB",
        "TANH",
        "TRANSPOSE",
        "TRANSPOSE_CONV",
    ]
)


def refuse_unknown_int16(content: bytes) -> None:
    """CompressionError conversion_failed for a file with operations not known to run in int16."""
    unknown = sorted({operation.kind for operation in operations(content)} - _INT16_KERNELS)
    if unknown:
        raise CompressionError(
            "conversion_failed",
            f"the model has operations that LiteRT does not compute in int16: {', '.join(unknown)}",
            hint="full_int8 may work",
        )
