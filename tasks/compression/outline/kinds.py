"""What kind of model a file is, told before anything of it is loaded."""

from __future__ import annotations

from pathlib import Path

from tasks.compression.abilities import ModelKind, kind_of_format
from tasks.compression.formats import model_format
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.onnx.reading import read_onnx
from tasks.compression.outline.tflite import read_tflite

__all__ = ["kind_of"]


def kind_of(path: Path) -> tuple[ModelKind, str | None]:
    """The kind, and of a graph what is in the way of a better one. Of a damaged Keras file, and of one that
    is no model at all, it says ``keras``: loading it tells more.

    CompressionError bad_model for a damaged ``.tflite`` or ``.onnx``, and as
    tasks.compression.outline.saved_model.reading refuses a SavedModel."""
    format_ = model_format(path)
    if format_ == "tflite":
        read_tflite(path.read_bytes(), Bounds())
    if format_ == "onnx":
        read_onnx(path.read_bytes(), Bounds())
    if format_ == "saved_model":
        from tasks.compression.outline.saved_model.reading import read_saved_model

        found = read_saved_model(path, Bounds())
        return found.kind, found.why
    return kind_of_format(format_) or "keras", None
