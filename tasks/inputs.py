"""The inputs of an attempt: downloaded, compared with what was uploaded, and judged."""

from __future__ import annotations

from typing import Any

import redis

from featherweight.problem import problem
from featherweight.report import FileDigest
from tasks.gate import VERSION as GATE_VERSION
from tasks.gate import judge
from tasks.lease import Lease
from tasks.records import Claim, DatasetRecord, ModelRecord
from tasks.recordstore import RecordStore
from tasks.scratch import Scratch
from tasks.settings import Settings
from tasks.storage import Storage
from tasks.store import NotFound
from tasks.watch import Refused

__all__ = ["Inputs"]

_SUFFIX = {"keras_zip": ".keras", "hdf5": ".h5", "tflite": ".tflite", "npz": ".npz", "zip": ".zip"}


class Inputs:
    """Of a worker's jobs."""

    def __init__(self, settings: Settings, client: redis.Redis, storage: Storage) -> None:
        self._settings = settings
        self._storage = storage
        self._models = RecordStore(client, "model", ModelRecord)
        self._datasets = RecordStore(client, "dataset", DatasetRecord)

    def digests(self, claim: Claim) -> list[FileDigest]:
        """As uploaded; what was downloaded for this attempt was compared with them."""
        job = claim.job
        model = self._models.get(job.project, job.model_id)
        found = [FileDigest(role="model", name=model.filename, bytes=model.bytes, sha256=model.sha256)]
        if job.dataset_id:
            data = self._datasets.get(job.project, job.dataset_id)
            found.append(FileDigest(role="dataset", name=data.filename, bytes=data.bytes, sha256=data.sha256))
        return found

    def fetch(self, claim: Claim, scratch: Scratch, lease: Lease) -> dict[str, Any]:
        """Download the inputs and have them judged; the task for the runner. Refused."""
        job = claim.job
        try:
            model = self._models.get(job.project, job.model_id)
            dataset = self._datasets.get(job.project, job.dataset_id) if job.dataset_id else None
            inputs = {"model": self._download(model, scratch, "model", lease)}
            if dataset is not None:
                inputs["dataset"] = self._download(dataset, scratch, "dataset", lease)
        except (NotFound, FileNotFoundError) as error:
            raise Refused(
                problem("artifact_gone", "the model or the data set is no longer stored")
            ) from error
        self._check(scratch, inputs, {"model": model, "dataset": dataset}, lease)
        return {
            "job_id": job.id,
            "target": self._settings.runner_target,
            "spec": job.spec,
            "model": inputs["model"],
            "dataset": inputs.get("dataset"),
            "threads": self._settings.runner_threads,
        }

    def _check(
        self,
        scratch: Scratch,
        inputs: dict[str, str],
        records: dict[str, ModelRecord | DatasetRecord | None],
        lease: Lease,
    ) -> None:
        """Refused for files that no loader may see. Those that this gate has let in before are not judged
        twice: what was downloaded has the sha256 of what was judged."""
        unseen = {
            role: inputs[role]
            for role, record in records.items()
            if record is not None and record.gated != GATE_VERSION
        }
        refused = judge(self._settings, scratch.path, unseen, check=lease.check) if unseen else None
        if refused is not None:
            raise Refused(refused)

    def _download(
        self, record: ModelRecord | DatasetRecord, scratch: Scratch, role: str, lease: Lease
    ) -> str:
        path = scratch.inputs / f"{role}{_SUFFIX.get(record.format, '.bin')}"
        sha256 = self._storage.get_file(record.key, path, check=lease.check)
        if sha256 != record.sha256:
            raise Refused(
                problem("sha256_mismatch", f"the stored {role} is not what was uploaded: its sha256 differs")
            )
        return str(path.relative_to(scratch.path))
