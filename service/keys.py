"""API keys: ``fw_<key id>_<secret>``, shown once when made; what is stored is a hash of the secret.

The secret is 256 random bits, so scrypt guards it with little work: there is nothing to guess. Every
request reads the key's record, which makes a revocation count at once; that a secret fits its hash
is remembered, under a digest keyed by a secret of this process, so scrypt runs once for a key and
process. Wrong secrets for a known key cost scrypt each time, two at a time.

What a key may do is told by its scope, each of which includes those before it:

    read     look at everything in the project, and download it
    submit   and store models and data sets, submit jobs, cancel, remove
    admin    and manage webhook endpoints, and read the audit log
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast, get_args

import redis
from pydantic import BaseModel, ConfigDict

from tasks.identifiers import check_name, new_id
from tasks.recordstore import RecordStore, text
from tasks.store import NotFound

__all__ = ["SCOPES", "InvalidKey", "KeyRecord", "KeyRing", "Scope"]

Scope = Literal["read", "submit", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

# All keys stand in one list of their own, since a key is what tells the project.
_REGISTRY = "registry"
_KEY = re.compile(r"fw_(key_[a-z2-7]{26})_([a-z2-7]{52})")
_REMEMBERED = 1000
_SLOW_AT_ONCE = 2
_USED = "fw:keys:used"
_NOTED_EVERY_S = 60


class InvalidKey(Exception):
    """No such key, a wrong secret, or one expired or revoked: callers are not told which."""


class KeyRecord(BaseModel):
    """A key as stored. `salt` and `hash` are hex.

    `scope` is missing in records of before there were scopes, when every key could do everything.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    project: str
    name: str | None = None
    scope: Scope = "admin"
    salt: str
    hash: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def may(self, needed: Scope) -> bool:
        return SCOPES.index(self.scope) >= SCOPES.index(needed)

    @property
    def state(self) -> Literal["valid", "expired", "revoked"]:
        if self.revoked_at is not None:
            return "revoked"
        expired = self.expires_at is not None and self.expires_at <= datetime.now(UTC)
        return "expired" if expired else "valid"


class KeyRing:
    """Makes, lists, rotates, revokes and verifies keys. Safe to use from many threads."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._records = RecordStore(client, "key", KeyRecord)
        self._verified = _Remembered(_REMEMBERED)
        self._own_secret = secrets.token_bytes(32)
        self._slow = threading.BoundedSemaphore(_SLOW_AT_ONCE)
        self._noted: dict[str, float] = {}

    def create(
        self,
        project: str,
        name: str | None = None,
        *,
        scope: Scope = "submit",
        expires_in: timedelta | None = None,
    ) -> str:
        """A new key of `project`; ValueError for what cannot be a project's name."""
        secret = base64.b32encode(secrets.token_bytes(32)).decode().rstrip("=").lower()
        salt = secrets.token_bytes(16)
        now = datetime.now(UTC)
        record = KeyRecord(
            id=new_id("key"),
            project=check_name(project),
            name=name,
            scope=scope,
            salt=salt.hex(),
            hash=_hash(secret, salt),
            created_at=now,
            expires_at=None if expires_in is None else now + expires_in,
        )
        self._records.put(_REGISTRY, record)
        return f"fw_{record.id}_{secret}"

    def verify(self, key: str) -> KeyRecord:
        """The record of a key that is valid now; InvalidKey."""
        parts = _KEY.fullmatch(key)
        if parts is None:
            raise InvalidKey
        try:
            record = self._records.get(_REGISTRY, parts[1])
        except NotFound:
            raise InvalidKey from None
        if not self._fits(record, parts[2]) or record.state != "valid":
            raise InvalidKey
        self._note_use(record)
        return record

    def get(self, key_id: str) -> KeyRecord:
        """NotFound."""
        return self._records.get(_REGISTRY, key_id)

    def rotate(self, key_id: str, overlap: timedelta) -> str:
        """A new key that may do the same, and lives as long; the old one is refused after `overlap`.

        NotFound; ValueError for a key that is expired or revoked.
        """
        record = self.get(key_id)
        if record.state != "valid":
            raise ValueError(f"the key is {record.state}")
        lifetime = None if record.expires_at is None else record.expires_at - record.created_at
        key = self.create(record.project, record.name, scope=record.scope, expires_in=lifetime)
        ends = datetime.now(UTC) + overlap
        if record.expires_at is None or ends < record.expires_at:
            self._records.put(_REGISTRY, record.model_copy(update={"expires_at": ends}))
        return key

    def revoke(self, key_id: str) -> KeyRecord:
        """The key is refused from now on; NotFound."""
        record = self.get(key_id)
        if record.revoked_at is None:
            record = record.model_copy(update={"revoked_at": datetime.now(UTC)})
            self._records.put(_REGISTRY, record)
        return record

    def list(self) -> Iterator[KeyRecord]:
        """Every key that was ever made, newest first."""
        cursor: str | None = None
        while True:
            records, cursor = self._records.list(_REGISTRY, limit=100, cursor=cursor)
            yield from records
            if cursor is None:
                return

    def last_used(self) -> dict[str, datetime]:
        """When each key was last used, by key id, to the minute."""
        stored = cast("dict[Any, Any]", self._redis.hgetall(_USED))
        return {text(key_id): datetime.fromisoformat(text(when)) for key_id, when in stored.items()}

    def _note_use(self, record: KeyRecord) -> None:
        """Written once a minute, by whichever process is the first to see the key in it."""
        now = time.monotonic()
        if now - self._noted.get(record.id, -_NOTED_EVERY_S) < _NOTED_EVERY_S:
            return
        self._noted[record.id] = now
        if self._redis.set(f"fw:key-noted:{record.id}", 1, nx=True, ex=_NOTED_EVERY_S):
            self._redis.hset(_USED, record.id, datetime.now(UTC).isoformat(timespec="seconds"))

    def _fits(self, record: KeyRecord, secret: str) -> bool:
        pair = hashlib.blake2b(f"{record.hash}:{secret}".encode(), key=self._own_secret).digest()
        if pair in self._verified:
            return True
        with self._slow:
            fits = hmac.compare_digest(_hash(secret, bytes.fromhex(record.salt)), record.hash)
        if fits:
            self._verified.add(pair)
        return fits


def _hash(secret: str, salt: bytes) -> str:
    return hashlib.scrypt(secret.encode(), salt=salt, n=2**12, r=8, p=1).hex()


class _Remembered:
    """The `size` values added last."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, value: bytes) -> bool:
        return value in self._values

    def add(self, value: bytes) -> None:
        with self._lock:
            self._values[value] = None
            while len(self._values) > self._size:
                self._values.popitem(last=False)
