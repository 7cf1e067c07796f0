"""Strays: uploads in parts that the object storage lists and that nobody is at. They take up room unseen.

Whoever is lost between the storage's answer and the record leaves one, and so does a request to begin one
whose answer got lost and that was sent again. What was remembered about them can be lost as well, so they are
found by what the storage itself lists. Somebody is at an upload

- that the record of an open upload names,
- to a key that a file is being streamed to (``tasks.leftovers``),
- to a key of a job that has not ended,

and any other is ended once it is ``stray_upload_s`` old: longer than anybody takes from the storage's answer
to the record, or to store what neither of these tells of.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import cast

import redis

from tasks.leftovers import SENDING
from tasks.records import UploadRecord
from tasks.recordstore import NotFound, RecordStore, text
from tasks.settings import Settings
from tasks.storage import OpenUpload, Storage
from tasks.store import JobStore
from tasks.uploads import EXPIRING

__all__ = ["Strays", "UnderWay"]

_LOOKED = "fw:strays:looked"
_PREFIX = "projects/"
# In one look. Those that are left are met by the next.
_AT_MOST = 200

_log = logging.getLogger(__name__)


class UnderWay:
    """The uploads that somebody is at, by the records and streams that there are when this is made, which is
    to be before the storage is asked. redis.RedisError."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._jobs = JobStore(client, settings)
        records = RecordStore(client, "upload", UploadRecord)
        self.open = list(_open_records(client, records))
        self._ids = {record.s3_upload_id for record in self.open}
        streamed = cast("list[bytes]", client.zrangebyscore(SENDING, time.time(), "+inf"))
        self._keys = set(map(text, streamed))

    def has(self, upload: OpenUpload) -> bool:
        return upload.upload_id in self._ids or upload.key in self._keys or self._is_of_job(upload.key)

    def _is_of_job(self, key: str) -> bool:
        """Whether it is a key of a job that has not ended."""
        _, _, folder, job_id, *_ = [*key.split("/"), "", "", ""]
        record = self._jobs.find(job_id) if folder == "jobs" else None
        return record is not None and not record.done


class Strays:
    """Safe to use from many threads and processes. Any method may raise redis.RedisError and
    StorageUnavailable, after which the same is still to be done."""

    def __init__(self, settings: Settings, client: redis.Redis, storage: Storage) -> None:
        self._settings = settings
        self._redis = client
        self._storage = storage

    def turn(self) -> None:
        """Look, unless somebody has within a sixth of the age at which an upload is a stray."""
        if self._redis.set(_LOOKED, "1", nx=True, px=int(1000 * self._settings.stray_upload_s / 6)):
            self.sweep()

    def sweep(self) -> int:
        """End those that are old enough, at most 200; how many that were."""
        began = time.time()
        ended = 0
        under_way = UnderWay(self._settings, self._redis)
        for upload in self._storage.list_uploads(_PREFIX):
            if ended == _AT_MOST:
                return ended
            age_s = (datetime.now(UTC) - upload.begun).total_seconds()
            if age_s >= self._settings.stray_upload_s and not under_way.has(upload):
                self._storage.abort_multipart(upload.key, upload.upload_id)
                _log.warning("%s: an upload in parts that nobody was at is ended", upload.key)
                ended += 1
        # What was streamed to these is ended, or has ended by itself.
        self._redis.zremrangebyscore(SENDING, "-inf", began)
        return ended


def _open_records(client: redis.Redis, records: RecordStore[UploadRecord]) -> Iterator[UploadRecord]:
    for name, _ in client.zscan_iter(EXPIRING):
        project, _, upload_id = text(name).partition("/")
        try:
            record = records.get(project, upload_id)
        except NotFound:
            continue
        if record.state == "open":
            yield record
