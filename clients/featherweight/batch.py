"""A batch: many jobs asked for at once, and what came of them.

validating ──> in_progress ──> finalizing ──> completed    every item has ended, and one at least succeeded
    │              │              │  ├──────> failed       none succeeded; or it was stopped by a failure
    │              │              │  ├──────> cancelled    by the caller
    │              │              │  └──────> expired      limits.max_total_s passed
    │              └─> cancelling ┤
    ├────────────────> cancelling ┘                       what runs is being stopped, whatever the reason
    └───────────────────────────────────────> failed       its input cannot be read

How the items did is said by `Batch.outcome` and counted in `Batch.counts`.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from featherweight.job import Artifact, JobLimits, Metadata
from featherweight.problem import Problem
from featherweight.report import Verdict
from featherweight.spec import CompressionSpec

__all__ = [
    "BATCH_TRANSITIONS",
    "MAX_INLINE_ITEMS",
    "MAX_ITEMS",
    "Batch",
    "BatchCounts",
    "BatchDefaults",
    "BatchFile",
    "BatchItem",
    "BatchItemRequest",
    "BatchItemState",
    "BatchLimits",
    "BatchOutcome",
    "BatchRequest",
    "BatchSource",
    "BatchState",
    "FileSummary",
    "ItemSummary",
    "NamedSpec",
    "ResultFile",
]

MAX_ITEMS = 50_000
MAX_INLINE_ITEMS = 1_000


class BatchState(StrEnum):
    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    CANCELLING = "cancelling"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def done(self) -> bool:
        """No transition leads out of this state."""
        return not BATCH_TRANSITIONS[self]


_S = BatchState
BATCH_TRANSITIONS: dict[BatchState, frozenset[BatchState]] = {
    _S.VALIDATING: frozenset({_S.IN_PROGRESS, _S.CANCELLING, _S.FAILED}),
    _S.IN_PROGRESS: frozenset({_S.FINALIZING, _S.CANCELLING}),
    _S.CANCELLING: frozenset({_S.FINALIZING}),
    _S.FINALIZING: frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.EXPIRED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.EXPIRED: frozenset(),
}

BatchOutcome = Literal["succeeded", "partial", "failed"]
"""succeeded: every item did; partial: some did; failed: none did."""


class BatchItemState(StrEnum):
    """As a job's, but for two: `queued` also when the item still waits for its turn within the batch, and
    `invalid`: it was refused, and there never was a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    INVALID = "invalid"

    @property
    def done(self) -> bool:
        return self not in (BatchItemState.QUEUED, BatchItemState.RUNNING)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Answer(BaseModel):
    """Sent by the service: a client that is older than the service must not choke on a new key."""

    model_config = ConfigDict(extra="ignore", frozen=True)


Id = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Name = Annotated[str, StringConstraints(max_length=200)]
CustomId = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]
Prefix = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]


class BatchItemRequest(_Part):
    """One item: inline in `BatchRequest.items`, or a line of an input file. `custom_id` is the caller's own
    name for it, unique within the batch; what is left out is taken from the batch's `defaults`."""

    custom_id: CustomId
    model_id: Id
    dataset_id: Id | None = None
    spec: CompressionSpec | None = None
    name: Name | None = None
    metadata: Metadata | None = None
    limits: JobLimits | None = None


class BatchDefaults(_Part):
    """What items that leave it out have. The metadata of an item is added to that given here."""

    dataset_id: Id | None = None
    spec: CompressionSpec | None = None
    metadata: Metadata = Field(default_factory=dict)
    limits: JobLimits = JobLimits()


class NamedSpec(_Part):
    """One of the specs that every model is given. `name` becomes a part of the ``custom_id``."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
    spec: CompressionSpec


class BatchLimits(_Part):
    """`max_total_s` is the completion window: what has not ended so many seconds after the batch was
    created is cancelled, and the batch expires."""

    max_total_s: Annotated[int, Field(ge=1, le=30 * 86_400, strict=True)] = 7 * 86_400


_SOURCES = ("items", "input_file_id", "prefix", "models")


class BatchRequest(_Part):
    """The body of ``POST /v1/batches``. The items come from exactly one of

    - `items`: they themselves,
    - `input_file_id`: an uploaded JSONL file with one of them on each line,
    - `prefix`: each object of the project's inbox whose name begins so is a model, times `specs` if given,
    - `models`: each of these, times `specs` if given; ``custom_id`` is then ``<model id>/<name of spec>``.

    `max_concurrent` bounds how many of the batch's jobs wait in the queue or run at any time. With
    `on_failure` stop the first failure ends the batch: nothing else is begun, what runs may end. With `reuse`
    an item that an earlier job of the project has computed already (same model, data, spec and toolchain)
    gets its result.
    """

    name: Name | None = None
    metadata: Metadata = Field(default_factory=dict)
    items: Annotated[list[BatchItemRequest], Field(min_length=1, max_length=MAX_INLINE_ITEMS)] | None = None
    input_file_id: Id | None = None
    prefix: Prefix | None = None
    models: Annotated[list[Id], Field(min_length=1, max_length=MAX_INLINE_ITEMS)] | None = None
    specs: Annotated[list[NamedSpec], Field(min_length=1, max_length=100)] | None = None
    defaults: BatchDefaults = BatchDefaults()
    max_concurrent: Annotated[int, Field(ge=1, le=1000, strict=True)] = 50
    on_failure: Literal["continue", "stop"] = "continue"
    reuse: Annotated[bool, Field(strict=True)] = True
    limits: BatchLimits = BatchLimits()

    @model_validator(mode="after")
    def _one_source(self) -> BatchRequest:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"{', '.join(given)} are given" if given else "none is given"
            raise ValueError(f"exactly one of {', '.join(_SOURCES)} says what the items are; {found}")
        if self.specs is not None and given[0] not in ("prefix", "models"):
            raise ValueError("specs go with models or prefix: items have a spec of their own")
        return self

    @model_validator(mode="after")
    def _unique(self) -> BatchRequest:
        for what, names in (
            ("custom_id", [item.custom_id for item in self.items or ()]),
            ("model", list(self.models or ())),
            ("name of a spec", [spec.name for spec in self.specs or ()]),
        ):
            if len(names) != len(set(names)):
                twice = next(name for name, count in Counter(names).items() if count > 1)
                raise ValueError(f"the {what} {twice!r} stands there twice")
        return self

    @model_validator(mode="after")
    def _has_specs(self) -> BatchRequest:
        if (self.models is not None or self.prefix is not None) and not self.specs and not self.defaults.spec:
            raise ValueError("models and prefix need specs, or a spec in defaults")
        if len(self.models or ()) * len(self.specs or ()) > MAX_ITEMS:
            raise ValueError(f"models times specs are more than {MAX_ITEMS} items")
        return self


class BatchSource(_Answer):
    """Where the items came from."""

    type: Literal["items", "file", "prefix", "models"] | str
    input_file_id: str | None = None
    prefix: str | None = None


class BatchCounts(_Answer):
    """Items by state. `total` grows while the batch is validated. `reused` are those, among the ones that
    have ended, that took the result of another job and had none of their own."""

    total: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    invalid: int = 0
    reused: int = 0


class ResultFile(_Answer):
    """A JSONL file of an ended batch: `lines` of it are a `BatchItem` each, in the order of the input."""

    lines: int
    bytes: int
    sha256: str


class Batch(_Answer):
    """A batch as the service shows it. `outcome`, `results` and `errors` are there once it is done: the items
    that succeeded, and all the others. `error` says why a batch failed, or expired."""

    id: str
    object: Literal["batch"] = "batch"
    name: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    # As of a job: a client must survive a state that it does not know yet.
    state: Annotated[BatchState | str, Field(union_mode="left_to_right")]
    done: bool = False
    outcome: BatchOutcome | str | None = None
    counts: BatchCounts = BatchCounts()
    source: BatchSource
    max_concurrent: int
    on_failure: Literal["continue", "stop"] | str
    reuse: bool
    limits: BatchLimits
    created_at: datetime
    in_progress_at: datetime | None = None
    cancelling_at: datetime | None = None
    finalizing_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime
    error: Problem | None = None
    results: ResultFile | None = None
    errors: ResultFile | None = None


class FileSummary(_Answer):
    """A model file in numbers, as its job's report has them. `accuracy` is of the summary's `metric`."""

    name: str
    format: str
    bytes: int
    gzip_bytes: int
    accuracy: float | None = None


class ItemSummary(_Answer):
    """What a report comes to: the original and the files made of it. `missing` are the outputs that could not
    be made, of a spec that has these skipped."""

    metric: str | None = None
    original: FileSummary
    outputs: list[FileSummary]
    missing: list[str] = Field(default_factory=list)


class BatchItem(_Answer):
    """One item, and a line of the result files. `index` counts from 0 in the order of the input, `line` from
    1 in the input file. `reused_from` is the job whose result the item has: one of the same batch that did
    the same, or an earlier one; `job_id` is then null."""

    object: Literal["batch_item"] = "batch_item"
    index: int
    line: int | None = None
    custom_id: str | None = None
    state: Annotated[BatchItemState | str, Field(union_mode="left_to_right")]
    job_id: str | None = None
    reused_from: str | None = None
    model_id: str | None = None
    dataset_id: str | None = None
    name: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    verdict: Verdict | str | None = None
    summary: ItemSummary | None = None
    artifacts: list[Artifact] = Field(default_factory=list)
    error: Problem | None = None
    ended_at: datetime | None = None

    @property
    def result_job_id(self) -> str | None:
        """The job that has the item's report and artifacts."""
        return self.reused_from or self.job_id


class BatchFile(_Answer):
    """A stored input file of batches."""

    id: str
    object: Literal["batch_file"] = "batch_file"
    filename: str
    format: str
    bytes: int
    sha256: str
    created_at: datetime
