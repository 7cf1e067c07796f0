"""Uploads in parts that have begun: their records, and how they are given up."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import cast

import redis

from tasks.filekinds import UPLOADS
from tasks.identifiers import check_name
from tasks.locks import Busy, held
from tasks.records import UploadRecord
from tasks.recordstore import NotFound, RecordStore
from tasks.settings import Settings
from tasks.storage import Storage
from tasks.usage import Accounts

__all__ = ["EXPIRING", "REMEMBERED", "Uploads", "digests_key"]

# How many times as long as an upload may take the record of an ended one stays. An open one's stays until it
# is swept: it alone knows which parts are to be removed.
REMEMBERED = 2
EXPIRING = "fw:uploads-expiring"
"""Open uploads, as "<project>/<id>" by the time they expire, in a sorted set."""

_SWEPT_AT_ONCE = 5


class Uploads:
    """Any method may raise redis.RedisError. Safe to use from many threads."""

    def __init__(self, settings: Settings, client: redis.Redis, storage: Storage) -> None:
        self._settings = settings
        self._redis = client
        self._storage = storage
        self._accounts = Accounts(client, settings)
        self._records = RecordStore(client, "upload", UploadRecord)

    def save(self, record: UploadRecord) -> UploadRecord:
        """Store the record, and when it expires as long as it is open."""
        is_open = record.state == "open"
        kept_s = None if is_open else REMEMBERED * self._settings.upload_expiry_s
        self._records.put(record.project, record, expire_s=kept_s)
        name = f"{record.project}/{record.id}"
        if is_open:
            self._redis.zadd(EXPIRING, {name: record.expires_at.timestamp()})
        else:
            self._redis.zrem(EXPIRING, name)
            if record.signs_parts:
                self._redis.delete(digests_key(record.project, record.id))
        return record

    def give_up(self, record: UploadRecord) -> UploadRecord:
        """Remove whatever arrived. A second time there is nothing left to remove. StorageUnavailable.

        For whoever holds the lock ``upload:<id>``. One that became a model or data set, which nobody lived to
        note, is completed instead.
        """
        # All of the key's: one begun by a request whose answer got lost on its way to us is known to nobody.
        self._storage.abort_uploads(record.key)
        resource_id = PurePosixPath(record.key).stem
        if self._is_recorded(record, resource_id):
            done = {"state": "completed", "resource_id": resource_id}
            return self.save(record.model_copy(update=done))
        # The key is this upload's alone; something lies there when the parts had been put together.
        self._storage.delete(record.key)
        self._accounts.forget(record.project, record.id)
        return self.save(record.model_copy(update={"state": "aborted"}))

    def sweep(self) -> None:
        """Give up a few uploads that expired and were forgotten: their parts take up storage unseen.
        StorageUnavailable."""
        now = datetime.now(UTC).timestamp()
        due = cast(
            "list[bytes]", self._redis.zrangebyscore(EXPIRING, "-inf", now, start=0, num=_SWEPT_AT_ONCE)
        )
        for name in due:
            # Busy: somebody completes it in its last minute, which takes it off the list too.
            with suppress(Busy), held(self._redis, f"upload:{name.decode().partition('/')[2]}"):
                self._give_up_forgotten(name.decode())

    def _give_up_forgotten(self, name: str) -> None:
        project, _, upload_id = name.partition("/")
        with suppress(NotFound):
            record = self._records.get(project, upload_id)
            if record.state == "open":
                self.give_up(record)
        self._redis.zrem(EXPIRING, name)

    def _is_recorded(self, record: UploadRecord, resource_id: str) -> bool:
        kind = UPLOADS[record.kind]
        try:
            RecordStore(self._redis, kind.name, kind.record).get(record.project, resource_id)
        except NotFound:
            return False
        return True


def digests_key(project: str, upload_id: str) -> str:
    """Where the SHA-256 of the upload's parts lie."""
    return f"fw:upload-parts:{check_name(project)}:{upload_id}"
