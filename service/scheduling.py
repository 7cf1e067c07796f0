"""What callers do with schedules: made, changed, paused, resumed, asked for a run, deleted.

The durable copy is written before Redis: should the one fail, nothing was changed; should the other, the copy
is ahead of what it is a copy of, until the caller has tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from featherweight.problem import CODES, FieldError
from featherweight.schedule import ObjectChangedTrigger, ScheduleChange, ScheduledJob, ScheduleRequest
from service.errors import ProblemError, invalid, validated
from service.services import Services
from tasks.inbox import check_object_name
from tasks.intake import FileRefused
from tasks.recordstore import NotFound
from tasks.schedules.agenda import agenda, begun
from tasks.schedules.firing import manual_run
from tasks.schedules.holding import hold, release
from tasks.schedules.parts import ScheduleParts, send_fire, takes_time
from tasks.schedules.records import RunRecord, ScheduleRecord
from tasks.schedules.store import TooManySchedules, seconds
from tasks.schedules.triggers import faults
from tasks.storage import StorageUnavailable
from tasks.submission import SubmissionRefused

__all__ = ["change", "create", "delete", "pause", "resume", "run_now"]

# Somebody else changed it each time: a fire every second, and a slow storage.
_TRIES = 10

Fields = Mapping[str, str]


def create(app: Services, project: str, wanted: ScheduleRequest, *, schedule_id: str) -> ScheduleRecord:
    """Raises invalid_request and the problems of a job, with pointers; too_many_schedules; and
    storage_unavailable, after which there is no schedule."""
    hold(app.schedules.uses, project, wanted.job, schedule_id)
    try:
        return _created(app, project, wanted, schedule_id)
    except Exception:
        if app.schedules.store.find(schedule_id) is None:
            release(app.schedules.uses, project, wanted.job, schedule_id)
        raise


def _created(app: Services, project: str, wanted: ScheduleRequest, schedule_id: str) -> ScheduleRecord:
    parts = app.schedules
    now = parts.store.now()
    _check(app, project, wanted, now)
    fields = {
        "wanted": wanted.model_dump_json(),
        "state": "paused" if wanted.paused else "active",
        "created_at": seconds(now),
        **begun(wanted, now),
    }
    try:
        most = app.settings.project_schedules
        record = parts.store.create(project, schedule_id, _settled(fields), most=most)
    except TooManySchedules:
        raise ProblemError(
            "too_many_schedules",
            f"the project has {most} schedules, and may have no more",
            hint="delete one that is not needed any more",
        ) from None
    try:
        parts.archive.keep(record)
    except StorageUnavailable:
        parts.store.delete(project, schedule_id)
        raise
    send_fire(app.queue, record.id)
    return record


def change(app: Services, project: str, schedule_id: str, wanted: ScheduleChange) -> ScheduleRecord:
    """As `create`; NotFound. With a new trigger it counts from now; one that had ended goes on if the change
    lets it."""
    given = wanted.model_dump(mode="json", exclude_unset=True)

    def fields(record: ScheduleRecord, now: datetime) -> Fields:
        body = {**record.wanted.model_dump(mode="json"), **given}
        changed = validated(ScheduleRequest, body)
        if given.keys() & {"trigger", "job", "ends_at"}:
            _check(app, project, changed, now, only=given.keys())
        return {"wanted": changed.model_dump_json(), **_replanned(record, changed, now)}

    before = app.schedules.store.get(project, schedule_id).wanted.job
    if wanted.job is None:
        return _changed(app, project, schedule_id, fields)
    hold(app.schedules.uses, project, wanted.job, schedule_id)
    try:
        changed = _changed(app, project, schedule_id, fields)
    except Exception:
        release(app.schedules.uses, project, wanted.job, schedule_id, but=before)
        raise
    release(app.schedules.uses, project, before, schedule_id, but=wanted.job)
    return changed


def pause(app: Services, project: str, schedule_id: str) -> ScheduleRecord:
    """NotFound, schedule_ended. One that is paused stays so."""

    def fields(record: ScheduleRecord, now: datetime) -> Fields | None:
        _refuse_ended(record)
        return None if record.state == "paused" else {"state": "paused", "next_fire_at": ""}

    return _changed(app, project, schedule_id, fields)


def resume(app: Services, project: str, schedule_id: str) -> ScheduleRecord:
    """NotFound, schedule_ended. What was due while it was paused is not made; changes of objects are, unless
    catch_up is skip."""

    def fields(record: ScheduleRecord, now: datetime) -> Fields | None:
        _refuse_ended(record)
        if record.state == "active":
            return None
        wanted = record.wanted
        if isinstance(wanted.trigger, ObjectChangedTrigger):
            going_on = {**agenda(wanted, record.anchor, now), "look_at": seconds(now)}
            again = begun(wanted, now) if wanted.catch_up == "skip" else going_on
        else:
            again = {"cursor": seconds(now), **agenda(wanted, record.anchor, now)}
        return {"state": "active", **again}

    return _changed(app, project, schedule_id, fields)


def run_now(app: Services, project: str, schedule_id: str, *, job_id: str) -> RunRecord:
    """A run beside the schedule's times, whose job has this id. Its rule for overlaps holds.

    NotFound; the problems of a job that is refused. While storage is away the run stays pending.
    """
    parts = app.schedules
    for _ in range(_TRIES):
        record = parts.store.get(project, schedule_id)
        if any(given.changed for given in record.wanted.job.inbox_inputs):
            raise ProblemError(
                "invalid_request",
                "no object has changed that this run could take",
                hint="a schedule whose job names its files can be run by hand",
            )
        new = manual_run(record, job_id, parts.store.now())
        if parts.store.make(record, [new], {}) is not None:
            break
    else:
        raise _too_busy()
    run = parts.store.run(record, new.item)
    if run is None:
        raise NotFound(schedule_id)  # deleted in this moment
    return _submitted(app, parts, record, run)


def delete(app: Services, project: str, schedule_id: str) -> None:
    """Forget it and its runs; NotFound. Their jobs stay as they are."""
    parts = app.schedules
    record = parts.store.get(project, schedule_id)
    parts.archive.drop(project, schedule_id)
    parts.store.delete(project, schedule_id)
    release(parts.uses, project, record.wanted.job, schedule_id)
    # So that nobody is woken for it any more.
    send_fire(app.queue, schedule_id)


def _submitted(app: Services, parts: ScheduleParts, record: ScheduleRecord, run: RunRecord) -> RunRecord:
    if run.state != "pending":
        return run
    if takes_time(record):
        send_fire(app.queue, record.id)
        return run
    try:
        parts.firing.submit(record, run)
    except SubmissionRefused as refusal:
        parts.firing.refuse(record, run, refusal.problem)
        raise
    except StorageUnavailable:
        send_fire(app.queue, record.id)
    return parts.store.run(record, run.item) or run


def _changed(
    app: Services,
    project: str,
    schedule_id: str,
    make: Callable[[ScheduleRecord, datetime], Fields | None],
) -> ScheduleRecord:
    """The record with the fields that `make` says; as it is for None."""
    parts = app.schedules
    for _ in range(_TRIES):
        record, now = parts.store.get(project, schedule_id), parts.store.now()
        fields = make(record, now)
        if fields is None:
            return record
        fields = _settled({"state": record.state, **fields})
        parts.archive.keep(_as_changed(record, fields))
        changed = parts.store.change(record, fields)
        if changed is not None:
            send_fire(app.queue, schedule_id)
            return changed
    raise _too_busy()


def _replanned(record: ScheduleRecord, wanted: ScheduleRequest, now: datetime) -> dict[str, str]:
    if wanted.max_runs is not None and record.runs_made >= wanted.max_runs:
        return {"state": "ended", "look_at": "", "next_fire_at": ""}
    state = "active" if record.state == "ended" else record.state
    if wanted.trigger != record.wanted.trigger:
        return {"state": state, **begun(wanted, now)}
    if record.state == "ended":
        return {"state": state, "cursor": seconds(now), **agenda(wanted, record.anchor, now)}
    return {"state": state, **agenda(wanted, record.anchor, record.cursor)}


def _settled(fields: Fields) -> dict[str, str]:
    """Only one that is active says when it fires next."""
    return {**fields, **({} if fields["state"] == "active" else {"next_fire_at": ""})}


def _as_changed(record: ScheduleRecord, fields: Fields) -> ScheduleRecord:
    """As it will be, so far as that matters to a copy."""
    update: dict[str, Any] = {"state": fields["state"]}
    if "wanted" in fields:
        update["wanted"] = ScheduleRequest.model_validate_json(fields["wanted"])
    for name in ("anchor", "cursor"):
        if name in fields:
            update[name] = datetime.fromtimestamp(float(fields[name]), UTC)
    return record.model_copy(update=update)


def _refuse_ended(record: ScheduleRecord) -> None:
    if record.state == "ended":
        raise ProblemError(
            "schedule_ended",
            "the schedule has ended",
            hint="PATCH it with a later ends_at or more max_runs, and it goes on",
        )


def _too_busy() -> ProblemError:
    return ProblemError("overloaded", "the schedule changes all the time; nothing was changed")


# What only the service can tell of a request


def _check(
    app: Services,
    project: str,
    wanted: ScheduleRequest,
    now: datetime,
    *,
    only: Sequence[str] | Any = ("trigger", "job", "ends_at"),
) -> None:
    found = []
    if "trigger" in only:
        found += _trigger_faults(app, wanted, now)
    if "ends_at" in only and wanted.ends_at is not None and wanted.ends_at <= now:
        found.append(FieldError(pointer="/ends_at", code="past", detail="this is not in the future"))
    if "job" in only:
        found += _name_faults(wanted.job)
    if found:
        raise invalid(found)
    if "job" in only:
        _check_job(app, project, wanted.job)


def _trigger_faults(app: Services, wanted: ScheduleRequest, now: datetime) -> list[FieldError]:
    trigger = wanted.trigger
    found = faults(trigger, min_interval_s=app.settings.schedule_min_interval_s, now=now)
    if isinstance(trigger, ObjectChangedTrigger):
        name, value = ("object", trigger.object) if trigger.object else ("prefix", trigger.prefix)
        # A prefix may end with the slash of a folder.
        found += _name_fault(f"/{name}", (value or "").removesuffix("/" if name == "prefix" else ""))
    return [fault.model_copy(update={"pointer": f"/trigger{fault.pointer}"}) for fault in found]


def _name_faults(job: ScheduledJob) -> list[FieldError]:
    given = (("/job/model/object", job.model), ("/job/dataset/object", job.dataset))
    return [
        fault
        for pointer, wanted in given
        if wanted is not None and wanted.object is not None
        for fault in _name_fault(pointer, wanted.object)
    ]


def _name_fault(pointer: str, name: str) -> list[FieldError]:
    try:
        check_object_name(name)
    except FileRefused as refused:
        return [FieldError(pointer=pointer, code="invalid_request", detail=refused.problem.detail)]
    return []


def _check_job(app: Services, project: str, job: ScheduledJob) -> None:
    """As far as it can be told before it fires: what is in files of the inbox cannot."""
    if job.model_id is None:
        _check_dataset(app, project, job)
        return
    try:
        app.submitter.check(project, job.request(model_id=job.model_id, dataset_id=job.dataset_id))
    except SubmissionRefused as refusal:
        found = [
            fault.model_copy(update={"pointer": f"/job{fault.pointer}"})
            for fault in refusal.problem.errors
            if not (fault.code == "dataset_required" and job.dataset is not None)
        ]
        if found:
            code = found[0].code if found[0].code in CODES else "invalid_request"
            code = refusal.problem.code if code == "not_found" else code
            raise invalid(found, code, hint=refusal.problem.hint) from None


def _check_dataset(app: Services, project: str, job: ScheduledJob) -> None:
    if job.dataset_id is None:
        return
    try:
        app.datasets.get(project, job.dataset_id)
    except NotFound:
        detail = f"there is no dataset {job.dataset_id!r} in this project"
        raise invalid([FieldError(pointer="/job/dataset_id", code="not_found", detail=detail)]) from None
