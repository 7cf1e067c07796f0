"""A queue for each framework: what a worker imports beforehand, and what is announced where."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.compression.catalogue import BACKENDS
from tasks.identifiers import new_id
from tasks.queue import JOB_QUEUES, queue_of
from tasks.reaper import Reaper
from tasks.sandbox.children import Runners
from tasks.settings import Settings
from tasks.targets import resolve
from tasks.warming import warm_targets
from tests.tasks.conftest import PROJECT, Bench, request

WARM = "tasks.compression.backends.{}:warm"


def test_every_framework_has_its_queue() -> None:
    assert [queue_of(framework) for framework in BACKENDS] == list(JOB_QUEUES)
    with pytest.raises(ValueError, match="abacus"):
        queue_of("abacus")


@pytest.mark.parametrize(
    ("queues", "warmed"),
    [
        (["tensorflow"], ["tensorflow"]),
        (["torch"], ["torch"]),
        (["torch", "tensorflow"], ["tensorflow", "torch"]),
        (["webhooks"], []),
    ],
)
def test_a_worker_imports_the_frameworks_of_the_queues_it_serves(
    queues: list[str], warmed: list[str]
) -> None:
    targets = warm_targets(Settings(runner_warm=None), queues)
    assert targets == tuple(WARM.format(name) for name in warmed)
    assert all(callable(resolve(target)) for target in targets)


def test_what_to_import_may_be_said(settings: Settings) -> None:
    said = settings.model_copy(update={"runner_warm": "a.b:c, d:e"})
    assert warm_targets(said, JOB_QUEUES) == ("a.b:c", "d:e")
    assert warm_targets(settings.model_copy(update={"runner_warm": ""}), JOB_QUEUES) == ()


def test_a_fork_server_imports_all_it_is_told(tmp_path: Path) -> None:
    """One that cannot import the second is gone; one that can goes on."""
    runners = Runners("", tmp_path)
    runners.warm_up(["platform:python_version", "nowhere:warm"])
    assert runners._process is not None
    assert runners._process.wait(30) != 0
    runners.stop()


def test_a_forgotten_job_is_announced_in_its_own_queue(bench: Bench) -> None:
    of_keras = bench.submit()
    job = bench.store.create(PROJECT, request(), job_id=new_id("job"), queue="torch")
    for queue in JOB_QUEUES:
        bench.client.delete(queue)
    bench.client.zadd("fw:hints", {job.id: 0, of_keras.id: 0}, xx=True)
    Reaper(bench.settings, bench.client, bench.store, bench.storage, bench.queue).look()
    assert bench.queue.hinted("torch") == {job.id}
    assert bench.queue.hinted("tensorflow") == {of_keras.id}
