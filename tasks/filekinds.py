"""The kinds of files we keep, models, data sets and input files of batches: where they go and how large they
may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from featherweight.resources import Kind, UploadKind
from tasks import keys
from tasks.batches.records import BatchFileRecord
from tasks.records import DatasetRecord, ModelRecord
from tasks.settings import Settings
from tasks.sniffing import StoredKind, framework_of

__all__ = ["BATCH_FILE", "DATASET", "KINDS", "MODEL", "STORED", "UPLOADS", "FileKind", "R"]

R = TypeVar("R", ModelRecord, DatasetRecord, BatchFileRecord)


@dataclass(frozen=True)
class FileKind(Generic[R]):
    """`key` and `record_key` make storage keys from project and id, `of_format` the fields that only
    this kind's record has, from the format."""

    name: StoredKind
    record: type[R]
    key: Callable[[str, str], str]
    record_key: Callable[[str, str], str]
    of_format: Callable[[str], dict[str, Any]]

    def max_bytes(self, settings: Settings) -> int:
        limit: int = getattr(settings, f"max_{self.name}_bytes")
        return limit


MODEL = FileKind(
    name="model",
    record=ModelRecord,
    key=keys.model_key,
    record_key=keys.model_record_key,
    of_format=lambda format_: {"framework": framework_of(format_)},
)
DATASET = FileKind(
    name="dataset",
    record=DatasetRecord,
    key=keys.dataset_key,
    record_key=keys.dataset_record_key,
    of_format=lambda _: {},
)
BATCH_FILE = FileKind(
    name="batch_file",
    record=BatchFileRecord,
    key=keys.batch_file_key,
    record_key=keys.batch_file_record_key,
    of_format=lambda _: {},
)
KINDS: dict[Kind, FileKind[Any]] = {"model": MODEL, "dataset": DATASET}
STORED: dict[StoredKind, FileKind[Any]] = {"model": MODEL, "dataset": DATASET, "batch_file": BATCH_FILE}
UPLOADS: dict[UploadKind, FileKind[Any]] = {"model": MODEL, "dataset": DATASET, "batch": BATCH_FILE}
