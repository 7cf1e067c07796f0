"""What the end of a job means for its run: its state, and whether it regressed against the last good run."""

from __future__ import annotations

import logging
from typing import Any

from pydantic import ValidationError

from featherweight.job import JobState
from featherweight.report import Report
from featherweight.schedule import Regression, RegressionReason
from tasks import keys
from tasks.notices import Notices
from tasks.records import JobRecord
from tasks.schedules.archive import Archive
from tasks.schedules.records import GoodRun, RunRecord, ScheduleRecord
from tasks.schedules.regression import GOOD_VERDICTS, compare, measures
from tasks.schedules.store import ScheduleStore
from tasks.storage import Storage

__all__ = ["Endings"]

_log = logging.getLogger(__name__)

_FAILURES = frozenset({JobState.FAILED.value, JobState.EXPIRED.value})
# Each time another run became the good one in between; never more than jobs end at once.
_TRIES = 20


class Endings:
    """Listens to jobs that end. What is told again changes nothing any more, and is announced again."""

    def __init__(self, store: ScheduleStore, storage: Storage, archive: Archive, notices: Notices) -> None:
        self._store = store
        self._storage = storage
        self._archive = archive
        self._notices = notices

    def job_ended(self, record: JobRecord) -> None:
        """RedisError and StorageUnavailable, after which it is to be called again."""
        origin = record.origin
        if origin is None or origin.type != "schedule" or origin.item is None:
            return
        for _ in range(_TRIES):
            schedule = self._store.find(origin.id)
            run = schedule and self._store.run(schedule, origin.item)
            if not schedule or not run:
                return  # deleted, or too long ago
            if self._end(schedule, run, record):
                self._announce(schedule, origin.item)
                return
        raise RuntimeError(f"the good run of {origin.id} changes all the time")

    def _end(self, schedule: ScheduleRecord, run: RunRecord, job: JobRecord) -> bool:
        """False when it is to be compared anew."""
        state = str(job.state)
        report = self._report(job) if state == JobState.SUCCEEDED else None
        outputs = [] if report is None else measures(report)
        regression = self._compared(schedule, job, report)
        is_good = (
            state == JobState.SUCCEEDED
            and job.verdict in GOOD_VERDICTS
            and not (regression is not None and regression.regressed)
        )
        fields: dict[str, Any] = {
            "ended_at": None if job.ended_at is None else job.ended_at.isoformat(),
            "verdict": job.verdict,
            "error": None if job.error is None else job.error.model_dump(mode="json"),
            "regression": None if regression is None else regression.model_dump(mode="json"),
            "outputs": [output.model_dump(mode="json") for output in outputs],
            "good": is_good,
        }
        return self._store.end_run(
            run,
            state,
            fields,
            against=None if schedule.good is None else schedule.good.item,
            good=GoodRun(item=run.item, outputs=outputs) if is_good else None,
        )

    def _compared(self, schedule: ScheduleRecord, job: JobRecord, report: Report | None) -> Regression | None:
        limits, good = schedule.wanted.regression, schedule.good
        if limits is None or good is None or job.state == JobState.CANCELLED:
            return None
        against = f"{schedule.id}:{good.item}"
        if job.state in _FAILURES:
            detail = f"the job {job.state}: {job.error.detail}" if job.error else f"the job {job.state}"
            reason = RegressionReason(code="job_failed", detail=detail)
            return Regression(regressed=True, against=against, reasons=[reason])
        if report is None:
            return compare(good.outputs, [], limits, against=against)
        return compare(good.outputs, measures(report), limits, against=against, missing=report.missing)

    def _report(self, job: JobRecord) -> Report | None:
        try:
            content = self._storage.read(keys.report_key(job.project, job.id, job.attempt))
            return Report.model_validate_json(content)
        except FileNotFoundError:
            _log.warning("%s succeeded and has no report to compare", job.id)
        except ValidationError:
            _log.warning("the report of %s cannot be read", job.id)
        return None

    def _announce(self, schedule: ScheduleRecord, item: str) -> None:
        """From what is stored: the first one to tell may not have come this far."""
        run = self._store.run(schedule, item)
        if run is None:
            return
        self._archive.keep_run(run)
        data = run.public().model_dump(mode="json")
        if run.state in _FAILURES:
            self._notices.tell(run.project, "schedule.run_failed", run.id, data)
        if run.regression is not None and run.regression.regressed:
            self._notices.tell(run.project, "schedule.regressed", run.id, data)
