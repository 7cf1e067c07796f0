"""The checkpoint in a SavedModel: the index that says where each variable is, and the bytes of one.

The index is a table of sorted keys as LevelDB has them (table_format.md), its values those of
tensor_bundle.proto; the data are tensors one after another, little-endian.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tasks.compression.errors import CompressionError
from tasks.compression.outline.bounds import Bounds, too_large
from tasks.compression.outline.facts import DISTINCT_COUNTED, Weight
from tasks.compression.outline.saved_model.members import INDEX
from tasks.compression.outline.saved_model.program import DTYPES
from tasks.compression.outline.saved_model.wire import Malformed, messages, numbers, text, varint

__all__ = ["OBJECTS", "Bundle", "Entry", "Objects", "read_bundle"]

OBJECTS: Final = "_CHECKPOINTABLE_OBJECT_GRAPH"

_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
_TRAILER = 5  # a byte for the compression, four for the checksum
_CHECKSUM = 4
_NUMPY = {
    "float32": "<f4",
    "float64": "<f8",
    "float16": "<f2",
    "bfloat16": "<u2",
    "int8": "i1",
    "uint8": "u1",
    "int16": "<i2",
    "uint16": "<u2",
    "int32": "<i4",
    "uint32": "<u4",
    "int64": "<i8",
    "uint64": "<u8",
    "bool": "u1",
}
_DTYPE, _SHAPE, _SHARD, _OFFSET, _SIZE = 1, 2, 3, 4, 5
_SHARDS = 1


@dataclass(frozen=True)
class Entry:
    """A variable: where its bytes are."""

    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int


@dataclass(frozen=True)
class Bundle:
    """`entries` are by key; `shards` the data files in their order."""

    entries: Mapping[str, Entry]
    shards: tuple[memoryview, ...]

    def weight(self, name: str, key: str) -> Weight:
        """The variable under that key. Malformed where its bytes are not there, KeyError without one."""
        entry = self.entries[key]
        form = _NUMPY.get(entry.dtype)
        if form is None:
            raise Malformed(f"a variable of the type {entry.dtype}")
        stored = self._bytes(entry)
        if len(stored) != math.prod(entry.shape) * np.dtype(form).itemsize:
            raise Malformed(f"the variable {name[:100]} has another size than its shape")
        values: Any = np.frombuffer(stored, dtype=form)
        different = np.unique(values)
        return Weight(
            name=name,
            shape=entry.shape,
            dtype=entry.dtype,
            zeros=values.size - int(np.count_nonzero(values)),
            distinct=len(different) if len(different) <= DISTINCT_COUNTED else None,
        )

    def objects(self) -> Objects | None:
        """What the variables belong to; None where the checkpoint does not say."""
        entry = self.entries.get(OBJECTS)
        if entry is None or entry.dtype != "string":
            return None
        stored = self._bytes(entry)
        # A string: its length, the checksum of the lengths, then the string itself.
        size, place = varint(stored, 0)
        place += _CHECKSUM
        if size > len(stored) - place:
            raise Malformed("the checkpoint's objects are cut off")
        return Objects.read(stored[place : place + size])

    def _bytes(self, entry: Entry) -> memoryview:
        if entry.shard >= len(self.shards) or entry.offset + entry.size > len(self.shards[entry.shard]):
            raise Malformed("a variable lies outside of the data")
        return self.shards[entry.shard][entry.offset : entry.offset + entry.size]


@dataclass(frozen=True)
class Objects:
    """The objects of a checkpoint, numbered, the root first: children by name, and keys of variables."""

    children: tuple[Mapping[str, int], ...]
    keys: tuple[str | None, ...]

    @classmethod
    def read(cls, content: memoryview) -> Objects:
        """Of a TrackableObjectGraph."""
        children: list[dict[str, int]] = []
        keys: list[str | None] = []
        for node in messages(content, 1):
            found = {}
            for child in messages(node, 1):
                number = list(numbers(child, 1))
                found[text(child, 2)] = number[-1] if number else 0
            children.append(found)
            named = [text(attribute, 3) for attribute in messages(node, 2)]
            keys.append(named[0] if named else None)
        if not children or any(
            not 0 <= place < len(children) for each in children for place in each.values()
        ):
            raise Malformed("the checkpoint's objects lead nowhere")
        return cls(tuple(children), tuple(keys))

    def child(self, node: int, name: str) -> int | None:
        return self.children[node].get(name)

    def variables(self, node: int) -> list[tuple[str, str]]:
        """(name, key) of each variable of a Keras layer, in the layer's own order."""
        listed = self.child(node, "variables")
        if listed is None:
            return []
        held = sorted((int(name), place) for name, place in self.children[listed].items() if name.isdigit())
        names = {place: name for name, place in self.children[node].items()}
        return [
            (names.get(place, str(number)), key)
            for number, place in held
            if (key := self.keys[place]) is not None
        ]


def read_bundle(files: Mapping[str, bytes], bounds: Bounds) -> Bundle:
    """Of a SavedModel's files, by name. CompressionError bad_model for a damaged or cut off checkpoint."""
    index = files.get(INDEX)
    if index is None:
        return Bundle({}, ())
    try:
        return _bundle(memoryview(index), files, bounds)
    except (Malformed, IndexError, OverflowError) as error:
        raise CompressionError(
            "bad_model",
            f"the variables are damaged or cut off: {error}"[:300],
            hint="pack and upload it again",
        ) from error


def _bundle(index: memoryview, files: Mapping[str, bytes], bounds: Bounds) -> Bundle:
    entries: dict[str, Entry] = {}
    count = 1
    for key, value in _table(index):
        if not key:
            count = next(iter(numbers(value, _SHARDS)), 1)
            continue
        entries[key.decode("utf-8", "replace")] = _entry(value, bounds)
        if len(entries) > bounds.objects:
            raise too_large(f"more than {bounds.objects} variables")
    names = [f"variables/variables.data-{shard:05}-of-{count:05}" for shard in range(min(count, 10_000))]
    missing = next((name for name in names if name not in files), None)
    if missing is not None:
        raise Malformed(f"{missing} is missing")
    return Bundle(entries, tuple(memoryview(files[name]) for name in names))


def _entry(value: memoryview, bounds: Bounds) -> Entry:
    def last(number: int) -> int:
        found = list(numbers(value, number))
        if found and found[-1] < 0:
            raise Malformed("a negative number")
        return found[-1] if found else 0

    shape = tuple(
        next(iter(numbers(dimension, 1)), 0)
        for part in messages(value, _SHAPE)
        for dimension in messages(part, 2)
    )
    if len(shape) > bounds.axes or any(size < 0 for size in shape):
        raise too_large(f"a variable of {len(shape)} axes")
    return Entry(DTYPES.get(last(_DTYPE), "unknown"), shape, last(_SHARD), last(_OFFSET), last(_SIZE))


def _table(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    if len(content) < _FOOTER:
        raise Malformed("the index is too short")
    footer = content[-_FOOTER:]
    if int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise Malformed("the index is none")
    _, place = varint(footer, 0)
    _, place = varint(footer, place)
    start, place = varint(footer, place)
    size, _ = varint(footer, place)
    for _, handle in _block(content, start, size):
        start, place = varint(handle, 0)
        size, _ = varint(handle, place)
        yield from _block(content, start, size)


def _block(content: memoryview, start: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
    """The pairs of a block: keys share their beginning with the key before."""
    if start + size + _TRAILER > len(content):
        raise Malformed("a block lies outside of the index")
    if content[start + size]:
        raise Malformed("the index is compressed")
    block = content[start : start + size]
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 * (restarts + 1)
    if end < 0:
        raise Malformed("a block of the index is damaged")
    key, place = b"", 0
    while place < end:
        shared, place = varint(block, place)
        own, place = varint(block, place)
        length, place = varint(block, place)
        if shared > len(key) or place + own + length > end:
            raise Malformed("a block of the index is damaged")
        key = key[:shared] + bytes(block[place : place + own])
        place += own
        yield key, block[place : place + length]
        place += length
