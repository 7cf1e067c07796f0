"""What is stored about jobs, models, data sets and uploads: the public fields and the internal ones.

``public()`` is what a caller may see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from featherweight.job import Artifact, Job, JobState
from featherweight.problem import Problem
from featherweight.report import Verdict
from featherweight.resources import Dataset, Model, Upload

__all__ = [
    "Claim",
    "DatasetRecord",
    "Evidence",
    "JobRecord",
    "ModelRecord",
    "Outcome",
    "Renewal",
    "UploadRecord",
]


class JobRecord(Job):
    """A job as stored. `version` changes with every change a caller can see: the ETag.

    `lease_until` is in seconds of Redis' clock, null unless an attempt holds the job. `losses`
    counts the attempts that ended without the job being to blame.
    """

    project: str
    queue: str
    version: str
    request_id: str | None = None
    worker: str | None = None
    lease_until: float | None = None
    losses: int = 0

    def public(self) -> Job:
        return Job.model_validate(self.model_dump(include=set(Job.model_fields)))


class ModelRecord(Model):
    """`key` is the storage key of the bytes, `gated` the version of the gate that let them in (`tasks.gate`);
    None where none has looked yet."""

    project: str
    key: str
    gated: int | None = None

    def public(self) -> Model:
        return Model.model_validate(self.model_dump(include=set(Model.model_fields)))


class DatasetRecord(Dataset):
    """`key` and `gated` as of a model."""

    project: str
    key: str
    gated: int | None = None

    def public(self) -> Dataset:
        return Dataset.model_validate(self.model_dump(include=set(Dataset.model_fields)))


class UploadRecord(Upload):
    """`key` is where the parts go, `s3_upload_id` the storage's own name of the multipart upload;
    `signs_parts` says that the sha256 of every part was announced and stands in the signature of its URL."""

    project: str
    key: str
    s3_upload_id: str
    signs_parts: bool = False

    def public(self) -> Upload:
        return Upload.model_validate(self.model_dump(include=set(Upload.model_fields)))


@dataclass(frozen=True)
class Claim:
    """The right to run attempt `attempt` of a job, as long as its lease is renewed.

    Attempt number and nonce together are the fencing token: whoever holds an older one can change
    nothing any more.
    """

    job: JobRecord
    attempt: int
    nonce: str

    @property
    def job_id(self) -> str:
        return self.job.id


@dataclass(frozen=True)
class Renewal:
    owned: bool
    cancel_requested: bool


@dataclass(frozen=True)
class Evidence:
    """How an attempt ended, as `featherweight.job.Attempt` shows it."""

    detail: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    log_tail: str | None = None

    def fields(self) -> dict[str, str | int]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Outcome:
    """How a job ends. `because` stands in its last attempt: ``succeeded``, ``cancelled`` or a code."""

    state: JobState
    because: str
    verdict: Verdict | str | None = None
    artifacts: Sequence[Artifact] = ()
    error: Problem | None = None
    evidence: Evidence = Evidence()

    @classmethod
    def succeeded(cls, artifacts: Sequence[Artifact], verdict: Verdict | str | None) -> Outcome:
        return cls(JobState.SUCCEEDED, "succeeded", verdict=verdict, artifacts=tuple(artifacts))

    @classmethod
    def failed(
        cls, error: Problem, artifacts: Sequence[Artifact] = (), evidence: Evidence | None = None
    ) -> Outcome:
        return cls(
            JobState.FAILED,
            error.code,
            artifacts=tuple(artifacts),
            error=error,
            evidence=evidence or Evidence(),
        )

    @classmethod
    def expired(cls, error: Problem) -> Outcome:
        return cls(JobState.EXPIRED, error.code, error=error)

    @classmethod
    def cancelled(cls) -> Outcome:
        return cls(JobState.CANCELLED, "cancelled")
