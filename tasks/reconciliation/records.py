"""From the records to storage, and to the bytes that are counted for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, cast

import redis

from tasks import keys
from tasks.reconciliation.expected import Known
from tasks.reconciliation.findings import Finding, Report
from tasks.recordstore import text
from tasks.scripts import load_scripts
from tasks.settings import Settings
from tasks.storage import Storage

__all__ = ["Records"]

_PAGE = 500
_FOLDERS = {"mdl": "models", "ds": "datasets", "job": "jobs"}


class Records:
    """Has a page of ids in memory at a time."""

    def __init__(
        self, settings: Settings, client: redis.Redis, storage: Storage, known: Known, report: Report
    ) -> None:
        self._settings = settings
        self._redis = client
        self._storage = storage
        self._known = known
        self._report = report

    def find(self, project: str | None, *, recount: bool) -> Iterator[Finding]:
        """Records without any object, and bytes counted wrongly, which `recount` puts right.

        StorageUnavailable, RedisError.
        """
        known = {text(name) for name in cast("set[bytes]", self._redis.smembers("fw:projects"))}
        for name in sorted(known if project is None else {project}):
            yield from self._without_objects(name)
            yield from self._counts(name, recount=recount)

    def _without_objects(self, project: str) -> Iterator[Finding]:
        for folder in _FOLDERS.values():
            for resource_id in self._ids(f"fw:{folder}:{project}"):
                self._report.records += 1
                prefix = keys.resource_prefix(project, folder, resource_id)
                if next(self._storage.list_objects(prefix, page_size=1), None) is not None:
                    continue
                # Not one that was removed while its folder was looked into.
                if self._known.expected(project, folder, resource_id) is not None:
                    yield Finding(
                        what="missing_object",
                        project=project,
                        subject=prefix,
                        detail="there is a record, and storage has nothing of it",
                    )

    def _counts(self, project: str, *, recount: bool) -> Iterator[Finding]:
        wrong: dict[str, tuple[int, int]] = {}
        for folder in _FOLDERS.values():
            for resource_id in self._ids(f"fw:{folder}:{project}"):
                self._compare(project, resource_id, wrong)
        # And those that are counted although there is no record of them.
        for name, _ in self._redis.hscan_iter(f"fw:stored:{project}", count=_PAGE):
            self._compare(project, text(name), wrong)
        if recount and (wrong or self._sums_differ(project)):
            flat = [str(part) for name, (_, right) in wrong.items() for part in (name, right)]
            self._scripts["recount"](keys=[], args=[project, *flat])
        for name, (counted, right) in wrong.items():
            yield Finding(
                what="wrong_count",
                project=project,
                subject=name,
                bytes=counted - right,
                detail=f"{counted} bytes are counted for it, it has {right}",
                mended=recount,
            )
        if not recount and not wrong and self._sums_differ(project):
            yield Finding(
                what="wrong_count",
                project=project,
                subject=project,
                detail="the sums are not those of the parts",
            )

    def _compare(self, project: str, resource_id: str, wrong: dict[str, tuple[int, int]]) -> None:
        right = self._bytes_of(project, resource_id)
        counted = int(cast("bytes | None", self._redis.hget(f"fw:stored:{project}", resource_id)) or 0)
        if right is not None and counted != right:
            wrong[resource_id] = (counted, right)

    def _bytes_of(self, project: str, resource_id: str) -> int | None:
        """None for what changes just now, and for kinds that are not looked into."""
        prefix = resource_id.partition("_")[0]
        if prefix == "upl":
            upload = self._known.upload(project, resource_id)
            return 0 if upload is None else upload.size
        if prefix not in _FOLDERS:
            return None
        folder = _FOLDERS[prefix]
        if self._known.is_going(project, folder, resource_id):
            return None
        expected = self._known.expected(project, folder, resource_id)
        return 0 if expected is None else expected.bytes

    def _sums_differ(self, project: str) -> bool:
        sums: dict[str, int] = {}
        for name, value in self._redis.hscan_iter(f"fw:stored:{project}", count=_PAGE):
            kind = text(name).partition("_")[0]
            sums[kind] = sums.get(kind, 0) + int(value)
        stored = cast("dict[bytes, bytes]", self._redis.hgetall(f"fw:stored:{project}:sums"))
        return {text(kind): int(value) for kind, value in stored.items() if int(value)} != sums

    def _ids(self, index: str) -> Iterator[str]:
        """By age, whatever is added or removed meanwhile."""
        after = "-inf"
        while True:
            rows = cast(
                "list[tuple[bytes, float]]",
                self._redis.zrangebyscore(index, after, "+inf", start=0, num=_PAGE, withscores=True),
            )
            yield from (text(name) for name, _ in rows)
            if len(rows) < _PAGE:
                return
            after = f"({rows[-1][1]:.17g}"

    @cached_property
    def _scripts(self) -> Mapping[str, Any]:
        return load_scripts(self._redis, self._settings)
