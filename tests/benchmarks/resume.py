"""What it costs to keep a training's progress in storage: ``python -m tests.benchmarks.resume``.

The same job with a checkpoint in storage after every epoch, and with none, in turn, on a local Redis and a
local S3 server. Wall time says how much the training is slowed on this machine, where the S3 server computes
too; the processor time of the worker's thread says what it takes where storage is elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import SecretStr

from deploy.local.object_store import ObjectStore
from deploy.local.redis_server import RedisServer
from featherweight.job import JobRequest
from tasks import keys
from tasks.gate import VERSION
from tasks.identifiers import new_id
from tasks.messages import new_message_key
from tasks.queue import DEFAULT_QUEUE, Queue, make_celery
from tasks.records import DatasetRecord, ModelRecord
from tasks.recordstore import RecordStore
from tasks.sandbox.children import Runners
from tasks.settings import Settings
from tasks.storage import Storage
from tasks.store import JobStore, connect
from tasks.supervisor import Supervisor
from tasks.warming import warm_targets
from tests.benchmarks.machine import machine

_ROUNDS = 2
_PROJECT = "bench"
_SPEC = {
    "steps": [
        {"technique": "prune"},
        {"technique": "finetune", "epochs": 5, "batch_size": 32, "optimizer": "adam", "keep_best": True},
    ],
    "outputs": ["tflite"],
}
_TOLD = re.compile(r"kept its progress: (\d+) times, ([\d,]+) bytes, ([\d.]+) s, ([\d.]+) s of CPU")
_MAKE = """
import sys, numpy as np, tf_keras as keras
layers = keras.layers
keras.utils.set_random_seed(0)
model = keras.Sequential([layers.InputLayer((784,)), layers.Dense(1024, activation="relu"),
                          layers.Dense(1024, activation="relu"), layers.Dense(10)])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.save(sys.argv[1])
draw = np.random.default_rng(0)
np.savez(sys.argv[2], x=draw.random((6_000, 784), np.float32), y=draw.integers(0, 10, 6_000))
"""


class Measured(NamedTuple):
    job_s: float
    epoch_s: float
    times: int = 0
    bytes: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0


class _Listener(logging.Handler):
    """Hears what the keeper says at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[re.Match[str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if found := _TOLD.search(record.getMessage()):
            self.heard.append(found)


class _Bench:
    def __init__(self, folder: Path, redis: RedisServer, store: ObjectStore) -> None:
        self.settings = Settings(
            redis_url=redis.url("worker"),
            message_keys=SecretStr(new_message_key()),
            s3_endpoint_url=store.endpoint_url,
            s3_bucket=store.bucket,
            s3_access_key_id=SecretStr(store.access_key_id),
            s3_secret_access_key=SecretStr(store.secret_access_key),
            scratch_dir=folder / "scratch",
            runner_threads=1,
            progress_interval_s=0,
        )
        self.client = connect(self.settings)
        self.storage = Storage(self.settings)
        self.store = JobStore(self.client, self.settings)
        self.queue = Queue(make_celery(self.settings))
        self.runners = Runners(warm_targets(self.settings, [DEFAULT_QUEUE]), folder / "home")
        self.listener = _Listener()
        logging.getLogger("tasks").setLevel(logging.INFO)
        logging.getLogger("tasks").addHandler(self.listener)

    def stored(self, kind: str, path: Path, form: str) -> dict[str, Any]:
        content, id_ = path.read_bytes(), new_id(kind)  # type: ignore[arg-type]
        key = getattr(keys, f"{kind}_key")(_PROJECT, id_)
        self.storage.put_bytes(key, content)
        return {
            "id": id_,
            "filename": path.name,
            "format": form,
            "framework": "tensorflow",
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "created_at": datetime.now(UTC),
            "project": _PROJECT,
            "key": key,
            "gated": VERSION,
        }

    def put(self, model: Path, data: Path) -> JobRequest:
        first = ModelRecord.model_validate(self.stored("model", model, "keras_zip"))
        second = DatasetRecord.model_validate(self.stored("dataset", data, "npz"))
        RecordStore(self.client, "model", ModelRecord).put(_PROJECT, first)
        RecordStore(self.client, "dataset", DatasetRecord).put(_PROJECT, second)
        return JobRequest.model_validate({"model_id": first.id, "dataset_id": second.id, "spec": _SPEC})

    def run(self, request: JobRequest, **changes: Any) -> Measured:
        """RuntimeError when the job failed."""
        settings = self.settings.model_copy(update=changes)
        parts = (settings, self.client, self.store, self.storage, self.queue, self.runners)
        job = self.store.create(_PROJECT, request, job_id=new_id("job"))
        self.listener.heard.clear()
        Supervisor(*parts).run(job.id)
        ended = self.store.get(_PROJECT, job.id)
        if ended.state != "succeeded" or ended.ended_at is None or ended.started_at is None:
            raise RuntimeError(ended.error)
        report = json.loads(self.storage.read(keys.report_key(_PROJECT, job.id, 1)))
        epoch_s = statistics.median(epoch["seconds"] for epoch in report["steps"][1]["epochs"])
        job_s = (ended.ended_at - ended.started_at).total_seconds()
        if not self.listener.heard:
            return Measured(job_s, epoch_s)
        times, size, wall, cpu = self.listener.heard[0].groups()
        return Measured(job_s, epoch_s, int(times), int(size.replace(",", "")), float(wall), float(cpu))


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        RedisServer(Path(name) / "redis") as redis,
        ObjectStore(Path(name) / "objects") as store,
    ):
        folder = Path(name)
        model, data = folder / "model.keras", folder / "data.npz"
        subprocess.run([sys.executable, "-c", _MAKE, model, data], check=True, capture_output=True)
        bench = _Bench(folder, redis, store)
        try:
            request = bench.put(model, data)
            bench.run(request, max_progress_bytes=0)  # the first pays for the imports
            kept, none = [], []
            for _ in range(_ROUNDS):
                kept.append(bench.run(request))
                none.append(bench.run(request, max_progress_bytes=0))
        finally:
            bench.runners.stop()
    lines = [machine(), *(f"kept      {run}" for run in kept), *(f"not kept  {run}" for run in none)]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
