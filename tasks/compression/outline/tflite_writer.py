"""Which converter wrote a ``.tflite``, as its conversion metadata says: another FlatBuffer inside of it."""

from __future__ import annotations

import struct
from typing import Protocol

__all__ = ["Tables", "writer"]

_NAME = "CONVERSION_METADATA"
# Of the tables: a field's number in the vtable.
_MODEL_METADATA, _METADATA_NAME, _METADATA_BUFFER, _BUFFER_DATA = 16, 4, 6, 4
_ENVIRONMENT, _TENSORFLOW_VERSION = 4, 4
_LONGEST = 50


class Tables(Protocol):
    """A FlatBuffer whose offsets are checked before they are followed."""

    def __init__(self, content: bytes) -> None: ...
    def root(self) -> int: ...
    def number(self, form: str, place: int) -> int: ...
    def field(self, table: int, number: int) -> int | None: ...
    def scalar(self, table: int, number: int, form: str) -> int: ...
    def tables(self, table: int, number: int) -> list[int]: ...
    def data(self, table: int, number: int) -> bytes: ...
    def text(self, table: int, number: int) -> str: ...


def writer(file: Tables, model: int, buffers: list[int]) -> str | None:
    """``TensorFlow 2.21.0``; None where the file does not say it, as when it was stripped."""
    for entry in file.tables(model, _MODEL_METADATA):
        if file.text(entry, _METADATA_NAME) == _NAME:
            place = file.scalar(entry, _METADATA_BUFFER, "<I")
            return _version(type(file)(file.data(buffers[place], _BUFFER_DATA)))
    return None


def _version(inner: Tables) -> str | None:
    try:
        root = inner.root()
        environment = inner.field(root, _ENVIRONMENT)
        if environment is None:
            return None
        table = environment + inner.number("<I", environment)
        version = inner.text(table, _TENSORFLOW_VERSION)
    except (struct.error, IndexError):
        return None  # What a file says of its making is no reason to refuse it.
    return f"TensorFlow {version[:_LONGEST]}" if version.isprintable() and version else None
