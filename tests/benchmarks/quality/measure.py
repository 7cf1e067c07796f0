"""What is measured of a compressed file, without the service that made it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FLOAT32_BYTES", "accuracy", "gzip_bytes", "times"]

FLOAT32_BYTES = 4


def gzip_bytes(path: Path) -> int:
    """The size of the file as ``gzip -9`` would store it."""
    return len(gzip.compress(path.read_bytes(), 9, mtime=0))


def times(original: int, result: int) -> float:
    """How many times smaller `result` is than `original`, both in bytes."""
    return original / result


def accuracy(path: Path, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    """The share of samples `x` of which the ``.tflite`` at `path` says the class `y`, one sample at a time as
    a device would; inputs are quantised as the file says."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=path.read_bytes())
    interpreter.allocate_tensors()
    into, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    right = 0
    for sample, label in zip(encoded(x, into).reshape(len(x), *into["shape"]), y, strict=True):
        interpreter.set_tensor(into["index"], sample)
        interpreter.invoke()
        right += int(np.argmax(interpreter.get_tensor(out["index"])[0]) == label)
    return right / len(x)


def encoded(x: np.ndarray[Any, Any], into: dict[str, Any]) -> np.ndarray[Any, Any]:
    """`x` in the type of the input `into`, as LiteRT describes it."""
    dtype = np.dtype(into["dtype"])
    scale, zero = into["quantization"]
    if dtype.kind == "i" and scale:
        limits = np.iinfo(dtype)
        return np.asarray(np.clip(np.round(x / scale) + zero, limits.min, limits.max), dtype=dtype)
    return np.asarray(x, dtype=dtype)
