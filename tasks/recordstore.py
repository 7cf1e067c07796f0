"""Small records in Redis – models, data sets, uploads, keys – and the pages of their lists."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Generic, Protocol, TypeVar, cast

import redis
from pydantic import BaseModel

from tasks.identifiers import check_name, is_id

__all__ = ["NotFound", "RecordStore", "checked", "page", "text"]


class NotFound(LookupError):
    """There is no such record in this project."""


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


M = TypeVar("M", bound=BaseModel)

# Where a new record stands in its list: the us of Redis' clock, never the same twice. So its place can be
# told again from the time it was made, should Redis be lost.
_NEXT_PLACE = """
local time, last = redis.call('TIME'), tonumber(redis.call('GET', KEYS[1]) or 0)
local place = string.format('%.0f', math.max(last + 1, time[1] * 1000000 + time[2]))
redis.call('SET', KEYS[1], place)
return place
"""


class RecordStore(Generic[M]):
    """Records of one kind (models, uploads, keys ...) with an `id`, as JSON, by project and id."""

    def __init__(self, redis: redis.Redis, kind: str, type: type[M]) -> None:
        self._redis = redis
        self._kind = check_name(kind)
        self._type = type
        self._next_place: Any = redis.register_script(_NEXT_PLACE)

    def put(self, project: str, record: M, *, expire_s: float | None = None, if_absent: bool = False) -> bool:
        """Store or replace; with `if_absent` False is returned when the id is taken."""
        record_id = checked(cast("_HasId", record).id)
        stored = self._redis.set(
            self._key(project, record_id),
            record.model_dump_json(),
            px=None if expire_s is None else int(expire_s * 1000),
            nx=if_absent,
        )
        if stored:
            place = int(self._next_place(keys=[f"fw:{self._kind}:sequence"]))
            # nx: a record that is replaced keeps its place in the list.
            self._redis.zadd(self._index(project), {record_id: place}, nx=True)
        return bool(stored)

    def restore(self, project: str, record: M, *, place: int) -> bool:
        """Put a record back that was lost, at its `place` in the list: the us of the time when it was made.
        False when it is there. Either way it stands in the list afterwards."""
        record_id = checked(cast("_HasId", record).id)
        stored = self._redis.set(self._key(project, record_id), record.model_dump_json(), nx=True)
        self._redis.zadd(self._index(project), {record_id: place}, nx=True)
        return bool(stored)

    def get(self, project: str, record_id: str) -> M:
        """The record; NotFound also for another project's id."""
        stored = self._redis.get(self._key(project, record_id)) if is_id(record_id) else None
        if stored is None:
            raise NotFound(record_id)
        return self._type.model_validate_json(cast("bytes", stored))

    def list(self, project: str, *, limit: int = 20, cursor: str | None = None) -> tuple[list[M], str | None]:
        """Newest first, and the cursor of what follows; ValueError for a cursor not of ours."""
        ids, following = page(self._redis, self._index(project), limit, cursor)
        if not ids:
            return [], None
        stored = cast("list[Any]", self._redis.mget([self._key(project, name) for name in ids]))
        expired = [name for name, value in zip(ids, stored, strict=True) if value is None]
        if expired:
            self._redis.zrem(self._index(project), *expired)
        return [self._type.model_validate_json(value) for value in stored if value is not None], following

    def delete(self, project: str, record_id: str) -> bool:
        """Forget it; False when there was nothing."""
        if not is_id(record_id):
            return False
        self._redis.zrem(self._index(project), record_id)
        return bool(self._redis.delete(self._key(project, record_id)))

    def _key(self, project: str, record_id: str) -> str:
        return f"fw:{self._kind}:{check_name(project)}:{record_id}"

    def _index(self, project: str) -> str:
        return f"fw:{self._kind}s:{check_name(project)}"


def page(client: redis.Redis, index: str, limit: int, cursor: str | None) -> tuple[list[str], str | None]:
    """Ids in `index`, newest first, after `cursor`: what it costs depends on `limit` alone."""
    newest = "+inf" if cursor is None else f"({_decode_cursor(cursor)}"
    rows = cast(
        "list[tuple[Any, float]]",
        client.zrevrangebyscore(index, newest, "-inf", start=0, num=limit + 1, withscores=True),
    )
    ids = [text(row[0]) for row in rows[:limit]]
    return ids, _encode_cursor(int(rows[limit - 1][1])) if len(rows) > limit else None


def _encode_cursor(sequence: int) -> str:
    return base64.urlsafe_b64encode(f"1.{sequence}".encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> int:
    try:
        decoded = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode(
            "ascii"
        )
    except (binascii.Error, ValueError) as error:
        raise ValueError("not a cursor of this list") from error
    version, _, sequence = decoded.partition(".")
    if version != "1" or not re.fullmatch(r"\d{1,18}", sequence):
        raise ValueError("not a cursor of this list")
    return int(sequence)


def checked(record_id: str) -> str:
    if not is_id(record_id):
        raise ValueError(f"{record_id!r} is not an id")
    return record_id


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
