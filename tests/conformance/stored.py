"""The numbers a ``.tflite`` stores, as they are in it: integers unpacked, scales not applied."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

__all__ = ["kernel"]

Array = npt.NDArray[Any]

_WIDE = {schema.TensorType.INT8: np.int8, schema.TensorType.FLOAT32: np.float32}


def kernel(content: bytes, shape: tuple[int, ...]) -> Array:
    """Of the one tensor with values that has the shape, output channels first, of the types int4, int8 and
    float32."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (values,) = [
        _values(model.buffers[tensor.buffer].data, tensor)
        for graph in model.subgraphs
        for tensor in graph.tensors
        if tuple(tensor.shape) == shape and model.buffers[tensor.buffer].data is not None
    ]
    return values


def _values(data: Any, tensor: Any) -> Array:
    packed = np.asarray(data, np.uint8)
    if tensor.type != schema.TensorType.INT4:
        return packed.view(_WIDE[tensor.type]).reshape(tensor.shape)
    halves = np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1)[: np.prod(tensor.shape)]
    return (halves.astype(np.int8) ^ 8).reshape(tensor.shape) - 8
