"""ONNX files, field by field: only such as are known and said once, every weight in the file itself, and
operators from a list. ONNX Runtime sees the file after this, in a process that is confined."""

from __future__ import annotations

from pathlib import Path

from tasks.compression.errors import CompressionError
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.onnx.judging import refusal
from tasks.compression.outline.onnx.message import read_model

__all__ = ["check"]


def check(path: Path) -> None:
    """CompressionError op_not_allowed, already_quantized, unsupported_model, bad_model, model_too_large."""
    found = refusal(read_model(path.read_bytes(), Bounds()))
    if found is not None:
        raise CompressionError(found.code, found.detail, hint=found.hint, layer=found.layer)
