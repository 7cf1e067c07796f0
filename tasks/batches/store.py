"""Batch records in Redis. Every change is one Lua script (``tasks/batches/lua``), by Redis' own clock."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import redis

from featherweight.batch import (
    BATCH_TRANSITIONS,
    BatchCounts,
    BatchItem,
    BatchRequest,
    BatchState,
    ResultFile,
)
from featherweight.problem import Problem
from tasks.batches.records import BatchRecord
from tasks.identifiers import check_name, is_id
from tasks.recordstore import NotFound, checked, page, text
from tasks.store import BLOCK_S

__all__ = ["BatchStore", "TooManyOpen"]

_SCRIPTS = Path(__file__).with_name("lua")
_TIMES = (
    *("created_at", "in_progress_at", "cancelling_at", "finalizing_at", "ended_at", "expires_at"),
    "updated_at",
)
_NUMBERS = ("read", "next", "swept")
# As many arguments as a script takes without trouble.
_HELD_AT_ONCE = 1000
_JSON = ("error", "results", "errors", "pages")

# Named here because inside the class `list` is a method.
_Ids = list[str]
_Indexes = list[int]
_Items = list[BatchItem]
_Flags = list[bool]


class TooManyOpen(Exception):
    """The project has as many batches that have not ended as it may have."""


class BatchStore:
    """Any method may raise redis.RedisError. Safe to use from many threads."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        clock: Callable[[], float] = time.monotonic,
        waits: redis.Redis | None = None,
        hurried: Callable[[], bool] = lambda: False,
    ) -> None:
        """As of a JobStore: `waits` is the client whose commands may block for BLOCK_S, and once it is
        `hurried`, what waits comes back within that time."""
        self._redis = client
        self._waits = waits or client
        self._hurried = hurried
        self._clock = clock

    # The batch

    def create(
        self,
        project: str,
        batch_id: str,
        request: BatchRequest,
        *,
        request_id: str | None = None,
        created_at: float | None = None,
        max_open: int = 0,
    ) -> BatchRecord:
        """A new batch in state validating, or the one that exists under this id; TooManyOpen when the project
        has `max_open` that have not ended (0: any number).

        It is due in a minute: `due_at` says that its request is stored."""
        bare = request.model_copy(update={"items": [] if request.items is not None else None})
        return _record(
            self._run(
                "create",
                checked(batch_id),
                check_name(project),
                bare.model_dump_json(include=_SHOWN),
                request.limits.max_total_s,
                request.on_failure,
                request.max_concurrent,
                request_id or "",
                "" if created_at is None else created_at,
                max_open,
            )
        )

    def get(self, project: str, batch_id: str) -> BatchRecord:
        """The record; NotFound also for another project's id."""
        record = self.find(batch_id)
        if record is None or record.project != project:
            raise NotFound(batch_id)
        return record

    def find(self, batch_id: str) -> BatchRecord | None:
        """The record, whichever project it belongs to: for workers."""
        if not is_id(batch_id):
            return None
        fields = cast("dict[bytes, bytes]", self._redis.hgetall(_key(batch_id)))
        return _record(fields) if fields else None

    def list(
        self, project: str, *, limit: int = 20, cursor: str | None = None
    ) -> tuple[list[BatchRecord], str | None]:
        """Newest first, and the cursor of what follows; ValueError for a cursor not of ours."""
        ids, following = page(self._redis, f"fw:batches:{check_name(project)}", limit, cursor)
        pipeline = self._redis.pipeline(transaction=False)
        for batch_id in ids:
            pipeline.hgetall(_key(batch_id))
        return [_record(fields) for fields in pipeline.execute() if fields], following

    def stop(self, batch_id: str, project: str, why: str) -> BatchRecord:
        """End what has not ended. One that is ending, or has ended, stays as it is. NotFound."""
        fields = self._run("stop", batch_id, project, why) if is_id(batch_id) else None
        if not fields:
            raise NotFound(batch_id)
        return _record(fields)

    def remove(self, project: str, batch_id: str) -> bool:
        """Forget a batch that has ended; False for one that has not. NotFound."""
        removed = self._run("remove", batch_id, project, 0) if is_id(batch_id) else None
        if removed is None:
            raise NotFound(batch_id)
        return bool(removed)

    def discard(self, project: str, batch_id: str) -> None:
        """Forget a batch whose request could not be stored."""
        self._run("remove", batch_id, project, 1)

    def wait_change(self, project: str, batch_id: str, version: str, timeout_s: float) -> BatchRecord:
        """The record as soon as its version is not `version`, or as it is after `timeout_s`."""
        deadline = self._clock() + timeout_s
        while True:
            # The stream's end is read first: a change after it wakes the read below.
            last = self._last_change(batch_id) if is_id(batch_id) else "0-0"
            record = self.get(project, batch_id)
            left = deadline - self._clock()
            if record.version != version or record.done or left <= 0 or self._hurried():
                return record
            block_ms = max(1, int(1000 * min(left, BLOCK_S)))
            self._waits.xread({_key(batch_id, "changes"): last}, block=block_ms)

    # Validation

    def claim_ids(self, batch_id: str, ids: Sequence[tuple[int, str]]) -> set[int]:
        """The indexes whose custom_id another item had before."""
        pipeline = self._redis.pipeline(transaction=False)
        key = _key(batch_id, "ids")
        for index, custom_id in ids:
            pipeline.hsetnx(key, custom_id, index)
        pipeline.execute()
        if not ids:
            return set()
        holders = cast("list[Any]", self._redis.hmget(key, [custom_id for _, custom_id in ids]))
        return {
            index for (index, _), holder in zip(ids, holders, strict=True) if holder and int(holder) != index
        }

    def hold(self, batch_id: str, subjects: Iterable[str]) -> None:
        """Nobody removes these before the batch has ended; whether they are there is to be asked after it."""
        known = [subject for subject in subjects if is_id(subject)]
        for first in range(0, len(known), _HELD_AT_ONCE):
            self._run("hold", batch_id, *known[first : first + _HELD_AT_ONCE])

    def put_page(self, batch_id: str, number: int, cursor: str, items: Sequence[BatchItem]) -> bool:
        """Page `number` is stored and the source read up to `cursor`; False when somebody has been here."""
        flat = [
            part for item in items for part in (item.model_dump_json(), str(int(item.state == "invalid")))
        ]
        return bool(self._run("put_page", batch_id, number, cursor, *flat))

    def validated(self, batch_id: str) -> bool:
        """All of the source was read: the items begin."""
        return bool(self._run("validated", batch_id))

    def reject(self, batch_id: str, error: Problem) -> bool:
        """The source cannot be read: the batch has failed."""
        return bool(self._run("reject", batch_id, error.model_dump_json()))

    def pages(self, batch_id: str) -> _Indexes:
        """The first index of each page, while the batch has not ended."""
        return [int(first) for first in cast("Any", self._redis.lrange(_key(batch_id, "pages"), 0, -1))]

    # Items

    def take(self, batch_id: str) -> int | None:
        """The index of the next item to begin; None when none may be."""
        index = int(self._run("take", batch_id))
        return index if index >= 0 else None

    def follow(self, batch_id: str, index: int, same: str) -> tuple[int, bool]:
        """The first of the items that `same` makes equal, and whether it has ended. While it has not,
        `index`, if it is another, waits for it."""
        first, has_ended = self._run("follow", batch_id, index, same)
        return int(first), bool(has_ended)

    def end_item(self, batch_id: str, item: BatchItem) -> bool:
        """The item has ended as it says; False when it had ended before."""
        reused = int(item.reused_from is not None)
        return bool(self._run("end_item", batch_id, item.index, item.state, item.model_dump_json(), reused))

    def items(self, batch_id: str, indexes: Iterable[int]) -> _Items:
        """Those items of a batch that has not ended; what is not there is left out."""
        wanted = [*indexes]
        stored = cast("list[Any]", self._redis.hmget(_key(batch_id, "items"), wanted)) if wanted else []
        return [BatchItem.model_validate_json(value) for value in stored if value is not None]

    def items_called(self, batch_id: str, custom_id: str) -> _Items:
        """The item of that custom_id, if there is one, of a batch that has not ended."""
        index = cast("bytes | None", self._redis.hget(_key(batch_id, "ids"), custom_id))
        return [] if index is None else self.items(batch_id, [int(index)])

    def active(self, batch_id: str) -> dict[int, float]:
        """The items that have begun and not ended, and when they began."""
        stored = cast("dict[bytes, bytes]", self._redis.hgetall(_key(batch_id, "active")))
        return {int(index): float(since) for index, since in stored.items()}

    def begin_again(self, batch_id: str, index: int) -> None:
        """The item could not be begun now: whoever looks next shall begin it."""
        self._redis.hset(_key(batch_id, "active"), str(index), 0)

    def mates(self, batch_id: str, leader: int, limit: int) -> _Indexes:
        """Some of the items that wait for the result of `leader`."""
        key = _key(batch_id, f"mates:{leader}")
        return [int(cast("bytes", index)) for index in cast("Any", self._redis.srandmember(key, limit))]

    def release_mates(self, batch_id: str, leader: int, indexes: Sequence[int]) -> None:
        """These have ended."""
        if indexes:
            self._redis.srem(_key(batch_id, f"mates:{leader}"), *indexes)
        else:
            self._redis.srem(_key(batch_id, "leaders"), leader)

    def leaders(self, batch_id: str) -> _Indexes:
        """The items that others wait for, or did."""
        return [int(index) for index in cast("Any", self._redis.smembers(_key(batch_id, "leaders")))]

    def have_ended(self, batch_id: str, indexes: Sequence[int]) -> _Flags:
        pipeline = self._redis.pipeline(transaction=False)
        for index in indexes:
            pipeline.getbit(_key(batch_id, "ended"), index)
        return [bool(bit) for bit in pipeline.execute()]

    def swept(self, batch_id: str, index: int) -> None:
        """Stopping has looked at all items before `index`."""
        self._redis.hset(_key(batch_id), "swept", index)

    # The end, and what is due

    def finish(
        self,
        batch_id: str,
        state: BatchState,
        *,
        outcome: str | None,
        error: Problem | None,
        results: ResultFile,
        errors: ResultFile,
        pages: Sequence[int],
    ) -> bool:
        """The batch has ended; False when somebody else has ended it."""
        fields = {
            "results": results.model_dump_json(),
            "errors": errors.model_dump_json(),
            "pages": json.dumps([*pages]),
        }
        if outcome is not None:
            fields["outcome"] = outcome
        if error is not None:
            fields["error"] = error.model_dump_json()
        return bool(self._run("finish", batch_id, state.value, *_flat(fields)))

    def restore(self, record: Mapping[str, str], project: str) -> bool:
        """Put back the fields of a batch that has ended, as `fields` gave them; False when it is there."""
        return bool(self._run("restore", record["id"], check_name(project), *_flat(record)))

    def fields(self, batch_id: str) -> dict[str, str]:
        """The record as Redis has it, for a copy that outlives it."""
        return _pairs(cast("dict[bytes, bytes]", self._redis.hgetall(_key(batch_id))))

    def due(self, limit: int, again_after_s: float) -> _Ids:
        """Batches to be looked after; they are due again in `again_after_s`."""
        return [text(batch_id) for batch_id in self._run("take_due", limit, again_after_s)]

    def due_at(self, batch_id: str, in_s: float) -> None:
        """Look at the batch again in so many seconds at the latest."""
        self._redis.zadd("fw:batches-due", {batch_id: self.now() + in_s}, lt=True)

    def attended(self, batch_id: str) -> None:
        """The batch has ended and everybody was told."""
        self._redis.zrem("fw:batches-due", batch_id)

    def now(self) -> float:
        """Redis' clock."""
        whole, micro = self._redis.time()
        return whole + micro / 1e6

    # Inside

    def _last_change(self, batch_id: str) -> str:
        newest = cast("list[Any]", self._redis.xrevrange(_key(batch_id, "changes"), count=1))
        return text(newest[0][0]) if newest else "0-0"

    def _run(self, script: str, *args: str | float) -> Any:
        try:
            return self._scripts[script](keys=[], args=list(args))
        except redis.ResponseError as error:
            if "TOO_MANY_OPEN" in str(error):
                raise TooManyOpen from error
            raise

    @cached_property
    def _scripts(self) -> Mapping[str, Any]:
        transitions = {old: dict.fromkeys(news, True) for old, news in BATCH_TRANSITIONS.items()}
        head = f"local BATCH_TRANSITIONS = cjson.decode('{json.dumps(transitions)}')\n"
        head += (_SCRIPTS / "prelude.lua").read_text()
        return {
            path.stem: self._redis.register_script(head + path.read_text())
            for path in _SCRIPTS.glob("*.lua")
            if path.stem != "prelude"
        }


_SHOWN = {
    *("name", "metadata", "items", "input_file_id", "prefix", "max_concurrent", "on_failure", "reuse"),
    "limits",
}


def _key(batch_id: str, part: str = "") -> str:
    return f"fw:batch:{batch_id}:{part}" if part else f"fw:batch:{batch_id}"


def _flat(fields: Mapping[str, str]) -> Iterable[str]:
    return [part for pair in fields.items() for part in pair]


def _pairs(answer: Mapping[Any, Any] | Iterable[Any]) -> dict[str, str]:
    """A hash as a script (a flat list) or a command (a mapping) answers it."""
    if isinstance(answer, Mapping):
        return {text(name): text(value) for name, value in answer.items()}
    flat = [text(item) for item in answer]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _record(answer: Mapping[Any, Any] | Iterable[Any]) -> BatchRecord:
    fields = _pairs(answer)
    request = json.loads(fields["request"])
    state = BatchState(fields["state"])
    counts = {name: int(fields[name]) for name in BatchCounts.model_fields if name in fields}
    counts["queued"] = counts["total"] - sum(
        counts[name] for name in ("succeeded", "failed", "cancelled", "expired", "invalid")
    )
    return BatchRecord.model_validate(
        {
            **request,
            **{name: datetime.fromtimestamp(float(fields[name]), UTC) for name in _TIMES if name in fields},
            **{name: int(fields[name]) for name in _NUMBERS},
            **{name: json.loads(fields[name]) for name in _JSON if name in fields},
            "id": fields["id"],
            "project": fields["project"],
            "version": fields["version"],
            "request_id": fields.get("request_id") or None,
            "state": state,
            "done": state.done,
            "outcome": fields.get("outcome"),
            "counts": counts,
            "cursor": fields["cursor"],
            "stopping": fields.get("stopping"),
            "stopped_by": int(fields["stopped_by"]) if "stopped_by" in fields else None,
            "source": _source(request),
        }
    )


def _source(request: Mapping[str, Any]) -> dict[str, Any]:
    if request.get("input_file_id") is not None:
        return {"type": "file", "input_file_id": request["input_file_id"]}
    if request.get("prefix") is not None:
        return {"type": "prefix", "prefix": request["prefix"]}
    return {"type": "items" if request.get("items") is not None else "models"}
