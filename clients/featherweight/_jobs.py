"""``client.jobs``: the job resource, call by call."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from featherweight._downloads import Downloader
from featherweight._listing import Listing
from featherweight._retry import Deadline
from featherweight._transport import Session, decode
from featherweight._waiting import OnEvent, wait_until_done
from featherweight.errors import WaitTimeout, api_error, job_error
from featherweight.eventstream import EventStream
from featherweight.job import Artifact, Job, JobLimits, JobState
from featherweight.problem import problem
from featherweight.report import Report
from featherweight.resources import Page
from featherweight.specfile import SpecSource, load_spec

__all__ = ["KEEP", "Jobs"]

_CANCEL_GRACE_S = 60.0
# What a clone has in common with its original. It is a value of any type.
KEEP: Any = object()

Artifacts = list[Artifact]
Paths = list[Path]


class Jobs:
    def __init__(self, session: Session, downloader: Downloader) -> None:
        self._session = session
        self._downloader = downloader

    def create(
        self,
        *,
        model_id: str,
        spec: SpecSource,
        dataset_id: str | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        limits: JobLimits | Mapping[str, int] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Queue a job. Raises InvalidSpec before anything is sent.

        The call is safe against lost answers: its attempts share one Idempotency-Key, made here
        unless `idempotency_key` is given. Give your own to make the *program* safe against being
        run twice: the same key with the same body is answered with the job made first.
        """
        body: dict[str, Any] = {
            "model_id": model_id,
            "dataset_id": dataset_id,
            "spec": load_spec(spec).model_dump(mode="json"),
            "name": name,
            "metadata": dict(metadata) if metadata is not None else None,
            "limits": limits.model_dump() if isinstance(limits, JobLimits) else limits and dict(limits),
        }
        given = {key: value for key, value in body.items() if value is not None}
        return decode(self._session.post("/v1/jobs", json=given, idempotency_key=idempotency_key), Job)

    def get(self, id: str) -> Job:
        return self._session.get(_one(id), Job)

    def list(
        self,
        *,
        state: JobState | str | None = None,
        model_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Listing[Job]:
        """Newest first; `limit` to a page. Iterating goes through all pages."""
        params = {"state": state, "model_id": model_id, "limit": limit, "cursor": cursor}
        return Listing(self._session, "/v1/jobs", Job, params)

    def cancel(self, id: str) -> Job:
        """Ask for the job to be stopped. A job that is done stays as it is."""
        return decode(self._session.post(f"{_one(id)}/cancel"), Job)

    def retry(self, id: str, *, idempotency_key: str | None = None) -> Job:
        """A new job of the same request, for one that failed, was cancelled or expired.

        Raises Conflict: ``job_not_done`` before the end, ``job_succeeded`` for one that has succeeded. A lost
        answer makes no second job; `idempotency_key` as of `create`.
        """
        return decode(self._session.post(f"{_one(id)}/retry", idempotency_key=idempotency_key), Job)

    def clone(
        self,
        id: str,
        *,
        model_id: str = KEEP,
        dataset_id: str | None = KEEP,
        spec: SpecSource = KEEP,
        name: str | None = KEEP,
        metadata: Mapping[str, str | None] | None = KEEP,
        limits: JobLimits | Mapping[str, int | None] | None = KEEP,
        idempotency_key: str | None = None,
    ) -> Job:
        """A new job like another, of whatever state, but for what is given.

        None takes away what the other has; `metadata` and `limits` are merged with the other's by their
        names, and a None among them takes that one away. `spec` is replaced as a whole.
        """
        changes: dict[str, Any] = {
            "model_id": model_id,
            "dataset_id": dataset_id,
            "spec": KEEP if spec is KEEP else load_spec(spec).model_dump(mode="json"),
            "name": name,
            "metadata": metadata,
            "limits": limits.model_dump() if isinstance(limits, JobLimits) else limits,
        }
        given = {name: _plain(value) for name, value in changes.items() if value is not KEEP}
        return decode(
            self._session.post(f"{_one(id)}/clone", json=given, idempotency_key=idempotency_key), Job
        )

    def logs(self, id: str) -> str:
        return self._session.request("GET", f"{_one(id)}/logs", headers={"Accept": "text/plain"}).text

    def events(self, id: str, *, after: str | None = None) -> EventStream:
        """What the job says, from its beginning or from the event after `after`, until it is done."""
        return EventStream(self._session, id, after=after)

    def report(self, id: str) -> Report:
        """Raises Conflict (``job_not_done``) before the end."""
        return self._session.get(f"{_one(id)}/report", Report)

    def report_html(self, id: str) -> str:
        """The report as one page that needs no network. As `report`; NotFound for a job older than it."""
        return self._session.request("GET", f"{_one(id)}/report", headers={"Accept": "text/html"}).text

    def artifacts(self, id: str) -> Artifacts:
        return self._session.get(f"{_one(id)}/artifacts", Page[Artifact]).data

    def download(
        self,
        id: str,
        directory: str | os.PathLike[str],
        *,
        names: Sequence[str] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Paths:
        """Bring the artifacts (all, or those called `names`) into `directory`; their paths.

        Streamed, checked against their sha256, and moved to their name only when right; nothing is
        ever written outside the folder. `on_progress(received, total)` is called with bytes. A job
        that failed may have kept a file too (``checkpoint.keras`` of a training that diverged).
        Raises Conflict (``job_not_done``), the JobError of a job that did not succeed and kept
        nothing, ChecksumMismatch, StorageError, and KeyError for an unknown name.
        """
        job = self.get(id)
        if not job.done:
            raise api_error(problem("job_not_done", f"job {id} is {job.state}"), status=409)
        error = job_error(job)
        if error is not None and not job.artifacts:
            raise error
        artifacts = job.artifacts
        if names is not None:
            known = {artifact.name: artifact for artifact in artifacts}
            artifacts = [known[name] for name in names]
        return self._downloader.fetch(id, artifacts, Path(directory), on_progress)

    def wait(
        self,
        id: str,
        *,
        timeout: float | None = None,
        on_timeout: Literal["raise", "cancel"] = "raise",
        on_event: OnEvent | None = None,
    ) -> Job:
        """Wait until the job is done, at most `timeout` seconds; the job when it succeeded.

        Raises JobFailed, JobCancelled or JobExpired when it did not, and WaitTimeout when it is not
        done in time; with ``on_timeout="cancel"`` the job is cancelled then. `on_event` is called
        in this thread with every event from the job's beginning on.
        """
        job = wait_until_done(self._session, id, Deadline(self._session.clock, timeout), on_event)
        if not job.done and on_timeout == "cancel":
            self.cancel(id)
            job = wait_until_done(self._session, id, Deadline(self._session.clock, _CANCEL_GRACE_S))
        if not job.done:
            raise WaitTimeout(job, timeout or 0.0)
        error = job_error(job)
        if error is not None:
            raise error
        return job


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _one(id_: str) -> str:
    return f"/v1/jobs/{quote(id_, safe='')}"
