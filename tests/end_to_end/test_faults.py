"""Jobs that are killed, cancelled and limited, on the running stack."""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from deploy.local.demo import SPEC
from deploy.local.stack import LocalStack
from featherweight import Client, JobCancelled, JobFailed, JobHandle
from tests.conftest import Digits

pytestmark = [pytest.mark.slow, pytest.mark.stack]

QUICK = {"steps": [{"technique": "quantize", "scheme": "dynamic_int8"}]}


# Of less than half a second each: long enough to be hit in the middle.
EPOCHS = 16


def lengthy(epochs: int = EPOCHS) -> dict[str, Any]:
    """The demo's job, trained for longer."""
    spec = copy.deepcopy(SPEC)
    spec["steps"][1]["epochs"] = epochs
    return spec


@pytest.fixture(scope="module", autouse=True)
def loaded(stack: LocalStack, digits: Digits) -> None:
    """A first job, so that the worker has loaded what it needs."""
    with Client(stack.url, stack.api_key) as client:
        client.compress(digits.model, QUICK).wait(timeout=120)


@pytest.fixture
def in_training(client: Client, digits: Digits) -> Iterator[JobHandle]:
    """A job that is in the middle of fine-tuning."""
    job = client.compress(digits.model, lengthy(), dataset=digits.data)
    with job.events() as events:
        for event in events:
            if event.type == "progress" and event.stage.startswith("finetune"):
                break
    yield job
    if not job.refresh().done:
        job.cancel()


def test_a_job_whose_worker_is_killed_succeeds_once(stack: LocalStack, in_training: JobHandle) -> None:
    stack.kill_worker()
    stack.start_worker()
    job = in_training.wait(timeout=240).job
    assert job.state == "succeeded"
    assert job.attempt == 2
    assert [attempt.ended_because for attempt in job.attempts] == ["worker_lost", "succeeded"]
    states = [event.state for event in in_training.events() if event.type == "state"]
    assert states.count("succeeded") == 1
    names = [artifact.name for artifact in in_training.artifacts()]
    assert len(names) == len(set(names))
    assert in_training.report().verdict == "smaller"


def test_no_runner_outlives_its_killed_worker(stack: LocalStack, in_training: JobHandle) -> None:
    descendants = psutil.Process(stack.workers[-1].pid).children(recursive=True)
    assert len(descendants) >= 2  # the fork server and the runner
    stack.kill_worker()
    _, alive = psutil.wait_procs(descendants, timeout=5)
    assert alive == []
    stack.start_worker()
    in_training.wait(timeout=240)


def test_a_worker_told_to_stop_gives_its_job_back_at_once(stack: LocalStack, in_training: JobHandle) -> None:
    with in_training.events() as events:
        next(event for event in events if event.type == "progress" and event.step)  # what may be kept
    stopped = stack.workers.pop()
    stopped.stop(timeout_s=15)
    assert in_training.refresh().state == "queued"
    stack.start_worker()
    job = in_training.wait(timeout=240).job
    assert job.state == "succeeded"
    trained = next(step for step in in_training.report().steps if step.technique == "finetune")
    assert trained.details["resumed_from_step"] > 0
    assert [epoch.epoch for epoch in trained.epochs] == list(range(1, EPOCHS + 1))


def test_a_job_outlives_a_crash_of_redis(stack: LocalStack, in_training: JobHandle) -> None:
    assert stack.redis_server is not None
    time.sleep(1.2)  # the append-only file is written out every second
    stack.redis_server.kill()
    time.sleep(1)
    stack.redis_server.start()
    job = in_training.wait(timeout=240).job
    assert job.state == "succeeded"
    assert [attempt.ended_because for attempt in job.attempts].count("succeeded") == 1


def test_a_job_outlives_a_crash_of_the_object_store(stack: LocalStack, in_training: JobHandle) -> None:
    stack.object_store.kill()
    time.sleep(1)
    stack.object_store.start()
    assert in_training.wait(timeout=240).state == "succeeded"
    assert in_training.report().verdict == "smaller"


def test_cancel_ends_a_running_job_and_the_worker_goes_on(
    client: Client, in_training: JobHandle, digits: Digits
) -> None:
    in_training.cancel()
    with pytest.raises(JobCancelled):
        in_training.wait(timeout=15)
    assert in_training.cancel().state == "cancelled"
    assert client.compress(digits.model, QUICK).wait(timeout=60).state == "succeeded"


def test_a_training_that_diverges_hands_over_its_last_good_model(client: Client, tmp_path: Path) -> None:
    model = tmp_path / "sum.keras"
    layers = "[keras.layers.Input((4,)), keras.layers.Dense(40), keras.layers.Dense(1)]"
    seeded = "import sys, tf_keras as keras; keras.utils.set_random_seed(0)"
    code = f"{seeded}; keras.Sequential({layers}).save(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, model], check=True, capture_output=True)
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    np.savez(tmp_path / "sums.npz", x=x, y=x.sum(axis=1))
    rising = {"type": "constant", "warmup_steps": 1000}
    step = {"technique": "finetune", "epochs": 40, "batch_size": 16, "optimizer": "sgd"}
    spec = {"steps": [{**step, "learning_rate": 10.0, "learning_rate_schedule": rising}]}
    job = client.compress(model, spec, dataset=tmp_path / "sums.npz")
    with pytest.raises(JobFailed, match=r"checkpoint\.keras is the model") as failed:
        job.wait(timeout=240)
    assert failed.value.problem is not None
    assert failed.value.problem.code == "training_diverged"
    (path,) = job.download(tmp_path / "out")
    assert path.name == "checkpoint.keras"
    # Worth going on with: the service takes it as a model again.
    assert client.compress(path, QUICK).wait(timeout=60).state == "succeeded"


def test_a_job_over_its_time_is_stopped(client: Client, digits: Digits) -> None:
    job = client.compress(digits.model, lengthy(1000), dataset=digits.data, limits={"max_run_s": 6})
    with pytest.raises(JobFailed) as failed:
        job.wait(timeout=60)
    assert failed.value.job.error is not None
    assert failed.value.job.error.code == "time_limit"


def test_a_killed_runner_is_tried_again_and_its_worker_goes_on(
    stack: LocalStack, in_training: JobHandle
) -> None:
    worker = psutil.Process(stack.workers[-1].pid)
    runner = max(worker.children(recursive=True), key=lambda process: process.create_time())
    runner.kill()
    job = in_training.wait(timeout=240).job
    assert [attempt.ended_because for attempt in job.attempts] == ["runner_killed", "succeeded"]
    assert (job.attempts[0].signal, job.attempts[0].counted) == ("SIGKILL", True)
    assert worker.is_running()
