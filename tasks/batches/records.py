"""What is stored about batches: the public fields and the internal ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from featherweight.batch import Batch, BatchFile, BatchItem, BatchItemRequest, BatchState
from featherweight.job import JobRequest
from featherweight.problem import Problem
from tasks.identifiers import derived_id

__all__ = ["BatchFileRecord", "BatchRecord", "Entry", "StoredItem", "job_id_of"]

Stopping = Literal["cancelled", "expired", "stopped"]


class BatchRecord(Batch):
    """A batch as stored. `version` changes with every change a caller can see.

    `cursor` says how far the source has been read, `read` in how many pages. `next` is the index of the first
    item that was never begun, `swept` of the first that stopping has not looked at. `stopping` says why items
    are being ended early, `stopped_by` which one's failure did it. `pages` are the first indexes of the
    stored pages, once the batch has ended.
    """

    project: str
    version: str
    request_id: str | None = None
    cursor: str = ""
    read: int = 0
    next: int = 0
    swept: int = 0
    stopping: Stopping | None = None
    stopped_by: int | None = None
    pages: list[int] = Field(default_factory=list)

    def public(self) -> Batch:
        return Batch.model_validate(self.model_dump(include=set(Batch.model_fields)))

    @property
    def is_open(self) -> bool:
        return self.state in (BatchState.VALIDATING, BatchState.IN_PROGRESS)


@dataclass(frozen=True)
class Entry:
    """What a source says of an item: its `value`, checked or as it stands there, and a `problem` where that
    is already known to be none."""

    line: int | None = None
    value: BatchItemRequest | Mapping[str, object] = field(default_factory=dict)
    problem: Problem | None = None


class StoredItem(BaseModel):
    """An item and what it asks for: a line of a page in storage. Without a request it is invalid."""

    model_config = ConfigDict(frozen=True)

    item: BatchItem
    request: JobRequest | None = None


class BatchFileRecord(BatchFile):
    """`key` is the storage key of the bytes. No gate looks at it: nothing but JSON is ever made of it."""

    project: str
    key: str
    gated: int | None = None

    def public(self) -> BatchFile:
        return BatchFile.model_validate(self.model_dump(include=set(BatchFile.model_fields)))


def job_id_of(batch_id: str, custom_id: str) -> str:
    """The id of the job that an item becomes: whoever submits it, it is the same."""
    return derived_id("job", batch_id, custom_id)
