"""The API is restarted, or killed, in the middle of what takes long: the client carries on by itself."""

from __future__ import annotations

import signal
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.stack import LocalStack
from featherweight import Client, _uploads
from featherweight.job import JobRequest
from tasks.identifiers import new_id
from tasks.store import JobStore
from tests.benchmarks.tutorial_job import SPEC
from tests.faults.proxy import Answer, Cut, FaultProxy, Slow

pytestmark = [pytest.mark.slow, pytest.mark.stack]

MIB = 1024 * 1024
SIGNALS = pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "kill -9"])


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, proxy: FaultProxy) -> Iterator[LocalStack]:
    """No worker: what is tried here is the way in."""
    directory = tmp_path_factory.mktemp("restarts")
    stack = LocalStack(
        directory, workers=0, s3_endpoint_url=proxy.url, upload_part_bytes=5 * MIB, max_gate_bytes=0
    )
    proxy.target = stack.object_store.ports.s3
    with stack:
        yield stack


@pytest.fixture
def client(api: LocalStack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Client]:
    monkeypatch.setattr(_uploads, "PART_BYTES", 5 * MIB)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Client(api.url, api.api_key) as client:
        yield client


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """24 MiB that begin as a data set does."""
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("x_train.npy", bytes(24 * MIB))
    return path


def _restart(api: LocalStack, end: signal.Signals) -> None:
    """As a process manager would: a new one as soon as the old one is gone."""
    assert api.api is not None
    if end == signal.SIGTERM:
        began = time.monotonic()
        api.api.stop(timeout_s=25)
        assert time.monotonic() - began < 15
    else:
        api.api.kill()
    api.start_api()


def _meanwhile(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """What `work` answered, or what it raised, once the thread has ended."""
    ended: list[Any] = []

    def run() -> None:
        try:
            ended.append(work())
        except Exception as error:  # noqa: BLE001 - seen by the test
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, ended


def _left(api: LocalStack) -> int:
    """Uploads in parts that nobody has ended."""
    s3 = api.object_store.client()
    try:
        found = s3.list_multipart_uploads(Bucket=api.settings.s3_bucket)
    finally:
        s3.close()
    return len(found.get("Uploads", []))


@SIGNALS
def test_an_upload_in_parts_is_completed_by_the_next_process(
    api: LocalStack, client: Client, proxy: FaultProxy, archive: Path, end: signal.Signals
) -> None:
    with proxy.fault(Slow(bytes_per_s=4 * MIB)):
        thread, ended = _meanwhile(lambda: client.datasets.upload(archive))
        time.sleep(1.5)
        _restart(api, end)
    thread.join(90)
    (dataset,) = ended
    assert dataset.bytes == archive.stat().st_size
    assert _left(api) == 0


@SIGNALS
def test_a_streamed_upload_is_sent_again_and_makes_one_data_set(
    api: LocalStack, client: Client, proxy: FaultProxy, archive: Path, end: signal.Signals
) -> None:
    before = {dataset.id for dataset in client.datasets.list()}
    file = _uploads.SourceFile.open(archive, part_bytes=5 * MIB)
    uploader = client.datasets._uploader  # type: ignore[attr-defined]
    tally = _uploads._Tally(file.size, None)
    with proxy.fault(Slow(bytes_per_s=4 * MIB)):
        thread, ended = _meanwhile(
            lambda: uploader._sent_through_api("/v1/datasets", _uploads.Dataset, file, tally)
        )
        time.sleep(1.5)
        _restart(api, end)
    # A minute may pass until the first try, which died with its process, is let go of.
    thread.join(120)
    (dataset,) = ended
    assert _left(api) == 0
    assert {each.id for each in client.datasets.list()} - before == {dataset.id}
    assert dataset.bytes == file.size


@SIGNALS
def test_an_event_stream_and_a_wait_go_on_with_the_next_process(
    api: LocalStack, client: Client, end: signal.Signals
) -> None:
    with api.redis as redis:
        store = JobStore(redis, api.settings)
        request = JobRequest.model_validate({"model_id": new_id("model"), "spec": SPEC})
        job_id = new_id("job")
        store.create("local", request, job_id=job_id)
        reading, events = _meanwhile(lambda: [event.type for event in client.jobs.events(job_id)])
        waiting, waited = _meanwhile(lambda: client.jobs.wait(job_id, timeout=60))
        time.sleep(1)
        _restart(api, end)
        client.jobs.cancel(job_id)
        for thread in (reading, waiting):
            thread.join(40)
    # Each of them once, although the stream was broken in between.
    assert events == [["state", "log", "state"]] or events == [["state", "state"]]
    assert type(waited[0]).__name__ == "JobCancelled"


def test_an_upload_outlives_a_storage_that_answers_500_and_one_that_cuts(
    client: Client, api: LocalStack, proxy: FaultProxy, archive: Path
) -> None:
    proxy.set(Cut(after_bytes=2 * MIB))
    thread, ended = _meanwhile(lambda: client.datasets.upload(archive))
    time.sleep(4)
    proxy.set(Answer(500))
    time.sleep(4)
    with proxy.fault(Answer(503, share=0.2)):
        time.sleep(2)
    thread.join(90)
    (dataset,) = ended
    assert dataset.bytes == archive.stat().st_size
    assert proxy.seen["Cut"] > 0
    assert proxy.seen["Answer"] > 0
    assert _left(api) == 0
