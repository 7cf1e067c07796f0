"""Protocol buffers without their schema: the fields of a message, one by one.

A parser that knows the schema merges what a message says twice and keeps the last of two strings. Here every
occurrence is handed out, so that a check that looks at all of them cannot be shown less than TensorFlow is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

__all__ = ["Malformed", "fields", "messages", "numbers", "text", "texts", "varint"]

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5
_MOST_BYTES = 10  # of a varint of 64 bits

Field = tuple[int, int | memoryview]


class Malformed(ValueError):
    """Bytes that are no message, or one with a field of another type than it has."""


def fields(content: memoryview) -> Iterator[Field]:
    """(number, value) of each field in the order of the message: bytes of strings, messages and packed
    numbers, else the number. Malformed."""
    place, end = 0, len(content)
    while place < end:
        key, place = varint(content, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = varint(content, place)
            yield number, value
            continue
        if kind == _BYTES:
            size, place = varint(content, place)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise Malformed(f"a field of the kind {kind}")
        if not number or size > end - place:
            raise Malformed("a field is longer than its message")
        part = content[place : place + size]
        place += size
        yield number, part if kind == _BYTES else int.from_bytes(part, "little")


def messages(content: memoryview, number: int) -> Iterator[memoryview]:
    """The bytes of each field of that number. Malformed where one is a number."""
    for found, value in fields(content):
        if found == number:
            if isinstance(value, int):
                raise Malformed(f"field {number} is a number")
            yield value


def numbers(content: memoryview, number: int) -> Iterator[int]:
    """Each number of that field, packed ones too, as signed 64 bits."""
    for found, value in fields(content):
        if found != number:
            continue
        if isinstance(value, int):
            yield _signed(value)
            continue
        place = 0
        while place < len(value):
            item, place = varint(value, place)
            yield _signed(item)


def texts(content: memoryview, number: int) -> Iterator[str]:
    """Each string of that field."""
    for value in messages(content, number):
        try:
            yield bytes(value).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed(f"field {number} is no text") from error


def text(content: memoryview, number: int) -> str:
    """The last string of that field, as protocol buffers have it; empty where there is none."""
    found = ""
    for found in texts(content, number):  # noqa: B007 - the last one is what counts
        pass
    return found


def varint(content: memoryview, place: int) -> tuple[int, int]:
    """(value, where it ends)."""
    value = 0
    for count in range(_MOST_BYTES):
        if place >= len(content):
            raise Malformed("a number is cut off")
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place
    raise Malformed("a number is longer than it may be")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
