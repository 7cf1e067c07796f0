"""A job and what can be done with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from featherweight._jobs import KEEP, Jobs
from featherweight._waiting import OnEvent
from featherweight.errors import JobError, WaitTimeout
from featherweight.eventstream import EventStream
from featherweight.job import Artifact, Job, JobLimits, JobState
from featherweight.report import Report
from featherweight.specfile import SpecSource

__all__ = ["JobHandle"]


class JobHandle:
    """What `Client.compress` gives back. `job` is the record as it was last seen."""

    def __init__(self, jobs: Jobs, job: Job) -> None:
        self._jobs = jobs
        self.job = job

    def __repr__(self) -> str:
        return f"<JobHandle {self.id} {self.state}>"

    @property
    def id(self) -> str:
        return self.job.id

    @property
    def state(self) -> JobState | str:
        return self.job.state

    @property
    def done(self) -> bool:
        return self.job.done

    def refresh(self) -> JobHandle:
        """Look at the job again."""
        self.job = self._jobs.get(self.id)
        return self

    def wait(
        self,
        timeout: float | None = None,
        *,
        on_timeout: Literal["raise", "cancel"] = "raise",
        on_event: OnEvent | None = None,
    ) -> JobHandle:
        """As `Jobs.wait`; this handle, so that ``.wait().download("out")`` reads on."""
        try:
            self.job = self._jobs.wait(self.id, timeout=timeout, on_timeout=on_timeout, on_event=on_event)
        except (JobError, WaitTimeout) as error:
            self.job = error.job
            raise
        return self

    def cancel(self) -> JobHandle:
        """Ask for the job to be stopped. A job that is done stays as it is."""
        self.job = self._jobs.cancel(self.id)
        return self

    def retry(self, *, idempotency_key: str | None = None) -> JobHandle:
        """The handle of a new job of the same request, as of `Jobs.retry`."""
        return JobHandle(self._jobs, self._jobs.retry(self.id, idempotency_key=idempotency_key))

    def clone(
        self,
        *,
        model_id: str = KEEP,
        dataset_id: str | None = KEEP,
        spec: SpecSource = KEEP,
        name: str | None = KEEP,
        metadata: Mapping[str, str | None] | None = KEEP,
        limits: JobLimits | Mapping[str, int | None] | None = KEEP,
        idempotency_key: str | None = None,
    ) -> JobHandle:
        """The handle of a new job like this one but for what is given, as of `Jobs.clone`."""
        made = self._jobs.clone(
            self.id,
            model_id=model_id,
            dataset_id=dataset_id,
            spec=spec,
            name=name,
            metadata=metadata,
            limits=limits,
            idempotency_key=idempotency_key,
        )
        return JobHandle(self._jobs, made)

    def events(self, *, after: str | None = None) -> EventStream:
        return self._jobs.events(self.id, after=after)

    def logs(self) -> str:
        return self._jobs.logs(self.id)

    def report(self) -> Report:
        return self._jobs.report(self.id)

    def report_html(self) -> str:
        return self._jobs.report_html(self.id)

    def artifacts(self) -> list[Artifact]:
        return self._jobs.artifacts(self.id)

    def download(
        self,
        directory: str | os.PathLike[str],
        *,
        names: Sequence[str] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Path]:
        """As `Jobs.download`."""
        return self._jobs.download(self.id, directory, names=names, on_progress=on_progress)
