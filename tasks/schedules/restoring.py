"""Schedules made anew from their durable copies, after Redis was lost."""

from __future__ import annotations

from featherweight.schedule import ObjectChangedTrigger
from tasks import keys
from tasks.records import JobRecord
from tasks.schedules.agenda import agenda, begun
from tasks.schedules.endings import Endings
from tasks.schedules.records import GoodRun, RunRecord, ScheduleRecord
from tasks.schedules.store import ScheduleStore, seconds
from tasks.storage import Storage

__all__ = ["restore_schedules"]


def restore_schedules(project: str, storage: Storage, store: ScheduleStore, endings: Endings) -> int:
    """Make the project's schedules and runs anew where `store` has none; how many schedules that were.

    What was due meanwhile is missed, as each schedule's rule has it. Changes of objects count from now on.
    May be repeated. StorageUnavailable, RedisError.
    """
    made = 0
    for key in storage.list_keys(keys.schedules_prefix(project)):
        if key.endswith("/schedule.json"):
            record = ScheduleRecord.model_validate(storage.get_json(key))
            runs = _runs(storage, record)
            made += store.restore(record, runs, _fields(store, record, runs))
            for run in runs:
                _end(storage, endings, run)
    return made


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
