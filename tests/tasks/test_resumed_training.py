"""A training broken off in its third epoch of five goes on there on another machine, to the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from featherweight.job import JobRequest
from tasks import keys
from tasks.gate import VERSION
from tasks.identifiers import new_id
from tasks.records import DatasetRecord, JobRecord, ModelRecord
from tasks.recordstore import RecordStore
from tasks.sandbox.children import Runners
from tests.tasks.conftest import PROJECT, Bench, eventually, is_alive
from tests.tasks.test_worker import Workers, done

pytestmark = pytest.mark.slow

WARM = "tasks.compression.backends.tensorflow:warm"
RISING = {"type": "polynomial_decay", "initial_sparsity": 0.2, "final_sparsity": 0.7, "frequency": 3}
SPEC = {
    "steps": [
        {"technique": "decompose", "rank": {"type": "budget", "keep": 0.6}},
        {"technique": "prune", "schedule": RISING},
        {"technique": "finetune", "epochs": 5, "batch_size": 16, "keep_best": True},
    ],
    "outputs": ["keras", "tflite"],
    "seed": 7,
}
ONE_THREAD = {"runner_threads": 1, "progress_interval_s": 0, "runner_warm": WARM}

MAKE = """
import sys, numpy as np, tf_keras as keras
keras.utils.set_random_seed(0)
layers = keras.layers
model = keras.Sequential([
    layers.InputLayer((8, 8)), layers.Reshape((8, 8, 1)), layers.Conv2D(8, 3, activation="relu"),
    layers.BatchNormalization(), layers.Flatten(), layers.Dropout(0.3), layers.Dense(32, activation="relu"),
    layers.Dense(4),
])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
x = np.random.default_rng(0).random((240, 8, 8), np.float32)
y = (4 * x.mean(axis=(1, 2)) % 1 * 4).astype(np.int64)
model.fit(x, y, epochs=1, verbose=0)
model.save(sys.argv[1])
np.savez(sys.argv[2], x=x, y=y)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network with dropout and batch normalisation, and samples for 12 steps an epoch."""
    folder = tmp_path_factory.mktemp("network")
    model, data = folder / "model.keras", folder / "data.npz"
    subprocess.run([sys.executable, "-c", MAKE, model, data], check=True, capture_output=True)
    return model, data


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runners]:
    runners = Runners(WARM, tmp_path_factory.mktemp("home"))
    yield runners
    runners.stop()


@pytest.fixture
def training(bench: Bench, warm: Runners) -> Bench:
    bench.runners = warm
    return bench


def submit(bench: Bench, files: tuple[Path, Path]) -> JobRecord:
    common = {
        "framework": "tensorflow",
        "created_at": datetime.now(UTC),
        "project": PROJECT,
        "gated": VERSION,
    }
    stored = {}
    for kind, form, path in (("model", "keras_zip", files[0]), ("dataset", "npz", files[1])):
        content, id_ = path.read_bytes(), new_id(kind)
        key = getattr(keys, f"{kind}_key")(PROJECT, id_)
        bench.storage.put_bytes(key, content)
        digest = hashlib.sha256(content).hexdigest()
        stored[kind] = {"id": id_, "filename": path.name, "format": form, "bytes": len(content)}
        stored[kind] |= {"sha256": digest, "key": key, **common}
    model = ModelRecord.model_validate(stored["model"])
    data = DatasetRecord.model_validate(stored["dataset"])
    RecordStore(bench.client, "model", ModelRecord).put(PROJECT, model)
    RecordStore(bench.client, "dataset", DatasetRecord).put(PROJECT, data)
    request = JobRequest.model_validate({"model_id": model.id, "dataset_id": data.id, "spec": SPEC})
    return bench.store.create(PROJECT, request, job_id=new_id("job"))


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """Of the undisturbed run, once it was done."""
    return {}


@pytest.fixture
def undisturbed(training: Bench, files: tuple[Path, Path], results: dict[str, Any]) -> dict[str, Any]:
    if not results:
        job = submit(training, files)
        target = {"runner_target": "tests.misbehaving.trains:undisturbed"}
        training.supervisor("trains", **ONE_THREAD, **target).run(job.id)
        ended = training.store.get(PROJECT, job.id)
        assert (ended.state, ended.attempt) == ("succeeded", 1), ended.error
        results.update(result(training, ended))
    return results


def result(bench: Bench, job: JobRecord) -> dict[str, Any]:
    """What must be the same: files by digest, what was measured of them, and of every epoch."""
    report = report_of(bench, job)
    epochs = [
        {name: value for name, value in epoch.items() if name != "seconds"}
        for step in report["steps"]
        for epoch in step["epochs"]
    ]
    measured = [
        {name: value for name, value in output.items() if name != "latency"} for output in report["outputs"]
    ]
    digests = {each.name: each.sha256 for each in job.artifacts if each.name.startswith("model")}
    assert len(epochs) == 5
    assert len(digests) == 2
    return {"digests": digests, "epochs": epochs, "outputs": measured, "verdict": job.verdict}


def report_of(bench: Bench, job: JobRecord) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(bench.storage.read(keys.report_key(PROJECT, job.id, job.attempt)))
    return told


def stays(bench: Bench, job: JobRecord) -> bool:
    return "stays" in str(bench.store.events(PROJECT, job.id))


def is_stored(bench: Bench, job: JobRecord) -> bool:
    """Whether the checkpoint of its second epoch is, the last there will be while it stays."""
    (written,) = (bench.settings.scratch_dir / job.id / "work" / "checkpoints").iterdir()
    try:
        index = bench.storage.get_json(keys.progress_index_key(PROJECT, job.id, 1))
    except FileNotFoundError:
        return False
    digest = hashlib.sha256(written.read_bytes()).hexdigest()
    return digest in {file["sha256"] for file in index["files"]}


def assert_went_on(bench: Bench, job: JobRecord, expected: dict[str, Any], *, attempt: int = 2) -> None:
    ended = bench.store.get(PROJECT, job.id)
    assert (ended.state, ended.attempt) == ("succeeded", attempt), ended.error
    place = ended.attempts[-1].resumed_from
    assert place is not None
    assert (place.step, place.epoch) == (2, 2)
    steps = report_of(bench, ended)["steps"]
    assert [step["reused"] for step in steps] == [True, True, False]
    assert steps[2]["details"]["resumed_from_epoch"] == 2
    assert result(bench, ended) == expected
    assert not [key for key in bench.keys(job) if key.startswith("progress/")]


@pytest.mark.parametrize("victim", ["runner", "fork_server"])
def test_runner_killed_in_its_third_epoch(
    victim: str, training: Bench, files: tuple[Path, Path], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    job = submit(training, files)
    thread = threading.Thread(target=training.supervisor("trains", **ONE_THREAD).run, args=(job.id,))
    thread.start()
    eventually(lambda: stays(training, job), timeout_s=60)
    eventually(lambda: is_stored(training, job))
    server = training.runners.server_pid
    assert server is not None
    (runner,) = psutil.Process(server).children()
    os.kill(server if victim == "fork_server" else runner.pid, signal.SIGKILL)
    thread.join(30)
    lost = training.store.get(PROJECT, job.id)
    assert (lost.state, lost.losses) == ("queued", 1)
    eventually(lambda: not is_alive(runner.pid))
    training.client.zadd(f"fw:later:{job.queue}", {job.id: 0})  # it need not rest
    training.supervisor("trains", **ONE_THREAD, scratch_dir=tmp_path / "elsewhere").run(job.id)
    assert_went_on(training, job, undisturbed)


def test_worker_told_to_stop_in_the_third_epoch_of_its_job(
    training: Bench, files: tuple[Path, Path], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    job = submit(training, files)
    supervisor = training.supervisor("trains", **{**ONE_THREAD, "progress_interval_s": 3600})
    thread = threading.Thread(target=supervisor.run, args=(job.id,))
    thread.start()
    eventually(lambda: stays(training, job), timeout_s=60)
    supervisor.stop()
    thread.join(30)
    released = training.store.get(PROJECT, job.id)
    assert (released.state, released.attempts[0].ended_because) == ("queued", "worker_stopped")
    training.supervisor("trains", **ONE_THREAD, scratch_dir=tmp_path / "elsewhere").run(job.id)
    ended = training.store.get(PROJECT, job.id)
    place = ended.attempts[1].resumed_from
    assert place is not None
    # The third epoch ended while it had the moment that it is given.
    assert (place.step, place.epoch) == (2, 3)
    assert result(training, ended) == undisturbed


def test_worker_killed_in_the_third_epoch_of_its_job(
    training: Bench, files: tuple[Path, Path], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    job = submit(training, files)
    training.queue.enqueue(job.id)
    workers = Workers(training, tmp_path)
    try:
        first = workers.start("trains", **ONE_THREAD)
        eventually(lambda: stays(training, job), timeout_s=90)
        eventually(lambda: is_stored(training, job))
        first.kill()
        first.wait()
        workers.start("trains", **ONE_THREAD, scratch_dir=tmp_path / "elsewhere")
        eventually(lambda: done(training, job), timeout_s=120)
        eventually(lambda: training.client.zscore("fw:unsettled", job.id) is None)
    finally:
        workers.stop()
    assert_went_on(training, job, undisturbed)
    first_try, second = training.store.get(PROJECT, job.id).attempts
    assert first_try.ended_because == "worker_lost"
    assert first_try.worker != second.worker
