"""Which jobs come to the same, and what earlier ones have made.

Two items are equal when model, data set, spec with all its defaults, and the time they may take are. The
result of an earlier job counts as well when it was made by the toolchain that is in use now: its report
names the versions that made it, and the workers say which ones they have.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

import redis
from pydantic import BaseModel, ValidationError

from featherweight._version import version
from featherweight.job import JobRequest, JobState
from featherweight.report import FileDigest
from tasks import keys
from tasks.compression.host import library_versions
from tasks.compression.toolchain import OF
from tasks.identifiers import check_name
from tasks.records import JobRecord
from tasks.recordstore import text
from tasks.storage import Storage
from tasks.store import JobStore

__all__ = ["Earlier", "equality", "installed_toolchain"]

_TOOLCHAIN = "fw:toolchain"
_REPORT = "report.json"


class _Made(BaseModel):
    """What of a report says what it was made of."""

    inputs: list[FileDigest]
    versions: dict[str, str]


def equality(model_sha256: str, dataset_sha256: str | None, request: JobRequest) -> str:
    """The same for all that come to the same by the same toolchain."""
    spec = request.spec.model_dump(mode="json")
    return _digest([model_sha256, dataset_sha256, spec, request.limits.max_run_s])


def installed_toolchain(framework: str = "tensorflow") -> dict[str, str]:
    """As reports on models of `framework` have it; importlib.metadata.PackageNotFoundError where no jobs with
    such models can be run."""
    return {"featherweight": version(), **library_versions(*OF[framework])}


class Earlier:
    """Results of earlier jobs, by what they were made of. redis.RedisError, StorageUnavailable."""

    def __init__(self, client: redis.Redis, jobs: JobStore, storage: Storage) -> None:
        self._redis = client
        self._jobs = jobs
        self._storage = storage

    def announce_toolchain(self, versions: Mapping[str, str], framework: str = "tensorflow") -> None:
        """Workers for models of `framework` have these versions."""
        self._redis.set(f"{_TOOLCHAIN}:{framework}", json.dumps(versions))

    def remember(self, record: JobRecord) -> None:
        """A job has succeeded; nothing is remembered of one whose report does not say how it was made."""
        made = self._made(record)
        if made is None:
            return
        digests = {file.role: file.sha256 for file in made.inputs}
        if "model" not in digests or (record.dataset_id is not None and "dataset" not in digests):
            return
        try:
            asked = JobRequest.model_validate(_asked(record))
        except ValidationError:
            return  # of a time when specs were others
        equal = equality(digests["model"], digests.get("dataset"), asked)
        self._redis.hset(_key(record.project), _field(equal, made.versions), record.id)

    def find(self, project: str, equal: str, framework: str = "tensorflow") -> JobRecord | None:
        """A job that succeeded with what is asked for, and whose files are all still there."""
        stored = cast("bytes | None", self._redis.get(f"{_TOOLCHAIN}:{framework}"))
        if stored is None:
            return None
        field = _field(equal, json.loads(stored))
        job_id = cast("bytes | None", self._redis.hget(_key(project), field))
        if job_id is None:
            return None
        record = self._jobs.find(text(job_id))
        if record is not None and record.project == project and self._is_whole(record):
            return record
        self._redis.hdel(_key(project), field)
        return None

    def _is_whole(self, record: JobRecord) -> bool:
        return (
            record.state == JobState.SUCCEEDED
            and bool(record.artifacts)
            and all(
                self._storage.exists(
                    keys.artifact_key(record.project, record.id, record.attempt, artifact.name)
                )
                for artifact in record.artifacts
            )
        )

    def _made(self, record: JobRecord) -> _Made | None:
        if record.state != JobState.SUCCEEDED or not any(item.name == _REPORT for item in record.artifacts):
            return None
        try:
            text_ = self._storage.read(keys.report_key(record.project, record.id, record.attempt))
            return _Made.model_validate_json(text_)
        except (FileNotFoundError, ValidationError):
            return None


def _asked(record: JobRecord) -> dict[str, Any]:
    return record.model_dump(include=set(JobRequest.model_fields))


def _key(project: str) -> str:
    return f"fw:made:{check_name(project)}"


def _field(equal: str, versions: Mapping[str, str]) -> str:
    return _digest([equal, versions])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
