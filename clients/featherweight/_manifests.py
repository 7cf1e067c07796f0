"""Running a manifest: what is not stored yet is uploaded, each file once, and the batch is made."""

from __future__ import annotations

import json
import re
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from featherweight._files import sha256_of
from featherweight._stored import StoredFiles
from featherweight._uploads import OnProgress
from featherweight.manifest import Manifest, PlannedItem
from featherweight.resources import Dataset, Model

__all__ = ["INLINE_BYTES", "INLINE_ITEMS", "FileIds", "items_of", "written"]

# More than this goes as an input file.
INLINE_ITEMS = 200
INLINE_BYTES = 512 * 1024

_ID = re.compile(r"(mdl|ds)_[a-z0-9]+")
# How many of the stored files, from the newest on, are looked at for one of the same content.
_LOOKED_AT = 1000


class FileIds:
    """The ids of local files. Of files of one content, by its sha256, one is uploaded, and none where the
    service has it already among its newest."""

    def __init__(
        self, models: StoredFiles[Model], datasets: StoredFiles[Dataset], on_upload: OnProgress | None
    ) -> None:
        self._stored: dict[str, StoredFiles[Any]] = {"mdl": models, "ds": datasets}
        self._on_upload = on_upload
        self._by_path: dict[tuple[str, Path], str] = {}
        self._by_sha256: dict[str, dict[str, str]] = {}

    def of(self, prefix: str, name: str, path: Path) -> str:
        """`name` itself where it is an id and no file is called so."""
        match = _ID.fullmatch(name)
        if match is not None and match[1] == prefix and not path.exists():
            return name
        known = self._by_path.get((prefix, path))
        if known is None:
            known = self._by_path[prefix, path] = self._sent(prefix, path)
        return known

    def _sent(self, prefix: str, path: Path) -> str:
        stored = self._stored[prefix]
        if prefix not in self._by_sha256:
            newest = islice(stored.list(limit=100), _LOOKED_AT)
            self._by_sha256[prefix] = {file.sha256: file.id for file in newest}
        same = self._by_sha256[prefix]
        sha256 = sha256_of(path)
        if sha256 not in same:
            same[sha256] = stored.upload(path, on_progress=self._on_upload).id
        return same[sha256]


def items_of(manifest: Manifest, planned: list[PlannedItem], ids: FileIds) -> list[dict[str, Any]]:
    """The items as the service wants them; uploads what is not there."""
    return [_item(manifest, item, ids) for item in planned]


def _item(manifest: Manifest, planned: PlannedItem, ids: FileIds) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "custom_id": planned.custom_id,
        "model_id": ids.of("mdl", planned.model, manifest.path(planned.model)),
        "spec": planned.spec.model_dump(mode="json"),
    }
    if planned.dataset is not None:
        fields["dataset_id"] = ids.of("ds", planned.dataset, manifest.path(planned.dataset))
    if planned.item is not None:
        own = planned.item.model_dump(mode="json", include={"name", "metadata", "limits"}, exclude_none=True)
        fields |= own
    return fields


def written(items: list[dict[str, Any]], folder: Path | None = None) -> Path:
    """The items as a JSONL file, to be removed by the caller."""
    with tempfile.NamedTemporaryFile(
        "w", suffix=".jsonl", dir=folder, delete=False, encoding="utf-8"
    ) as file:
        file.writelines(json.dumps(item) + "\n" for item in items)
    return Path(file.name)
