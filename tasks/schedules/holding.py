"""The models and data sets that schedules name are kept for them: as long as there is the schedule, also one
that has ended, for it may go on."""

from __future__ import annotations

from featherweight.schedule import ScheduledJob
from tasks.identifiers import is_id
from tasks.uses import Uses

__all__ = ["hold", "release"]


def hold(uses: Uses, project: str, job: ScheduledJob, schedule_id: str) -> None:
    """Before it is looked whether they are there. RedisError."""
    for subject in _named(job):
        uses.hold(project, subject, schedule_id)


def release(
    uses: Uses, project: str, job: ScheduledJob, schedule_id: str, *, but: ScheduledJob | None = None
) -> None:
    """Those that the job `but` names stay held. RedisError."""
    for subject in _named(job) - (set() if but is None else _named(but)):
        uses.release(project, subject, schedule_id)


def _named(job: ScheduledJob) -> set[str]:
    """What is no id names nothing that there could be."""
    return {given for given in (job.model_id, job.dataset_id) if given is not None and is_id(given)}
