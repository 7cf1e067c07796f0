"""The two kinds of files we keep, models and data sets: where they go and how large they may be."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import redis

from featherweight.resources import Kind
from service.errors import ProblemError
from service.leftovers import discard
from service.quotas import keep
from service.services import Services
from service.sniffing import framework_of, sniff
from tasks import keys
from tasks.gate import GateBusy, GateFailed, GateRefused
from tasks.records import DatasetRecord, ModelRecord
from tasks.recordstore import RecordStore

__all__ = ["DATASET", "GATE_PROBLEMS", "KINDS", "MODEL", "FileKind"]

# Of the gate's codes those of both kinds of files; docs/security.md has all of them.
GATE_PROBLEMS = ("archive_bomb", "bad_archive", "archive_path_not_allowed", "too_many_files")

log = logging.getLogger(__name__)

# Memory, processes or room on the disk come back more slowly than a place among those who are judged.
_MACHINE_RECOVERS_S = 30

R = TypeVar("R", ModelRecord, DatasetRecord)


@dataclass(frozen=True)
class FileKind(Generic[R]):
    """`key` and `record_key` make storage keys from project and id, `of_format` the fields that only
    this kind's record has, from the format."""

    name: Kind
    record: type[R]
    key: Callable[[str, str], str]
    record_key: Callable[[str, str], str]
    of_format: Callable[[str], dict[str, Any]]

    def store(self, services: Services) -> RecordStore[R]:
        found: RecordStore[R] = getattr(services, f"{self.name}s")
        return found

    def max_bytes(self, services: Services) -> int:
        limit: int = getattr(services.settings, f"max_{self.name}_bytes")
        return limit

    def adopt(
        self,
        services: Services,
        project: str,
        resource_id: str,
        *,
        filename: str,
        head: bytes,
        size: int,
        sha256: str,
        instead_of: str = "",
    ) -> R:
        """Record a file that lies in storage under this kind's key, whole and checked.

        The record goes beside it first: that copy outlives Redis. `instead_of` is what its bytes counted
        for until now. unknown_file_type, the gate's codes, storage_quota_exceeded, overloaded,
        StorageUnavailable; no part of a record is left then, and the file is the caller's to remove.
        """
        with self._whole_or_not_at_all(services, project, resource_id):
            format_ = sniff(self.name, head)
            gated = self._admitted(services, self.key(project, resource_id), size)
            keep(services, project, resource_id, size, instead_of=instead_of)
            record = self.record(
                id=resource_id,
                filename=filename,
                format=format_,
                bytes=size,
                sha256=sha256,
                created_at=datetime.now(UTC),
                project=project,
                key=self.key(project, resource_id),
                gated=gated,
                **self.of_format(format_),
            )
            services.storage.put_json(self.record_key(project, resource_id), record.model_dump(mode="json"))
            self.store(services).put(project, record)
        return record

    @contextmanager
    def _whole_or_not_at_all(self, services: Services, project: str, resource_id: str) -> Iterator[None]:
        try:
            yield
        except Exception:
            discard(services, self.record_key(project, resource_id))
            # Redis may have kept what it did not answer to, and so may an earlier try of the same request.
            with suppress(redis.RedisError):
                self.store(services).delete(project, resource_id)
                services.accounts.forget(project, resource_id)
            raise

    def _admitted(self, services: Services, key: str, size: int) -> int | None:
        try:
            return services.gate.admit(key, self.name, size)
        except GateRefused as error:
            refused = error.problem
            raise ProblemError(
                refused.code, refused.detail, hint=refused.hint, errors=refused.errors
            ) from None
        except GateBusy:
            raise ProblemError("overloaded", "too many files are being judged; try again") from None
        except GateFailed as error:
            # What the machine said is for the log.
            log.error("no file can be judged here: %s", error)
            raise ProblemError(
                "overloaded",
                "files cannot be judged at the moment; nothing was kept",
                headers={"Retry-After": str(_MACHINE_RECOVERS_S)},
            ) from None

    def remove(self, services: Services, project: str, resource_id: str) -> None:
        """Forget a file and its record; NotFound. Should storage be away, the record stays."""
        record = self.store(services).get(project, resource_id)
        services.storage.delete(record.key)
        services.storage.delete(self.record_key(project, resource_id))
        self.store(services).delete(project, resource_id)
        services.accounts.forget(project, resource_id)


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
KINDS: dict[Kind, FileKind[Any]] = {"model": MODEL, "dataset": DATASET}
