"""The other things the API shows: models, data sets, uploads, techniques, pages of lists."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = [
    "Dataset",
    "Health",
    "Model",
    "Page",
    "ReceivedPart",
    "Technique",
    "Upload",
    "UploadPart",
    "UploadRequest",
]

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f/\\]+$")]
Kind = Literal["model", "dataset"]

T = TypeVar("T")


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Model(_Answer):
    """A stored model. `format` is what the first bytes say: keras_zip, hdf5, tflite, or of the archive that a
    SavedModel is in zip, tar or tar_gz."""

    id: str
    object: Literal["model"] = "model"
    filename: str
    format: str
    framework: str
    bytes: int
    sha256: str
    created_at: datetime


class Dataset(_Answer):
    """A stored data set. `format` is what the first bytes say: npz, csv, parquet, zip, tar, tar_gz, tfrecord
    or tfrecord_gz."""

    id: str
    object: Literal["dataset"] = "dataset"
    filename: str
    format: str
    bytes: int
    sha256: str
    created_at: datetime


class UploadRequest(BaseModel):
    """The body of ``POST /v1/uploads``: a file that is to come in parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    filename: FileName
    size: Annotated[int, Field(ge=1, strict=True)]
    sha256: Sha256


class UploadPart(_Answer):
    """Where part `number` (from 1) goes: ``PUT`` its `size` bytes, from byte `offset`, to `url`."""

    number: int
    offset: int
    size: int
    url: str


class ReceivedPart(_Answer):
    number: int
    size: int
    etag: str


class Upload(_Answer):
    """An upload in parts. `parts` are those still missing, with fresh URLs; `received` those that
    arrived. `resource_id` is the model or data set once `state` is completed."""

    id: str
    object: Literal["upload"] = "upload"
    kind: Kind
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
    """A row of the catalogue: what `technique` can do for which framework, and its JSON Schema."""

    technique: str
    title: str
    summary: str
    frameworks: list[str]
    outputs: list[str]
    needs_data: Literal["never", "always", "depends"]
    schema_: dict[str, Any] = Field(alias="schema")

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class Page(_Answer, Generic[T]):
    """A list, newest first. `next_cursor` fetches what follows and is null at the end."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool
    next_cursor: str | None = None


class Health(_Answer):
    """`status` is ok or unavailable; `checks` says it part by part."""

    status: Literal["ok", "unavailable"]
    version: str
    checks: dict[str, str] = Field(default_factory=dict)
