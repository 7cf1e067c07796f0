"""Schedules and their runs in Redis.

Every change is one Lua script (``lua``) by Redis' clock. What somebody worked out from a
schedule as it was is written only while it still is of that version; whoever comes too late reads it anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import redis

from tasks.identifiers import check_name, is_id
from tasks.recordstore import NotFound, checked, page, text
from tasks.schedules.records import GoodRun, NewRun, RunRecord, ScheduleRecord
from tasks.scripts import load_scripts
from tasks.settings import Settings

__all__ = ["KEPT_RUNS", "ScheduleStore", "TooManySchedules", "seconds"]

KEPT_RUNS = 1000
"""Of each schedule the newest runs, and those whose job has not ended."""

_SCRIPTS = Path(__file__).with_name("lua")
_TIMES = ("anchor", "cursor", "created_at", "updated_at", "next_fire_at", "look_at")
_SET_BY_SCRIPTS = {"id", "object", "schedule_id", "project", "state", "sequence", "made_at"}

# Named here because inside the class `list` is a method.
_Names = list[str]
_Records = list[ScheduleRecord]
_Runs = list[RunRecord]


class TooManySchedules(Exception):
    """The project has as many schedules as it may have."""


class ScheduleStore:
    """Any method may raise redis.RedisError when Redis cannot be reached."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._settings = settings

    def now(self) -> datetime:
        """Redis' clock."""
        whole, microseconds = self._redis.time()
        return datetime.fromtimestamp(whole, UTC).replace(microsecond=microseconds)

    def create(
        self, project: str, schedule_id: str, fields: Mapping[str, str], *, most: int = 0
    ) -> ScheduleRecord:
        """A new schedule of these fields, or the one that exists under this id.

        TooManySchedules when the project has `most` of them; 0 is no limit.
        """
        given = {name: value for name, value in fields.items() if value}
        try:
            stored = self._run("create", checked(schedule_id), check_name(project), most, *_flat(given))
        except redis.ResponseError as error:
            if "TOO_MANY_SCHEDULES" in str(error):
                raise TooManySchedules from None
            raise
        return _schedule(stored)

    def get(self, project: str, schedule_id: str) -> ScheduleRecord:
        """The record; NotFound also for another project's id."""
        record = self.find(schedule_id)
        if record is None or record.project != project:
            raise NotFound(schedule_id)
        return record

    def find(self, schedule_id: str) -> ScheduleRecord | None:
        """The record, whichever project it belongs to."""
        if not is_id(schedule_id):
            return None
        stored = cast("dict[bytes, bytes]", self._redis.hgetall(_key(schedule_id)))
        return _schedule(stored) if stored else None

    def list(
        self, project: str, *, limit: int = 20, cursor: str | None = None
    ) -> tuple[_Records, str | None]:
        """Newest first, and the cursor of what follows; ValueError for a cursor not of ours."""
        ids, following = page(self._redis, f"fw:schedules-of:{check_name(project)}", limit, cursor)
        pipeline = self._redis.pipeline(transaction=False)
        for schedule_id in ids:
            pipeline.hgetall(_key(schedule_id))
        return [_schedule(stored) for stored in pipeline.execute() if stored], following

    def change(self, record: ScheduleRecord, fields: Mapping[str, str]) -> ScheduleRecord | None:
        """The record with these fields, an empty one removed; None when it is no longer as `record` was."""
        stored = self._run("change", record.id, record.version, *_flat(fields))
        return _schedule(stored) if stored else None

    def delete(self, project: str, schedule_id: str) -> None:
        """Forget it with its runs; NotFound. Jobs stay as they are."""
        if not is_id(schedule_id) or not self._run("delete", schedule_id, project):
            raise NotFound(schedule_id)

    def restore(self, record: ScheduleRecord, runs: Iterable[RunRecord], fields: Mapping[str, str]) -> bool:
        """Make the record of these fields, and the runs, unless there is one of its id."""
        stored = [_stored_run(run) for run in runs]
        return bool(self._run("restore", record.id, record.project, json.dumps(stored), *_flat(fields)))

    # Runs

    def make(
        self,
        record: ScheduleRecord,
        runs: Iterable[NewRun],
        fields: Mapping[str, str],
        objects: Mapping[str, str] | None = None,
    ) -> _Names | None:
        """Make those of the runs that have not been made, and change the schedule's fields.

        `objects` are changes of what is known of objects by name, empty to forget one. The items of runs
        dropped for being old; None when the schedule is no longer as `record` was: nothing was done.
        """
        dropped = self._run(
            "make",
            record.id,
            record.version,
            record.wanted.overlap,
            record.wanted.max_runs or 0,
            KEPT_RUNS,
            json.dumps([_new_run(run) for run in runs]),
            json.dumps(_flat(objects or {})),
            *_flat(fields),
        )
        return None if dropped is None else [text(item) for item in dropped]

    def run(self, record: ScheduleRecord, item: str) -> RunRecord | None:
        stored = cast("dict[bytes, bytes]", self._redis.hgetall(f"{_key(record.id)}:run:{item}"))
        return _run(record, item, stored) if stored else None

    def runs(
        self, record: ScheduleRecord, *, limit: int = 20, cursor: str | None = None
    ) -> tuple[_Runs, str | None]:
        """The runs, newest first; ValueError for a cursor not of ours."""
        items, following = page(self._redis, f"{_key(record.id)}:runs", limit, cursor)
        return self._load(record, items), following

    def pending(self, record: ScheduleRecord, now: datetime, limit: int = 100) -> _Runs:
        """Runs whose job is to be submitted now, the oldest first."""
        items = cast(
            "list[bytes]",
            self._redis.zrangebyscore(f"{_key(record.id)}:pending", "-inf", seconds(now), start=0, num=limit),
        )
        return sorted(self._load(record, map(text, items)), key=lambda run: run.sequence)

    def active(self, record: ScheduleRecord) -> _Runs:
        """Runs whose job has not ended."""
        items = cast("set[bytes]", self._redis.smembers(f"{_key(record.id)}:active"))
        return sorted(self._load(record, map(text, items)), key=lambda run: run.sequence)

    def change_run(
        self,
        run: RunRecord,
        state: str,
        fields: Mapping[str, Any],
        *,
        only_from: Iterable[str] = ("pending",),
        try_again_at: datetime | None = None,
    ) -> bool:
        """Put the run into `state`, from one of `only_from`; False when it was in another."""
        return bool(
            self._run(
                "run",
                run.schedule_id,
                run.item,
                json.dumps(dict.fromkeys(only_from, True)),
                state,
                "" if try_again_at is None else seconds(try_again_at),
                *_flat(_as_json(fields)),
            )
        )

    def end_run(
        self,
        run: RunRecord,
        state: str,
        fields: Mapping[str, Any],
        *,
        against: str | None,
        good: GoodRun | None,
    ) -> bool:
        """The run's job has ended: `against` is the item of the good run it was compared with, `good` what
        later runs are to be compared with if that is this one.

        False when by now it is to be compared with another good run. A run that has ended stays as it is.
        """
        answer = self._run(
            "ended",
            run.schedule_id,
            run.item,
            state,
            against or "",
            "" if good is None else good.model_dump_json(),
            *_flat(_as_json(fields)),
        )
        return int(answer) >= 0

    def objects(self, record: ScheduleRecord) -> dict[str, str]:
        """What is known of the objects that were looked at, by name."""
        known = cast("dict[bytes, bytes]", self._redis.hgetall(f"{_key(record.id)}:objects"))
        return {text(name): text(value) for name, value in known.items()}

    # When to look

    def due_at(self, schedule_id: str) -> datetime | None:
        """When there will be something to do for it; None for never."""
        score = self._redis.zscore("fw:schedules:due", schedule_id)
        return None if score is None else datetime.fromtimestamp(score, UTC)

    def overdue(self, *, by_s: float, again_after_s: float, limit: int) -> _Names:
        """Schedules that should have been looked at `by_s` ago; they are found again in `again_after_s`."""
        return [text(found) for found in self._run("overdue", limit, by_s, again_after_s)]

    # Inside

    def _load(self, record: ScheduleRecord, items: Iterable[str]) -> _Runs:
        wanted = tuple(items)
        pipeline = self._redis.pipeline(transaction=False)
        for item in wanted:
            pipeline.hgetall(f"{_key(record.id)}:run:{item}")
        found = zip(wanted, pipeline.execute(), strict=True)
        return [_run(record, item, stored) for item, stored in found if stored]

    def _run(self, script: str, *args: str | float) -> Any:
        return self._scripts[script](keys=[], args=list(args))

    @cached_property
    def _scripts(self) -> Mapping[str, Any]:
        return load_scripts(self._redis, self._settings, _SCRIPTS)


def _key(schedule_id: str) -> str:
    return f"fw:schedule:{schedule_id}"


def seconds(moment: datetime) -> str:
    """A moment as it is stored."""
    return f"{moment.timestamp():.6f}"


def _flat(fields: Mapping[str, str]) -> _Names:
    return [part for pair in fields.items() for part in pair]


def _new_run(run: NewRun) -> dict[str, Any]:
    return {
        "item": run.item,
        "state": run.state,
        "counted": run.counted,
        "fields": _flat(_as_json(run.fields)),
    }


def _stored_run(run: RunRecord) -> dict[str, Any]:
    fields = run.model_dump(mode="json", exclude=_SET_BY_SCRIPTS, exclude_none=True)
    return {
        "item": run.item,
        "state": run.state,
        "sequence": run.sequence,
        "made_at": seconds(run.made_at),
        "fields": _flat(_as_json(fields)),
    }


def _as_json(fields: Mapping[str, Any]) -> dict[str, str]:
    return {name: json.dumps(value, default=str) for name, value in fields.items()}


def _pairs(stored: Any) -> dict[str, str]:
    """A hash as a script (a flat list) or a command (a mapping) answers it."""
    if isinstance(stored, Mapping):
        return {text(name): text(value) for name, value in stored.items()}
    flat = [text(item) for item in stored]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _schedule(stored: Any) -> ScheduleRecord:
    fields = _pairs(stored)
    return ScheduleRecord.model_validate(
        {
            **{name: datetime.fromtimestamp(float(fields[name]), UTC) for name in _TIMES if name in fields},
            **{name: json.loads(fields[name]) for name in ("wanted", "good", "problem") if name in fields},
            **{name: fields[name] for name in ("id", "project", "state", "runs_made", "version")},
        }
    )


def _run(record: ScheduleRecord, item: str, stored: Any) -> RunRecord:
    fields = _pairs(stored)
    state, made_at = fields.pop("state"), float(fields.pop("made_at"))
    return RunRecord.model_validate(
        {
            **{name: json.loads(value) for name, value in fields.items()},
            "id": f"{record.id}:{item}",
            "schedule_id": record.id,
            "project": record.project,
            "state": state,
            "made_at": datetime.fromtimestamp(made_at, UTC),
        }
    )
