"""Damaged copies of good files: of the bytes as they are, and of what a zip, gzip or JSON holds inside."""

from __future__ import annotations

import gzip
import io
import random
import re
import warnings
import zipfile
from collections.abc import Callable

__all__ = ["mutated"]

# Where lengths, offsets and counts are compared with something.
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62, 2**64 - 1)
_WORDS = (
    b"-1",
    b"0",
    b"1e999",
    b"99999999999999999999",
    b"null",
    b"[]",
    b"{}",
    b'"',
    b"\x00",
    b"../x",
    b"NaN",
)
_NUMBER = re.compile(rb"-?\d+(\.\d+)?")
_TEXT = re.compile(rb'"[A-Za-z_.]+"')
_MOST_CHANGES = 4


def mutated(chance: random.Random, content: bytes) -> bytes:
    """`content` with one to four changes; half of those of an archive are made inside of a member, which is
    packed again, so that they come through checksums."""
    if chance.random() < 0.5:
        if content.startswith(b"PK"):
            return _in_zip(chance, content)
        if content.startswith(b"\x1f\x8b"):
            return gzip.compress(_changed(chance, gzip.decompress(content)), 1)
    return _changed(chance, content)


def _in_zip(chance: random.Random, content: bytes) -> bytes:
    out = io.BytesIO()
    with (
        warnings.catch_warnings(),
        zipfile.ZipFile(io.BytesIO(content)) as given,
        zipfile.ZipFile(out, "w") as made,
    ):
        warnings.simplefilter("ignore")  # of two members with one name
        members = [(info.filename, given.read(info)) for info in given.infolist()]
        chosen = chance.randrange(len(members))
        for number, (name, inner) in enumerate(members):
            if number == chosen:
                what = chance.random()
                if what < 0.05:
                    continue
                if what < 0.1:
                    name = (
                        f"{chance.choice(('../', '/', 'a/', '', 'é'))}{name}{chance.choice(('', '.h5', '/'))}"
                    )
                else:
                    inner = _changed(chance, inner)
            made.writestr(name, inner, chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    return out.getvalue()


def _changed(chance: random.Random, content: bytes) -> bytes:
    for _ in range(chance.randint(1, _MOST_CHANGES)):
        if not content:
            break
        content = chance.choice(_CHANGES)(chance, content)
    return content


def _flip(chance: random.Random, content: bytes) -> bytes:
    place = chance.randrange(len(content))
    return _put(content, place, bytes([content[place] ^ 1 << chance.randrange(8)]))


def _byte(chance: random.Random, content: bytes) -> bytes:
    return _put(content, chance.randrange(len(content)), bytes([chance.choice((0, 1, 0x7F, 0x80, 0xFF))]))


def _integer(chance: random.Random, content: bytes) -> bytes:
    width = chance.choice((2, 4, 8))
    value = chance.choice(_NUMBERS) & (1 << 8 * width) - 1
    order = "little" if chance.random() < 0.8 else "big"
    return _put(content, chance.randrange(len(content)), value.to_bytes(width, order))  # type: ignore[arg-type]


def _cut(chance: random.Random, content: bytes) -> bytes:
    return content[: chance.randrange(len(content))]


def _remove(chance: random.Random, content: bytes) -> bytes:
    start, length = _slice(chance, content)
    return content[:start] + content[start + length :]


def _twice(chance: random.Random, content: bytes) -> bytes:
    start, length = _slice(chance, content)
    return (
        content[: start + length] + content[start : start + length] * chance.randint(1, 20) + content[start:]
    )


def _move(chance: random.Random, content: bytes) -> bytes:
    start, length = _slice(chance, content)
    return _put(content, chance.randrange(len(content)), content[start : start + length])


def _noise(chance: random.Random, content: bytes) -> bytes:
    start, length = _slice(chance, content)
    return _put(content, start, chance.randbytes(length))


def _number_in_text(chance: random.Random, content: bytes) -> bytes:
    return _replaced(chance, content, _NUMBER, chance.choice(_WORDS))


def _text_in_text(chance: random.Random, content: bytes) -> bytes:
    """A name in the place of another: classes in the place of keys, keys in that of values."""
    found = _TEXT.findall(content[: 1 << 16])
    return _replaced(chance, content, _TEXT, chance.choice(found) if found else b'""')


def _replaced(chance: random.Random, content: bytes, what: re.Pattern[bytes], value: bytes) -> bytes:
    found = list(what.finditer(content[: 1 << 16]))
    if not found:
        return _flip(chance, content)
    match = chance.choice(found)
    return content[: match.start()] + value + content[match.end() :]


def _slice(chance: random.Random, content: bytes) -> tuple[int, int]:
    start = chance.randrange(len(content))
    return start, min(chance.choice((1, 2, 4, 8, 16, 64, 512)), len(content) - start)


def _put(content: bytes, place: int, value: bytes) -> bytes:
    return (content[:place] + value + content[place + len(value) :])[: max(len(content), 1)]


_CHANGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(_flip, _byte, _integer, _integer, _cut, _remove, _twice, _move, _noise),
    *(_number_in_text, _text_in_text),
)
