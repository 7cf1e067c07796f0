"""API keys: ``fw_<key id>_<secret>``, shown once when made; what is stored is a hash of the secret.

The secret is 256 random bits, so scrypt guards it with little work: there is nothing to guess. Every
request reads the key's record, which makes a revocation count at once; that a secret fits its hash
is remembered, so scrypt runs once for a key and process.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime

import redis
from pydantic import BaseModel, ConfigDict

from tasks.identifiers import check_name, new_id
from tasks.recordstore import RecordStore
from tasks.store import NotFound

__all__ = ["InvalidKey", "KeyRecord", "KeyRing"]

# All keys stand in one list of their own, since a key is what tells the project.
_REGISTRY = "registry"
_KEY = re.compile(r"fw_(key_[a-z2-7]{26})_([a-z2-7]{52})")
_REMEMBERED = 1000


class InvalidKey(Exception):
    """No such key, a wrong secret, or a key that was revoked: callers are not told which."""


class KeyRecord(BaseModel):
    """A key as stored. `salt` and `hash` are hex; `scopes` is what the key may do, for later."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    project: str
    name: str | None = None
    scopes: list[str] = ["all"]
    salt: str
    hash: str
    created_at: datetime
    revoked_at: datetime | None = None


class KeyRing:
    """Makes, lists, revokes and verifies keys. Safe to use from many threads."""

    def __init__(self, client: redis.Redis) -> None:
        self._records = RecordStore(client, "key", KeyRecord)
        self._verified = _Remembered(_REMEMBERED)

    def create(self, project: str, name: str | None = None) -> str:
        """A new key of `project`; ValueError for what cannot be a project's name."""
        secret = base64.b32encode(secrets.token_bytes(32)).decode().rstrip("=").lower()
        salt = secrets.token_bytes(16)
        record = KeyRecord(
            id=new_id("key"),
            project=check_name(project),
            name=name,
            salt=salt.hex(),
            hash=_hash(secret, salt),
            created_at=datetime.now(UTC),
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
        if not self._fits(record, parts[2]) or record.revoked_at is not None:
            raise InvalidKey
        return record

    def revoke(self, key_id: str) -> KeyRecord:
        """The key is refused from now on; NotFound."""
        record = self._records.get(_REGISTRY, key_id)
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

    def _fits(self, record: KeyRecord, secret: str) -> bool:
        pair = hashlib.sha256(f"{record.hash}:{secret}".encode()).digest()
        if pair in self._verified:
            return True
        if not hmac.compare_digest(_hash(secret, bytes.fromhex(record.salt)), record.hash):
            return False
        self._verified.add(pair)
        return True


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
