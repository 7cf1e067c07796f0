"""From storage to the records: what lies there that belongs to nobody, or is not as its record says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import cast

from tasks.reconciliation.expected import Expected, Known
from tasks.reconciliation.findings import Finding, Report
from tasks.storage import Storage, StoredObject
from tasks.strays import UnderWay

__all__ = ["Objects"]

_FOLDER = re.compile(r"projects/([^/]+)/([^/]+)/([^/]+)/.+", re.DOTALL)
_LOOKED_INTO = ("models", "datasets", "jobs")
_RECORDS = ("model.json", "dataset.json", "job.json", "result.json")


class Objects:
    """`find` goes through the listing once and has the objects of one resource in memory at a time."""

    def __init__(
        self,
        storage: Storage,
        known: Known,
        under_way: UnderWay,
        report: Report,
        *,
        older_than_s: float,
    ) -> None:
        self._under_way = under_way
        self._storage = storage
        self._known = known
        self._report = report
        self._older_than_s = older_than_s

    def find(self, prefix: str, *, delete: bool) -> Iterator[Finding]:
        """What is wrong below `prefix`; orphans are removed with `delete`. StorageUnavailable, RedisError."""
        open_keys = {record.key for record in self._under_way.open}
        listed = self._counted(self._storage.list_objects(prefix))
        for (project, folder, resource_id), objects in groupby(listed, _resource):
            if folder not in _LOOKED_INTO:
                self._report.others[folder or "elsewhere"] += sum(1 for _ in objects)
                continue
            found = [each for each in objects if each.key not in open_keys]
            yield from self._of_resource(project, folder, resource_id, found, delete=delete)
        yield from self._uploads(prefix, delete=delete)

    def _of_resource(
        self, project: str, folder: str, resource_id: str, found: Sequence[StoredObject], *, delete: bool
    ) -> Iterator[Finding]:
        expected = self._known.expected(project, folder, resource_id)
        if expected is not None:
            yield from _differences(project, expected, found)
            if expected.open:
                return
            strangers = [
                each for each in found if each.key not in expected.needed and each.key not in expected.allowed
            ]
        elif self._known.is_going(project, folder, resource_id):
            return
        elif _is_whole(folder, found):
            yield Finding(
                what="lost_record",
                project=project,
                subject=resource_id,
                bytes=sum(each.size for each in found),
                detail="storage has it and Redis does not; rebuild-index restores it",
            )
            return
        else:
            strangers = list(found)
        for each in strangers:
            if self._age(each.modified) < self._older_than_s:
                self._report.younger += 1
                continue
            mended = delete and self._deleted(project, folder, resource_id, each)
            yield Finding(
                what="orphan_object",
                project=project,
                subject=each.key,
                bytes=each.size,
                detail="belongs to no record" if expected is None else "its record does not name it",
                mended=mended,
            )

    def _deleted(self, project: str, folder: str, resource_id: str, orphan: StoredObject) -> bool:
        """Remove it, unless it has found a record meanwhile, or is another by now."""
        expected = self._known.expected(project, folder, resource_id)
        if expected is not None and (expected.open or orphan.key in expected.needed):
            return False
        try:
            if self._storage.stat(orphan.key).etag != orphan.etag:
                return False
        except FileNotFoundError:
            return True
        self._storage.delete(orphan.key)
        return True

    def _uploads(self, prefix: str, *, delete: bool) -> Iterator[Finding]:
        for upload in self._storage.list_uploads(prefix):
            if self._under_way.has(upload):
                continue
            if self._age(upload.begun) < self._older_than_s:
                self._report.younger += 1
                continue
            if delete:
                self._storage.abort_multipart(upload.key, upload.upload_id)
            project = (_FOLDER.fullmatch(upload.key) or [""] * 2)[1]
            yield Finding(
                what="orphan_upload",
                project=project,
                subject=upload.key,
                detail=f"a multipart upload of nobody, begun {upload.begun:%Y-%m-%dT%H:%M:%SZ}",
                mended=delete,
            )

    def _counted(self, objects: Iterator[StoredObject]) -> Iterator[StoredObject]:
        for each in objects:
            self._report.objects += 1
            yield each

    def _age(self, since: datetime) -> float:
        return (datetime.now(UTC) - since).total_seconds()


def _resource(found: StoredObject) -> tuple[str, str, str]:
    match = _FOLDER.fullmatch(found.key)
    return cast("tuple[str, str, str]", match.groups()) if match else ("", "", "")


def _is_whole(folder: str, found: Sequence[StoredObject]) -> bool:
    """Whether a record could be made of it again: what is removed loses these first."""
    names = {each.key.rpartition("/")[2] for each in found}
    if folder == "jobs":
        return not names.isdisjoint(_RECORDS)
    return not names.isdisjoint(_RECORDS) and len(names) > 1


def _differences(project: str, expected: Expected, found: Sequence[StoredObject]) -> Iterator[Finding]:
    sizes = {each.key: each.size for each in found}
    for key, size in expected.needed.items():
        if key not in sizes:
            yield Finding(
                what="missing_object",
                project=project,
                subject=key,
                detail="its record says that it is stored",
            )
        elif size is not None and size != sizes[key]:
            yield Finding(
                what="wrong_size",
                project=project,
                subject=key,
                bytes=sizes[key],
                detail=f"{sizes[key]} bytes are stored, its record says {size}",
            )
