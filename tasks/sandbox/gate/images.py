"""Archives of images: every member by its own first bytes, its size read from the header before a pixel is
decoded, and its end looked at."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from tasks.compression.datasets.archives import Member, members
from tasks.compression.errors import CompressionError

__all__ = ["MAX_OTHERS", "MAX_PIXELS", "check", "size_of"]

MAX_PIXELS = 1 << 24
MAX_OTHERS = 20_000
"""So many members may be no images."""

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_PNG, _JPEG, _BMP, _RIFF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"BM", b"RIFF"
_LARGEST = 1 << 31

Size = tuple[int, int]


def check(path: Path) -> None:
    """CompressionError bad_image, image_too_large, too_few_samples, too_many_files, and of the archive."""
    images = others = 0
    for member in members(path):
        if _check_member(member):
            images += 1
        else:
            others += 1
        if others > MAX_OTHERS:
            raise CompressionError("too_many_files", f"more than {MAX_OTHERS} members are no images")
    if not images and not others:
        raise CompressionError("too_few_samples", "the archive holds nothing")


def _check_member(member: Member) -> bool:
    """Whether it is an image."""
    reader = next((read for magic, read in _READERS.items() if member.content.startswith(magic)), None)
    if reader is None:
        name = member.parts[-1].lower() if member.parts else ""
        if name.endswith(_SUFFIXES) and member.content and not name.startswith("."):
            raise _bad(member.name, "its bytes are of no format that is read")
        return False
    try:
        width, height = reader(member.content)
    except (struct.error, IndexError, ValueError) as error:
        raise _bad(member.name, str(error)) from error
    if not 0 < width < _LARGEST or not 0 < height < _LARGEST:
        if max(width, height) >= _LARGEST:
            raise _too_large(member.name, width, height)
        raise _bad(member.name, f"it is of {width} times {height} pixels")
    if width * height > MAX_PIXELS:
        raise _too_large(member.name, width, height)
    return True


def size_of(content: bytes) -> Size:
    """(width, height) of an image. ValueError, struct.error or IndexError for one that is damaged."""
    for magic, read in _READERS.items():
        if content.startswith(magic):
            return read(content)
    raise ValueError("it is no image of a known format")


def _png(content: bytes) -> Size:
    """Its chunks, one after the other, up to the last."""
    width, height = struct.unpack_from(">II", content, 16)
    if content[12:16] != b"IHDR":
        raise ValueError("a PNG that does not begin with its header")
    if width * height > MAX_PIXELS:
        return width, height
    place = len(_PNG)
    while content[place + 4 : place + 8] != b"IEND":
        (length,) = struct.unpack_from(">I", content, place)
        place += length + 12
    return width, height


def _jpeg(content: bytes) -> Size:
    """Segments, up to the frame's header (ITU-T T.81, B.2.2)."""
    place = 2
    while True:
        marker, kind, length = struct.unpack_from(">BBH", content, place)
        if marker != 0xFF:
            raise ValueError("a JPEG whose segments do not follow each other")
        if kind == 0xFF:
            place += 1
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", content, place + 5)
            break
        else:
            place += 2 + length
    if b"\xff\xd9" not in content[place:]:
        raise ValueError("a JPEG that is cut off")
    return width, height


def _bmp(content: bytes) -> Size:
    (header,) = struct.unpack_from("<I", content, 14)
    if header == 12:
        width, height = struct.unpack_from("<HH", content, 18)
    else:
        width, height = struct.unpack_from("<ii", content, 18)
    return width, abs(height)


def _webp(content: bytes) -> Size:
    if content[8:12] != b"WEBP":
        raise ValueError("no WebP")
    if len(content) < struct.unpack_from("<I", content, 4)[0] + 8:
        raise ValueError("a WebP that is cut off")
    kind = content[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(content[place : place + 3], "little") + 1 for place in (24, 27))
        return width, height
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", content, 26)
    return width & 0x3FFF, height & 0x3FFF


_READERS: dict[bytes, Callable[[bytes], Size]] = {_PNG: _png, _JPEG: _jpeg, _BMP: _bmp, _RIFF: _webp}


def _bad(name: str, why: str) -> CompressionError:
    return CompressionError(
        "bad_image",
        f"the image {name[:200]!r} cannot be read: {why[:100]}",
        hint="PNG, JPEG, BMP and WEBP are read",
    )


def _too_large(name: str, width: int, height: int) -> CompressionError:
    return CompressionError(
        "image_too_large",
        f"the image {name[:200]!r} is of {width} times {height} pixels; {MAX_PIXELS} are the limit",
        hint="make the images smaller: they are resized to the model's input anyway",
    )
