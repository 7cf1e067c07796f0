"""Inputs of open sizes: what LiteRT makes of them, and what is said where it makes nothing of them."""

from __future__ import annotations

from tasks.compression.errors import CompressionError
from tasks.compression.tflite import read

__all__ = ["open_inputs", "refused_by_litert"]


def open_inputs(content: bytes) -> list[str]:
    """The shapes of a ``.tflite``'s inputs that have open sizes beside the batch, as text."""
    graph = read(content).subgraphs[0]
    found = []
    for number in () if graph.inputs is None else graph.inputs:
        tensor = graph.tensors[int(number)]
        shape = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
        sizes = [] if shape is None else [int(size) for size in shape][1:]
        if -1 in sizes:
            found.append(f"({', '.join('any' if size < 0 else str(size) for size in sizes)})")
    return found


def refused_by_litert(name: str, content: bytes, error: Exception) -> CompressionError:
    """Of a file that LiteRT could not run: conversion_failed where inputs of open sizes are to blame, else
    verification_failed."""
    shapes = open_inputs(content)
    if shapes:
        return CompressionError(
            "conversion_failed",
            f"{name} has inputs of open sizes, {' and '.join(shapes)}, and LiteRT cannot run it: "
            f"{str(error).splitlines()[0][:200]}",
            hint="fix the sizes of the model's inputs, as in Input((224, 224, 3)), or leave out the outputs "
            "tflite and c_array",
        )
    return CompressionError(
        "verification_failed",
        f"LiteRT cannot run {name}: {error}",
        hint="try another quantisation scheme, or leave out the outputs tflite and c_array",
    )
