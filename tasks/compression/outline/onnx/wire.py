"""Messages of protocol buffers by a table of their fields.

A parser that knows a schema passes over fields that are not in it and those of another type, and of a field
said twice keeps the last. What is read here is refused in all three cases: a runtime that parses the file
after us then sees what was looked at, and no more.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tasks.compression.outline.saved_model.wire import Malformed, varint

__all__ = ["Field", "Malformed", "parse"]

Kind = Literal["int", "float", "double", "text", "bytes", "message"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIRE = {"int": _VARINT, "float": _FIXED32, "double": _FIXED64}
_PACKED = {"float": "<f4", "double": "<f8"}


@dataclass(frozen=True)
class Field:
    """`many` says that it is repeated: numbers may then be packed. What has `refused` is not taken at all;
    messages with a table `inside` are of no use here, and read all the same."""

    name: str
    kind: Kind
    many: bool = False
    refused: str | None = None
    inside: Mapping[int, Field] | None = None


class Refused(Exception):
    """A field that is known and not taken; says what it stands for."""


def parse(content: memoryview, table: Mapping[int, Field], what: str) -> dict[str, Any]:
    """By name, for those that are there: numbers as int and float, texts as str, bytes and messages as they
    are, and lists of these of repeated fields. Malformed; Refused."""
    found: dict[str, Any] = {}
    for number, kind, value in _fields(content):
        field = table.get(number)
        if field is None:
            raise Malformed(f"{what} has a field that is not known here, number {number}")
        if field.refused is not None:
            raise Refused(field.refused)
        if field.inside is not None and not isinstance(value, int):
            parse(value, field.inside, what)
        if field.many:
            found.setdefault(field.name, []).extend(_values(field, kind, value, what))
            continue
        if field.name in found:
            raise Malformed(f"{what} has two of {field.name}")
        (found[field.name],) = _values(Field(field.name, field.kind), kind, value, what)
    return found


def _fields(content: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """(number, type on the wire, value) of each field."""
    place, end = 0, len(content)
    while place < end:
        key, place = varint(content, place)
        number, kind = key >> 3, key & 7
        if not number:
            raise Malformed("a field without a number")
        if kind == _VARINT:
            value, place = varint(content, place)
            yield number, kind, value
            continue
        if kind == _BYTES:
            size, place = varint(content, place)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise Malformed(f"a field of the kind {kind}")
        if size > end - place:
            raise Malformed("a field is longer than its message")
        yield number, kind, content[place : place + size]
        place += size


def _values(field: Field, kind: int, value: int | memoryview, what: str) -> list[Any]:
    expected = _WIRE.get(field.kind, _BYTES)
    if field.many and kind == _BYTES and expected != _BYTES and not isinstance(value, int):
        return _packed(field.kind, value)
    if kind != expected:
        raise Malformed(f"{field.name} of {what} is of another type than it has")
    if isinstance(value, int):
        return [_signed(value)]
    if field.kind == "float":
        return [struct.unpack("<f", value)[0]]
    if field.kind == "double":
        return [struct.unpack("<d", value)[0]]
    return [_text(value, field, what)] if field.kind == "text" else [value]


def _packed(kind: str, content: memoryview) -> list[Any]:
    if kind in _PACKED:
        size = 4 if kind == "float" else 8
        if len(content) % size:
            raise Malformed("packed numbers are cut off")
        return [each[0] for each in struct.iter_unpack("<f" if size == 4 else "<d", content)]
    found, place = [], 0
    while place < len(content):
        item, place = varint(content, place)
        found.append(_signed(item))
    return found


def _text(content: memoryview, field: Field, what: str) -> str:
    try:
        return bytes(content).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"{field.name} of {what} is no text") from error


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
