"""What belongs to a record: its objects with their sizes, and the bytes it counts for."""

from __future__ import annotations

from typing import NamedTuple

import redis

from tasks import keys
from tasks.filekinds import KINDS
from tasks.records import DatasetRecord, JobRecord, ModelRecord, UploadRecord
from tasks.recordstore import NotFound, RecordStore
from tasks.retention.removal import REMOVING
from tasks.settings import Settings
from tasks.store import JobStore

__all__ = ["Expected", "Known"]

_LOG = "log.txt"


class Expected(NamedTuple):
    """`needed` are keys with sizes (None: any), `allowed` further ones, `bytes` those counted. While `open`
    anything else may lie there too."""

    needed: dict[str, int | None]
    allowed: frozenset[str]
    bytes: int
    open: bool = False


class Known:
    """Looks records up, by the folder that their objects are in: models, datasets, jobs."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._redis = client
        self._jobs = JobStore(client, settings)
        self._uploads = RecordStore(client, "upload", UploadRecord)

    def expected(self, project: str, folder: str, resource_id: str) -> Expected | None:
        """None where there is no such record."""
        if folder == "jobs":
            job = self._jobs.find(resource_id)
            return self._of_job(job) if job is not None and job.project == project else None
        kind = KINDS["model" if folder == "models" else "dataset"]
        try:
            record: ModelRecord | DatasetRecord = RecordStore(self._redis, kind.name, kind.record).get(
                project, resource_id
            )
        except NotFound:
            return None
        record_key = kind.record_key(project, resource_id)
        return Expected({record.key: record.bytes, record_key: None}, frozenset(), record.bytes)

    def upload(self, project: str, upload_id: str) -> UploadRecord | None:
        """An upload that is open."""
        try:
            found = self._uploads.get(project, upload_id)
        except NotFound:
            return None
        return found if found.state == "open" else None

    def is_going(self, project: str, folder: str, resource_id: str) -> bool:
        """Whether it was removed and only its bytes are still to go."""
        name = f"{folder.removesuffix('s')}/{project}/{resource_id}"
        return self._redis.zscore(REMOVING, name) is not None

    def _of_job(self, job: JobRecord) -> Expected:
        request, result = keys.job_key(job.project, job.id), keys.result_key(job.project, job.id)
        is_open = not job.done or self._redis.zscore("fw:unsettled", job.id) is not None
        if is_open:
            return Expected({request: None}, frozenset(), self._bytes(job), open=True)
        if job.artifacts_expired_at is not None:
            return Expected({request: None, result: None}, frozenset(), 0)
        made: dict[str, int | None] = {
            keys.artifact_key(job.project, job.id, job.attempt, artifact.name): artifact.bytes
            for artifact in job.artifacts
        }
        log = keys.artifact_key(job.project, job.id, job.attempt, _LOG)
        return Expected({request: None, result: None, **made}, frozenset([log]), self._bytes(job))

    def _bytes(self, job: JobRecord) -> int:
        return sum(artifact.bytes for artifact in job.artifacts) if job.done else 0
