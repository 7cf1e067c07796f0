"""Whether a file is ONNX, by its first bytes: the format has no magic number, but an order."""

from __future__ import annotations

__all__ = ["is_onnx"]

_VERSIONS = range(3, 100)
_TEXTS = (2, 3, 4, 6)
_VARINT, _BYTES = 0, 2
_MODEL_VERSION, _GRAPH, _OPSETS = 5, 7, 8
_LONGEST_NAME = 300


def is_onnx(head: bytes) -> bool:
    """Whether the message that begins with `head` is a ModelProto: the version of the format first, then the
    texts that say who made it, then the graph. A file with other fields before these is none."""
    if len(head) < 2 or head[0] != 1 << 3 or head[1] not in _VERSIONS:
        return False
    place, last = 2, 1
    while place < len(head):
        number, kind = head[place] >> 3, head[place] & 7
        if number <= last:
            return False
        if number in (_GRAPH, _OPSETS):
            return kind == _BYTES
        if number == _MODEL_VERSION and kind == _VARINT:
            _, place = _varint(head, place + 1)
        elif number in _TEXTS and kind == _BYTES:
            size, start = _varint(head, place + 1)
            text = head[start : start + size]
            if (number != 6 and size > _LONGEST_NAME) or not _is_text(text):
                return False
            if start + size > len(head):
                return number == 6  # the description goes on beyond what was read
            place = start + size
        else:
            return False
        last = number
    return False


def _varint(head: bytes, place: int) -> tuple[int, int]:
    """(value, where it ends); one that is cut off ends with `head`."""
    value = shift = 0
    while place < len(head):
        byte = head[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            break
    return value, place


def _is_text(content: bytes) -> bool:
    """UTF-8 without control characters but those of lines; a character cut off at the end does not count."""
    text = content.decode("utf-8", "ignore")
    return len(text.encode()) > len(content) - 4 and all(
        char.isprintable() or char in "\t\r\n" for char in text
    )
