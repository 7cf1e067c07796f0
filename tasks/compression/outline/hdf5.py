"""Walks HDF5 files of strangers: hard links only, nothing stored elsewhere, sizes checked before reading."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from tasks.compression.errors import CompressionError
from tasks.compression.outline.bounds import Bounds, too_large
from tasks.compression.outline.facts import DISTINCT_COUNTED, Weight

__all__ = ["attribute_text", "datasets", "member", "names", "weight"]

_PIECE = 1 << 22  # values looked at together
_SAMPLE = 1 << 14
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_RATIO = 200
_ALWAYS_BYTES = 16 << 20


def datasets(group: Any, bounds: Bounds) -> dict[str, Any]:
    """Every dataset below `group` by its path. CompressionError h5_external_reference for links and for data
    stored outside of the file, h5_too_large for arrays of more than `bounds`, or far more than is stored of
    them; bad_h5 for what no Keras file has."""
    found = dict(_walk(group, "", 0, bounds))
    total = sum(dataset.size * dataset.dtype.itemsize for dataset in found.values())
    if total > bounds.weight_bytes:
        raise _claims(f"arrays of {total} bytes, more than {bounds.weight_bytes}")
    return found


def member(group: Any, name: str) -> Any:
    """The object of that name right in `group`, None if there is none; h5_external_reference for a link."""
    if name not in group.keys():  # noqa: SIM118 - `in group` would follow links
        return None
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise _elsewhere(name)
    return group[name]


def names(group: Any, attribute: str) -> list[str]:
    """A list of names in an attribute, which Keras splits into several when it is long (``…0``, ``…1``)."""
    parts = [attribute] if attribute in group.attrs else []
    while not (parts and parts[0] == attribute) and f"{attribute}{len(parts)}" in group.attrs:
        parts.append(f"{attribute}{len(parts)}")
    return [_text(item) for part in parts for item in np.asarray(group.attrs[part]).reshape(-1).tolist()]


def attribute_text(file: Any, name: str, bounds: Bounds) -> str | None:
    """A text attribute, None if there is none; its size is looked at first."""
    if name not in file.attrs:
        return None
    if file.attrs.get_id(name).get_storage_size() > bounds.json_bytes:
        raise too_large(f"a {name} of more than {bounds.json_bytes} bytes")
    text = _text(file.attrs[name])
    if len(text) > bounds.json_bytes:
        raise too_large(f"a {name} of more than {bounds.json_bytes} bytes")
    return text


def weight(name: str, dataset: Any) -> Weight:
    """What is stored of one array: read a piece at a time."""
    zeros, values = 0, np.empty(0, dtype=dataset.dtype)
    counting = True
    for piece in _pieces(dataset):
        zeros += piece.size - int(np.count_nonzero(piece))
        if counting:
            values = np.unique(np.concatenate([values, np.unique(piece[:_SAMPLE])]))
            counting = len(values) <= DISTINCT_COUNTED
        if counting:
            values = np.unique(np.concatenate([values, np.unique(piece)]))
            counting = len(values) <= DISTINCT_COUNTED
    return Weight(
        name=name,
        shape=tuple(int(size) for size in dataset.shape),
        dtype=str(dataset.dtype),
        zeros=zeros,
        distinct=len(values) if counting else None,
    )


def _pieces(dataset: Any) -> Iterator[Any]:
    if not dataset.shape or dataset.size <= _PIECE:
        yield np.asarray(dataset[()]).reshape(-1)
        return
    rows = max(1, _PIECE // max(1, dataset.size // dataset.shape[0]))
    for start in range(0, dataset.shape[0], rows):
        yield np.asarray(dataset[start : start + rows]).reshape(-1)


def _walk(group: Any, path: str, depth: int, bounds: Bounds) -> Iterator[tuple[str, Any]]:
    waiting = [(group, path, depth)]
    seen = 0
    while waiting:
        here, prefix, level = waiting.pop()
        if level > bounds.depth:
            raise too_large(f"groups nested deeper than {bounds.depth}")
        for name in here:
            seen += 1
            if seen > bounds.objects:
                raise too_large(f"more than {bounds.objects} groups and arrays")
            found = member(here, name)
            if isinstance(found, h5py.Group):
                waiting.append((found, f"{prefix}{name}/", level + 1))
            elif isinstance(found, h5py.Dataset):
                _check(f"{prefix}{name}", found, bounds)
                yield f"{prefix}{name}", found


def _check(path: str, dataset: Any, bounds: Bounds) -> None:
    if dataset.is_virtual or dataset.external:
        raise _elsewhere(path)
    if len(dataset.shape or ()) > bounds.axes:
        raise too_large(f"an array of {len(dataset.shape)} axes")
    if dataset.size is None or dataset.dtype.kind not in "fiubc":
        raise CompressionError("bad_h5", f"the array {path[:100]!r} in the model file holds no numbers")
    made = dataset.id.get_create_plist()
    if {made.get_filter(place)[0] for place in range(made.get_nfilters())} - _FILTERS:
        raise CompressionError(
            "bad_h5",
            f"the array {path[:100]!r} in the model file is packed in a way that is not read here",
            hint="gzip, shuffle and fletcher32 are",
        )
    claimed = dataset.size * dataset.dtype.itemsize
    if claimed > max(_ALWAYS_BYTES, _RATIO * dataset.id.get_storage_size()):
        raise _claims(f"the array {path[:100]!r} of {claimed} bytes, of which hardly any are stored")


def _claims(what: str) -> CompressionError:
    return CompressionError("h5_too_large", f"the model file has {what}")


def _elsewhere(path: str) -> CompressionError:
    return CompressionError(
        "h5_external_reference",
        f"{path[:100]!r} in the model file lies outside of it",
        hint="save the model in one file: model.save('model.keras')",
    )


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
