"""The other things the API shows: models, data sets, uploads, techniques, pages of lists."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = [
    "AdoptRequest",
    "AuditEntry",
    "Dataset",
    "Health",
    "Import",
    "ImportRequest",
    "InboxObject",
    "Limits",
    "Model",
    "Page",
    "Project",
    "ReceivedPart",
    "Technique",
    "Upload",
    "UploadPart",
    "UploadRequest",
    "Usage",
]

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f/\\]+$")]
Kind = Literal["model", "dataset"]
# A batch's input file too.
UploadKind = Literal["model", "dataset", "batch"]
# What S3 allows for the parts of an upload, but for the last.
PartSize = Annotated[int, Field(ge=5 * 1024**2, le=5 * 1024**3, strict=True)]

T = TypeVar("T")


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Model(_Answer):
    """A stored model. `format` is what the first bytes say: keras_zip, hdf5, tflite, pt2, onnx, or of the
    archive that a SavedModel is in zip, tar or tar_gz. `expires_at`, where the project keeps models for a
    time, is when it is due to be removed, unless something needs it."""

    id: str
    object: Literal["model"] = "model"
    filename: str
    format: str
    framework: str
    bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime | None = None


class Dataset(_Answer):
    """A stored data set. `format` is what the first bytes say: npz, csv, parquet, zip, tar, tar_gz, tfrecord
    or tfrecord_gz. `expires_at` is as of a model."""

    id: str
    object: Literal["dataset"] = "dataset"
    filename: str
    format: str
    bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime | None = None


class UploadRequest(BaseModel):
    """The body of ``POST /v1/uploads``: a file that is to come in parts. The kind batch is for the input file
    of a batch.

    `part_sha256` has the sha256 of every part, of a file cut by `part_size` bytes (the last part is what is
    left). The storage then takes for each part no other bytes than these. Both are given, or neither.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: UploadKind
    filename: FileName
    size: Annotated[int, Field(ge=1, strict=True)]
    sha256: Sha256
    part_size: PartSize | None = None
    part_sha256: Annotated[list[Sha256], Field(min_length=1, max_length=10_000)] | None = None


class ImportRequest(BaseModel):
    """The body of ``POST /v1/imports``: a file that the service is to fetch.

    `url` is https://, or s3:// for an object of the project in the service's own bucket. `filename` left out
    is taken from the URL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    url: Annotated[str, Field(min_length=1, max_length=2048)]
    sha256: Sha256 | None = None
    filename: FileName | None = None


class Import(_Answer):
    """A file that was fetched. `resource_id` is the model or data set it became."""

    object: Literal["import"] = "import"
    kind: Kind
    resource_id: str
    filename: str
    format: str
    bytes: int
    sha256: str
    created_at: datetime


class InboxObject(_Answer):
    """An object that somebody put under the project's prefix of the bucket. `name` is its key without that
    prefix; `etag` changes with its bytes."""

    object: Literal["inbox_object"] = "inbox_object"
    name: str
    bytes: int
    etag: str
    modified: datetime


class AdoptRequest(BaseModel):
    """The body of ``POST /v1/inbox/adopt``: an object of the inbox that is to become a model or data set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=1024)]
    kind: Kind


class UploadPart(_Answer):
    """Where part `number` (from 1) goes: ``PUT`` its `size` bytes, from byte `offset`, to `url`, with
    `headers`, which are signed."""

    number: int
    offset: int
    size: int
    url: str
    headers: dict[str, str] = Field(default_factory=dict)


class ReceivedPart(_Answer):
    number: int
    size: int
    etag: str


class Upload(_Answer):
    """An upload in parts. `parts` are those still missing, with fresh URLs; `received` those that
    arrived. `resource_id` is the model, data set or batch file once `state` is completed."""

    id: str
    object: Literal["upload"] = "upload"
    kind: UploadKind
    state: Literal["open", "completed", "aborted"]
    filename: str
    size: int
    sha256: str
    part_size: int
    parts: list[UploadPart] = Field(default_factory=list)
    received: list[ReceivedPart] = Field(default_factory=list)
    resource_id: str | None = None
    created_at: datetime
    expires_at: datetime


class Technique(_Answer):
    """A row of the catalogue: what `technique` can do for which framework, and its JSON Schema. `outputs` are
    the formats that any framework has for it, `outputs_of` those of each, and `outputs_of_kind` those of each
    kind of model that it can be done to, as inspections name kinds: keras, graph, tflite, pt2, onnx."""

    technique: str
    title: str
    summary: str
    frameworks: list[str]
    outputs: list[str]
    outputs_of: dict[str, list[str]] = Field(default_factory=dict)
    outputs_of_kind: dict[str, list[str]] = Field(default_factory=dict)
    needs_data: Literal["never", "always", "depends"]
    schema_: dict[str, Any] = Field(alias="schema")

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class Page(_Answer, Generic[T]):
    """A list, newest first. `next_cursor` fetches what follows and is null at the end."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool
    next_cursor: str | None = None


Amount = Annotated[int, Field(ge=0)]


class Limits(_Answer):
    """What a project may use. 0 is no limit. Requests beyond `requests_per_second` are answered with 429
    once a burst of twice as many is used up; jobs beyond `running_jobs` wait in the queue.

    The ``_ttl_s`` are how long things are kept, in seconds: models and data sets from when they came, the
    files that jobs made and the jobs themselves from when these ended."""

    stored_bytes: Amount = 0
    running_jobs: Amount = 0
    queued_jobs: Amount = 0
    cpu_seconds_per_day: Amount = 0
    requests_per_second: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    models_ttl_s: Amount = 0
    datasets_ttl_s: Amount = 0
    artifacts_ttl_s: Amount = 0
    jobs_ttl_s: Amount = 0


class Project(_Answer):
    """The project of the API key. While it is paused its jobs are accepted and wait: none is started, those
    that run go on, and the deadlines of those that wait (max_queue_s, max_total_s) are still theirs."""

    object: Literal["project"] = "project"
    name: str
    paused: bool
    paused_at: datetime | None = None


class Usage(_Answer):
    """What a project uses, and what it may use.

    `stored_bytes` are those of models, data sets, input files of batches, uploads begun and files that jobs
    made; `stored` has them by these five. `cpu_seconds` are those that jobs used within the last 24 hours, by
    quarters of an hour; the time of a job counts when its attempt has ended. `paused`
    as of Project.
    """

    object: Literal["usage"] = "usage"
    project: str
    stored_bytes: int
    stored: dict[str, int]
    running_jobs: int
    queued_jobs: int
    cpu_seconds: float
    paused: bool = False
    limits: Limits


class AuditEntry(_Answer):
    """What somebody did. `key_id` is the API key that was used, or operator; `action` the resource and what
    was done; `target` the id it was done to; `outcome` ok or a problem code; `request_id` the answer's."""

    id: str
    at: datetime
    key_id: str | None = None
    action: str
    target: str | None = None
    outcome: str
    status: int | None = None
    request_id: str | None = None


class Health(_Answer):
    """`status` is ok or unavailable; `checks` says it part by part."""

    status: Literal["ok", "unavailable"]
    version: str
    checks: dict[str, str] = Field(default_factory=dict)
