"""Schedules made anew from their durable copies, after Redis was lost."""

from __future__ import annotations

from typing import NamedTuple

from featherweight.schedule import ObjectChangedTrigger
from tasks import keys
from tasks.records import JobRecord
from tasks.schedules.agenda import agenda, begun
from tasks.schedules.endings import Endings
from tasks.schedules.holding import hold
from tasks.schedules.parts import ScheduleParts
from tasks.schedules.records import GoodRun, RunRecord, ScheduleRecord
from tasks.schedules.store import ScheduleStore, seconds
from tasks.storage import Storage

__all__ = ["Restored", "restore_schedules"]


class Restored(NamedTuple):
    """How many schedules were made anew, how many were there, and the keys of which nothing could be made,
    each with the reason."""

    restored: int
    present: int
    unreadable: dict[str, str]


def restore_schedules(project: str, storage: Storage, parts: ScheduleParts) -> Restored:
    """Make the project's schedules and runs anew where there are none. Jobs are to be restored before.

    What was due meanwhile is missed, as each schedule's rule has it. Changes of objects count from now on.
    May be repeated. StorageUnavailable, RedisError.
    """
    restored, present, unreadable = 0, 0, {}
    for key in storage.list_keys(keys.schedules_prefix(project)):
        if not key.endswith("/schedule.json"):
            continue
        try:
            if _restored(storage, parts, _record(storage, project, key)):
                restored += 1
            else:
                present += 1
        except (ValueError, FileNotFoundError) as error:
            unreadable[key] = str(error)
    return Restored(restored, present, unreadable)


def _record(storage: Storage, project: str, key: str) -> ScheduleRecord:
    """ValueError for what is no schedule of this place."""
    record = ScheduleRecord.model_validate(storage.get_json(key))
    if keys.schedule_key(project, record.id) != key or record.project != project:
        raise ValueError("it is the record of something else")
    return record


def _restored(storage: Storage, parts: ScheduleParts, record: ScheduleRecord) -> bool:
    runs = _runs(storage, record)
    hold(parts.uses, record.project, record.wanted.job, record.id)
    restored = parts.store.restore(record, runs, _fields(parts.store, record, runs))
    for run in runs:
        _end(storage, parts.endings, run)
    return restored


def _fields(store: ScheduleStore, record: ScheduleRecord, runs: list[RunRecord]) -> dict[str, str]:
    """What follows from the runs, which may be newer than the copy of the record."""
    made = [run for run in runs if run.cause != "manual"]
    cursor = max([record.cursor, *(run.fire_time for run in made)])
    good = next((run for run in reversed(runs) if run.good), None)
    fields = {
        "wanted": record.wanted.model_dump_json(),
        "state": record.state,
        "anchor": seconds(record.anchor),
        "cursor": seconds(cursor),
        "created_at": seconds(record.created_at),
        "updated_at": seconds(record.updated_at),
        "run_sequence": str(max((run.sequence for run in runs), default=0)),
        "runs_made": str(max(record.runs_made, sum(run.state != "skipped" for run in made))),
    }
    if isinstance(record.wanted.trigger, ObjectChangedTrigger):
        fields |= begun(record.wanted, store.now())
    elif record.state != "ended":
        fields |= agenda(record.wanted, record.anchor, cursor)
    if good is not None:
        fields |= {
            "good": GoodRun(item=good.item, outputs=good.outputs).model_dump_json(),
            "good_item": good.item,
        }
    return {name: value for name, value in fields.items() if value}


def _runs(storage: Storage, record: ScheduleRecord) -> list[RunRecord]:
    prefix = f"{keys.schedule_prefix(record.project, record.id)}runs/"
    found = [RunRecord.model_validate(storage.get_json(key)) for key in storage.list_keys(prefix)]
    return sorted(found, key=lambda run: run.sequence)


def _end(storage: Storage, endings: Endings, run: RunRecord) -> None:
    """The copy of a run may be older than the end of its job."""
    if run.state != "submitted" or run.job_id is None:
        return
    try:
        job = storage.get_json(keys.result_key(run.project, run.job_id))
    except FileNotFoundError:
        return
    endings.job_ended(JobRecord.model_validate(job))
