"""One look at a schedule: the fires that are due become runs, and the runs get their jobs.

Anybody may look, at any time and twice at once. What is due follows from the record; the runs are made by one
script that takes them only while the record is as it was read; and a run's job has an id that follows from
schedule and fire.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Any

from featherweight.job import Origin
from featherweight.problem import Problem
from featherweight.schedule import ObjectChangedTrigger
from tasks.identifiers import derived_id
from tasks.notices import Notices
from tasks.schedules.agenda import agenda, upcoming
from tasks.schedules.archive import Archive
from tasks.schedules.changes import ChangesUnclear, Watcher
from tasks.schedules.inputs import ChangedAgain, Inputs
from tasks.schedules.records import NewRun, RunRecord, ScheduleRecord, timed_item
from tasks.schedules.store import ScheduleStore, seconds
from tasks.settings import Settings
from tasks.store import NotFound
from tasks.submission import SubmissionRefused, Submitter

__all__ = ["Firing", "manual_run"]

_log = logging.getLogger(__name__)

# Fires worked off at once, and how often in a row: after a long absence the rest is left to the next look.
_FIRES_AT_ONCE = 500
_PASSES = 20
# How long until a job that was refused for now is submitted again.
_TRY_AGAIN_S = 15.0
_MISSED, _OVERLAP = "missed", "overlap"


class Firing:
    """Any method may raise RedisError and StorageUnavailable; whatever was left undone is still due then."""

    def __init__(
        self,
        settings: Settings,
        store: ScheduleStore,
        submitter: Submitter,
        archive: Archive,
        notices: Notices,
        watcher: Watcher,
        inputs: Inputs,
    ) -> None:
        self._settings = settings
        self._store = store
        self._submitter = submitter
        self._archive = archive
        self._notices = notices
        self._watcher = watcher
        self._inputs = inputs

    def look(self, schedule_id: str) -> None:
        """Make the runs that are due, and submit the jobs of those that have none yet."""
        record = self._store.find(schedule_id)
        for _ in range(_PASSES):
            if record is None or record.state != "active" or not self._make_due(record):
                break
            record = self._store.find(schedule_id)
        if record is not None:
            self.submit_pending(record)

    def submit_pending(self, record: ScheduleRecord) -> None:
        for run in self._store.pending(record, self._store.now()):
            self._submit(record, run)

    # Making runs

    def _make_due(self, record: ScheduleRecord) -> bool:
        """Work off what is due, or a share of it; whether there may be more."""
        now = self._store.now()
        if isinstance(record.wanted.trigger, ObjectChangedTrigger):
            return self._make_changed(record, now)
        times = takewhile(lambda fire: fire <= now, upcoming(record.wanted, record.anchor, record.cursor))
        due = list(islice(times, _FIRES_AT_ONCE + 1))
        if not due:
            return False
        share = due[:_FIRES_AT_ONCE]
        runs = self._runs(record, share, now, is_all=len(share) == len(due))
        self._make(record, runs, share[-1])
        return True

    def _runs(
        self, record: ScheduleRecord, due: Sequence[datetime], now: datetime, *, is_all: bool
    ) -> list[NewRun]:
        """What becomes of these fires, by the schedule's rule for missed ones."""
        wanted = record.wanted
        on_time = timedelta(seconds=self._settings.schedule_grace_s)
        window = max(timedelta(seconds=wanted.catch_up_window_s), on_time)
        if wanted.catch_up == "all":
            made = [fire for fire in due if now - fire <= window]
        elif not is_all:
            made = []
        else:
            longest = window if wanted.catch_up == "last" else on_time
            made = [due[-1]] if now - due[-1] <= longest else []
        missed = due[: len(due) - len(made)]
        skipped = [_missed(missed, now)] if missed else []
        return [*skipped, *(_timed(record, fire, now) for fire in made)]

    def _make_changed(self, record: ScheduleRecord, now: datetime) -> bool:
        """Take a look at the objects, if it is time for one."""
        if record.look_at is None or record.look_at > now:
            return False
        try:
            found = self._watcher.look(record, self._store.objects(record))
        except ChangesUnclear as unclear:
            self._make(record, [], now, problem=unclear.problem)
            return False
        runs = [_changed(record, source, now) for source in found.changed]
        self._make(record, runs, now, objects=found.known)
        return False

    def _make(
        self,
        record: ScheduleRecord,
        runs: Iterable[NewRun],
        cursor: datetime,
        *,
        objects: dict[str, str] | None = None,
        problem: Problem | None = None,
    ) -> None:
        fields = {
            "cursor": seconds(cursor),
            "problem": "" if problem is None else problem.model_dump_json(),
            **agenda(record.wanted, record.anchor, cursor),
        }
        made = list(runs)
        dropped = self._store.make(record, made, fields, objects)
        if dropped is None:
            return  # somebody else was quicker: the record is read anew
        self._archive.drop_runs(record, dropped)
        for new in made:
            run = self._store.run(record, new.item)
            if run is not None and run.state == "skipped":
                self._archive.keep_run(run)

    # Submitting jobs

    def submit(self, record: ScheduleRecord, run: RunRecord) -> None:
        """Submit the job of a run that is pending; SubmissionRefused, ChangedAgain."""
        request = self._inputs.request(record, run)
        if record.wanted.overlap == "cancel_previous":
            self._cancel_earlier(record, run)
        self._submitter.submit(
            record.project,
            request,
            job_id=_job_id(run),
            origin=Origin(type="schedule", id=record.id, item=run.item),
        )
        if not self._store.change_run(run, "submitted", {"attempted": run.attempted + 1, "error": None}):
            self._withdraw_if_overtaken(record, run)
        self._keep(record, run)

    def refuse(self, record: ScheduleRecord, run: RunRecord, problem: Problem) -> None:
        """There will be no job for this run."""
        fields = {
            "attempted": run.attempted + 1,
            "error": problem.model_dump(mode="json"),
            "ended_at": self._store.now().isoformat(),
            "job_id": None,
        }
        self._store.change_run(run, "refused", fields)
        kept = self._keep(record, run)
        if kept is not None and kept.state == "refused":
            self._notices.tell(
                record.project, "schedule.run_failed", kept.id, kept.public().model_dump(mode="json")
            )

    def _submit(self, record: ScheduleRecord, run: RunRecord) -> None:
        try:
            self.submit(record, run)
        except ChangedAgain:
            # The newer bytes fire the schedule themselves.
            self._store.change_run(run, "skipped", {"skipped_because": "changed_again"})
            self._keep(record, run)
        except SubmissionRefused as refusal:
            if self._may_try_again(record, run, refusal):
                self._try_again(run, refusal)
            else:
                self.refuse(record, run, refusal.problem)

    def _may_try_again(self, record: ScheduleRecord, run: RunRecord, refusal: SubmissionRefused) -> bool:
        waited = self._store.now() - run.fire_time
        return refusal.problem.retryable and waited < timedelta(seconds=record.wanted.catch_up_window_s)

    def _try_again(self, run: RunRecord, refusal: SubmissionRefused) -> None:
        wait = timedelta(seconds=refusal.retry_after_s or _TRY_AGAIN_S)
        fields = {"attempted": run.attempted + 1, "error": refusal.problem.model_dump(mode="json")}
        self._store.change_run(run, "pending", fields, try_again_at=self._store.now() + wait)

    def _cancel_earlier(self, record: ScheduleRecord, run: RunRecord) -> None:
        for earlier in self._store.active(record):
            if earlier.sequence >= run.sequence:
                continue
            if self._store.change_run(earlier, "skipped", {"skipped_because": _OVERLAP}):
                continue  # it had no job yet
            self._cancel(record, earlier)

    def _withdraw_if_overtaken(self, record: ScheduleRecord, run: RunRecord) -> None:
        """A later run may have put an end to this one while its job was being submitted."""
        now = self._store.run(record, run.item)
        if now is None or now.state == "skipped":
            self._cancel(record, run)

    def _cancel(self, record: ScheduleRecord, run: RunRecord) -> None:
        try:
            self._submitter.jobs.request_cancel(record.project, _job_id(run))
        except NotFound:
            _log.info("the job of %s is gone already", run.id)

    def _keep(self, record: ScheduleRecord, run: RunRecord) -> RunRecord | None:
        """The run as it is now, once its durable copy is."""
        now = self._store.run(record, run.item)
        if now is not None:
            self._archive.keep_run(now)
        return now


def manual_run(record: ScheduleRecord, job_id: str, now: datetime) -> NewRun:
    """A run that somebody asked for, whose job shall have this id."""
    return NewRun(item=f"manual-{job_id}", state="pending", counted=False, fields={
        "cause": "manual", "fire_time": now.isoformat(), "job_id": job_id,
    })  # fmt: skip


def _job_id(run: RunRecord) -> str:
    return run.job_id or derived_id("job", run.schedule_id, run.item)


def _timed(record: ScheduleRecord, fire: datetime, now: datetime) -> NewRun:
    item = timed_item(fire)
    fields = {
        "cause": "time",
        "fire_time": fire.isoformat(),
        "late_by_s": (now - fire).total_seconds(),
        "job_id": derived_id("job", record.id, item),
    }
    return NewRun(item=item, state="pending", fields=fields)


def _missed(fires: Sequence[datetime], now: datetime) -> NewRun:
    """One for all of them: after a long absence they may be thousands."""
    fields: dict[str, Any] = {
        "cause": "time",
        "fire_time": fires[-1].isoformat(),
        "first_fire_time": fires[0].isoformat(),
        "fires": len(fires),
        "late_by_s": (now - fires[-1]).total_seconds(),
        "skipped_because": _MISSED,
    }
    return NewRun(item=timed_item(fires[-1]), state="skipped", fields=fields)


def _changed(record: ScheduleRecord, source: dict[str, str], now: datetime) -> NewRun:
    digest = derived_id("job", record.id, source["name"], source["etag"])
    fields = {
        "cause": "object_changed",
        "fire_time": now.isoformat(),
        "source": source,
        "job_id": digest,
    }
    return NewRun(item=f"object-{digest.removeprefix('job_')}", state="pending", fields=fields)
