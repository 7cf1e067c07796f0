"""The formats a network is delivered in: the names of their files, and which hold a LiteRT program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tasks.compression import c_array

__all__ = ["COMPANIONS", "FILES", "PROGRAMS", "companions", "holds_program", "program_in"]

FILES: dict[str, str] = {
    "tflite": "model.tflite",
    "keras": "model.keras",
    "saved_model": "saved_model.tar.gz",
    "c_array": "model.c",
    "onnx": "model.onnx",
    "pt2": "model.pt2",
    "pte": "model.pte",
}

COMPANIONS: dict[str, str] = {"c_array": "model.h"}
"""What is delivered beside a file that is of no use without it."""

PROGRAMS = frozenset[str]({"tflite", "c_array"})
"""The formats that are quantised; the others hold float weights."""


def companions(files: Mapping[str, Path]) -> list[Path]:
    """What was written beside these files, which are by their formats."""
    return [path.with_name(COMPANIONS[output]) for output, path in files.items() if output in COMPANIONS]


def holds_program(outputs: Iterable[str]) -> bool:
    """Whether one of the formats is or holds a LiteRT program."""
    return not PROGRAMS.isdisjoint(outputs)


def program_in(output: str, path: Path) -> bytes | None:
    """The ``.tflite`` that a delivered file is or holds; None for a format that holds none."""
    if output == "tflite":
        return path.read_bytes()
    if output == "c_array":
        return c_array.read(path.read_text(encoding="ascii"))
    return None
