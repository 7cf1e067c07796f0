"""Redis loses everything under a running service, and ``rebuild-index`` brings it back."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stack import ROOT, LocalStack
from featherweight import AuthenticationError, Client, JobCancelled
from tasks import keys
from tasks.storage import Storage
from tests.tasks.conftest import eventually

pytestmark = [pytest.mark.slow]

QUICK = {"steps": [{"technique": "quantize", "scheme": "dynamic_int8"}]}


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """One of its own: what others have in theirs is not to be lost."""
    directory = tmp_path_factory.mktemp("lost-redis")
    with LocalStack(
        directory, queues=["tensorflow"], lease_s=6, heartbeat_s=1, reaper_interval_s=1, stale_queued_s=3
    ) as stack:
        yield stack


def admin(stack: LocalStack, *arguments: str) -> str:
    """What the command says; its exit code must be 0."""
    done = subprocess.run(
        [ROOT / "deploy" / "featherweight-admin", *arguments],
        env=stack.environment(),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def made_model(path: Path) -> Path:
    layers = "[keras.layers.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(2)]"
    code = f"import sys, tf_keras as keras; keras.Sequential({layers}).save(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True)
    return path


def test_everything_is_there_again_and_what_was_queued_gets_done(
    own_stack: LocalStack, tmp_path: Path
) -> None:
    stack = own_stack
    path = made_model(tmp_path / "dense.keras")
    with Client(stack.url, stack.api_key) as client:
        model = client.models.upload(path)
        done = client.compress(model, QUICK, name="done").wait(timeout=120)
        client.pause_project()
        cancelled = client.compress(model, QUICK).cancel()
        with pytest.raises(JobCancelled):
            cancelled.wait(timeout=10)
        result = keys.result_key(client.project().name, cancelled.id)
        eventually(lambda: Storage(stack.settings).exists(result))
        waiting = client.compress(model, QUICK, metadata={"for": "later"})
        before = {job.id: job for job in client.jobs.list()}
        ids = [job.id for job in client.jobs.list()]
        stored = client.usage().stored
        assert waiting.refresh().state == "queued"
        with stack.redis as redis:
            redis.flushall()
        with pytest.raises(AuthenticationError):
            client.jobs.get(waiting.id)
    said = admin(stack, "rebuild-index")
    assert "models: 1 restored; 0 were there already" in said
    assert "jobs: 3 restored, 1 of them queued again; 0 were there already" in said
    assert "not restored: 0" in said
    key = re.search(r"fw_\S+", admin(stack, "keys", "create", "--project", "local"))
    assert key is not None
    with Client(stack.url, key[0]) as client:
        assert client.job(waiting.id).wait(timeout=120).job.attempt == 2
        assert [job.id for job in client.jobs.list()] == ids
        assert [each.id for each in client.models.list()] == [model.id]
        for job in (done, cancelled):
            again = client.jobs.get(job.id)
            assert again == before[job.id]
        files = client.job(done.id).download(tmp_path / "out")
        assert {file.name for file in files} == {artifact.name for artifact in done.job.artifacts}
        assert client.usage().stored["models"] == stored["models"]
        assert client.usage().stored["job_files"] > stored["job_files"]
        # And the service, which was never restarted, and its worker go on as ever.
        assert client.compress(model, QUICK).wait(timeout=60).state == "succeeded"
    assert "jobs: 0 restored, 0 of them queued again; 4 were there already" in admin(stack, "rebuild-index")
