"""Everything this library raises.

FeatherweightError
├── APIError                   the service answered with a problem: .problem .status .code .request_id
│   ├── BadRequest             400, 405, 406 and any other 4xx
│   ├── AuthenticationError    401
│   ├── PermissionDenied       403
│   ├── NotFound               404
│   ├── Conflict               409
│   ├── Gone                   410
│   ├── PayloadTooLarge        413
│   ├── UnsupportedMediaType   415
│   ├── InvalidRequest         422; .errors point at the values to blame
│   ├── RateLimited            429; .retry_after
│   ├── InternalError          500 and any other 5xx
│   └── ServiceUnavailable     502, 503, 504; .retry_after
├── ConnectionFailed           no answer: name not found, refused, reset, TLS (is a ConnectionError)
│   └── RequestTimeout         no answer in time (is a TimeoutError too)
├── UnexpectedResponse         an answer, but not one of this API's: is the URL right?
├── StorageError               the object storage refused a presigned transfer
├── ChecksumMismatch           the bytes that came are not the bytes that were announced
├── VerificationFailed         files are not those their receipt was signed for
├── RerunFailed                an evaluation could not be run again: no engine here, or it refused the files
├── ExportFailed               a model of PyTorch cannot be exported as it is (is a ValueError)
├── InvalidWebhook             a request is not signed as webhooks are: .reason (is a ValueError)
├── JobError                   a job waited for did not succeed: .job .problem
│   ├── JobFailed
│   ├── JobCancelled
│   └── JobExpired
├── WaitTimeout                the wait ended before the job: .job (is a TimeoutError)
├── BatchFailed                a batch waited for failed, expired or was cancelled: .batch .problem
├── BatchWaitTimeout           the wait ended before the batch: .batch (is a TimeoutError)
├── InvalidSpec                found before anything was sent: .errors (is a ValueError)
│   └── InvalidManifest        of a batch
└── ConfigurationError         no URL, or not one (is a ValueError)
"""

from __future__ import annotations

from collections.abc import Sequence

from featherweight.batch import Batch
from featherweight.job import Job, JobState
from featherweight.problem import FieldError, Problem

__all__ = [
    "JOB_ERRORS",
    "STATUS_ERRORS",
    "APIError",
    "AuthenticationError",
    "BadRequest",
    "BatchFailed",
    "BatchWaitTimeout",
    "ChecksumMismatch",
    "ConfigurationError",
    "Conflict",
    "ConnectionFailed",
    "ExportFailed",
    "FeatherweightError",
    "Gone",
    "InternalError",
    "InvalidManifest",
    "InvalidRequest",
    "InvalidSpec",
    "InvalidWebhook",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "NotFound",
    "PayloadTooLarge",
    "PermissionDenied",
    "RateLimited",
    "RequestTimeout",
    "RerunFailed",
    "ServiceUnavailable",
    "StorageError",
    "UnexpectedResponse",
    "UnsupportedMediaType",
    "VerificationFailed",
    "WaitTimeout",
    "api_error",
    "job_error",
]


class FeatherweightError(Exception):
    """The root of the tree."""


class APIError(FeatherweightError):
    """The service answered with a problem. `retry_after` is in seconds, where the service named one."""

    def __init__(self, problem: Problem, *, status: int, retry_after: float | None = None) -> None:
        super().__init__(problem, status, retry_after)
        self.problem = problem
        self.status = status
        self.retry_after = retry_after

    @property
    def code(self) -> str:
        return self.problem.code

    @property
    def errors(self) -> list[FieldError]:
        return self.problem.errors

    @property
    def request_id(self) -> str | None:
        return self.problem.request_id

    def __str__(self) -> str:
        lines = [f"{self.problem.detail} ({self.status} {self.code})"]
        lines += [f"  {fault.pointer or '/'}: {fault.detail}" for fault in self.errors]
        if self.problem.hint:
            lines.append(f"  hint: {self.problem.hint}")
        if self.request_id:
            lines.append(f"  request id: {self.request_id}")
        return "\n".join(lines)


class BadRequest(APIError):
    """The request is malformed."""


class AuthenticationError(APIError):
    """The API key is missing, unknown or revoked."""


class PermissionDenied(APIError):
    """The API key may not do this."""


class NotFound(APIError):
    """There is no such thing, or it belongs to another project."""


class Conflict(APIError):
    """The thing is not in a state that allows this."""


class Gone(APIError):
    """The thing existed and is no longer kept."""


class PayloadTooLarge(APIError):
    """The body is larger than the service takes."""


class UnsupportedMediaType(APIError):
    """The file or body is of a type the service does not take."""


class InvalidRequest(APIError):
    """Values of the request are not valid; `errors` point at them."""


class RateLimited(APIError):
    """Too many requests, and the retries are used up."""


class InternalError(APIError):
    """The service failed."""


class ServiceUnavailable(APIError):
    """The service or something it needs is away, and the retries are used up."""


class ConnectionFailed(FeatherweightError, ConnectionError):
    """No answer came. `request_id` is not known then; `url` is what was asked for."""

    def __init__(self, message: str, *, url: str) -> None:
        super().__init__(message)
        self.url = url


class RequestTimeout(ConnectionFailed, TimeoutError):
    """No answer came in time."""


class UnexpectedResponse(FeatherweightError):
    """The answer is not one of this API's."""


class StorageError(FeatherweightError):
    """The object storage refused a transfer; `status` is its HTTP status."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class ChecksumMismatch(FeatherweightError):
    """The bytes of `name` are not those announced. Nothing was left in their place."""

    def __init__(self, name: str, *, expected: str, actual: str) -> None:
        super().__init__(f"{name}: expected sha256 {expected}, received {actual}")
        self.name = name
        self.expected = expected
        self.actual = actual


class VerificationFailed(FeatherweightError):
    """Files are not those that a receipt was signed for, or it was not signed: says which, and how."""


class RerunFailed(FeatherweightError):
    """An evaluation could not be run again: the engine is not installed here, or it refuses the files."""


class InvalidWebhook(FeatherweightError, ValueError):
    """A request that claims to be a webhook is not to be believed: answer it with 400.

    `reason` is missing_header, bad_timestamp, bad_signature, too_old, too_new or bad_payload.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class JobError(FeatherweightError):
    """A job ended otherwise than hoped. `problem` says why, where the service gave a reason."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.job = job

    @property
    def problem(self) -> Problem | None:
        return self.job.error

    def __str__(self) -> str:
        lines = self._reason(self.problem)
        if self.job.artifacts:
            lines.append(f"  kept: {', '.join(artifact.name for artifact in self.job.artifacts)}")
        return "\n".join(lines)

    def _reason(self, problem: Problem | None) -> list[str]:
        if problem is None:
            return [f"job {self.job.id} ended {self.job.state}"]
        lines = [f"job {self.job.id} {self.job.state}: {problem.detail} ({problem.code})"]
        if problem.stage:
            lines.append(f"  stage: {problem.stage}")
        if problem.layer:
            lines.append(f"  layer: {problem.layer}")
        lines += [f"  {fault.pointer or '/'}: {fault.detail}" for fault in problem.errors]
        if problem.hint:
            lines.append(f"  hint: {problem.hint}")
        return lines


class JobFailed(JobError):
    """The job failed. ``job.artifacts`` are what it kept all the same."""


class JobCancelled(JobError):
    """The job was cancelled."""


class JobExpired(JobError):
    """The job waited in the queue longer than its ``max_queue_s``."""


class WaitTimeout(FeatherweightError, TimeoutError):
    """The wait is over and the job is not. `job` is how it was last seen."""

    def __init__(self, job: Job, seconds: float) -> None:
        super().__init__(f"job {job.id} is still {job.state} after {seconds:g} s; it goes on")
        self.job = job
        self.seconds = seconds


class BatchFailed(FeatherweightError):
    """The batch failed, was cancelled or expired. Some of its items may have succeeded: ``batch.outcome``."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.batch = batch

    @property
    def problem(self) -> Problem | None:
        return self.batch.error

    def __str__(self) -> str:
        counts = self.batch.counts
        told = (
            f"batch {self.batch.id} {self.batch.state}: {counts.succeeded} of {counts.total} items succeeded"
        )
        if self.problem is None:
            return told
        lines = [f"{told}; {self.problem.detail} ({self.problem.code})"]
        if self.problem.hint:
            lines.append(f"  hint: {self.problem.hint}")
        return "\n".join(lines)


class BatchWaitTimeout(FeatherweightError, TimeoutError):
    """The wait is over and the batch is not. `batch` is how it was last seen."""

    def __init__(self, batch: Batch, seconds: float) -> None:
        super().__init__(f"batch {batch.id} is still {batch.state} after {seconds:g} s; it goes on")
        self.batch = batch
        self.seconds = seconds


class InvalidSpec(FeatherweightError, ValueError):
    """The compression spec is not valid. `errors` hold the pointers, `lines` their lines in the file."""

    _what = "compression spec"

    def __init__(
        self, source: str, errors: Sequence[FieldError], lines: Sequence[int | None] | None = None
    ) -> None:
        super().__init__(source, errors, lines)
        self.source = source
        self.errors = list(errors)
        self.lines = list(lines) if lines is not None else [None] * len(self.errors)

    def __str__(self) -> str:
        faults = [
            f"  {f'line {line}, ' if line else ''}{fault.pointer or '/'}: {fault.detail}"
            for fault, line in zip(self.errors, self.lines, strict=True)
        ]
        return "\n".join([f"{self.source} is not a valid {self._what}", *faults])


class InvalidManifest(InvalidSpec):
    """The manifest of a batch is not valid. What is wrong with a spec in it is an InvalidSpec."""

    _what = "manifest of a batch"


class ExportFailed(FeatherweightError, ValueError):
    """A model of PyTorch cannot be exported as it is; the message says what to change."""


class ConfigurationError(FeatherweightError, ValueError):
    """The client cannot be made from what it was given."""


STATUS_ERRORS: dict[int, type[APIError]] = {
    400: BadRequest,
    401: AuthenticationError,
    403: PermissionDenied,
    404: NotFound,
    405: BadRequest,
    406: BadRequest,
    409: Conflict,
    410: Gone,
    413: PayloadTooLarge,
    415: UnsupportedMediaType,
    422: InvalidRequest,
    429: RateLimited,
    500: InternalError,
    502: ServiceUnavailable,
    503: ServiceUnavailable,
    504: ServiceUnavailable,
}

JOB_ERRORS: dict[str, type[JobError]] = {
    JobState.FAILED: JobFailed,
    JobState.CANCELLED: JobCancelled,
    JobState.EXPIRED: JobExpired,
}


def api_error(problem: Problem, *, status: int, retry_after: float | None = None) -> APIError:
    """The exception for a problem answered with `status`, which is at least 400."""
    kind = STATUS_ERRORS.get(status) or (BadRequest if status < 500 else InternalError)
    return kind(problem, status=status, retry_after=retry_after)


def job_error(job: Job) -> JobError | None:
    """The exception for a job that is done; None when it succeeded.

    A final state that this version does not know is a plain JobError: it did not succeed.
    """
    if job.state == JobState.SUCCEEDED:
        return None
    return JOB_ERRORS.get(job.state, JobError)(job)
