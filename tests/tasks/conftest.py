"""Jobs on real parts, with something misbehaving (``tests/misbehaving``) in place of the compression."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from deploy.local.redis_server import RedisServer
from featherweight.job import JobRequest
from tasks import keys
from tasks.gate import VERSION
from tasks.identifiers import new_id
from tasks.queue import Queue, make_celery
from tasks.records import JobRecord
from tasks.sandbox.children import Runners
from tasks.settings import Settings
from tasks.storage import Storage
from tasks.store import JobStore
from tasks.supervisor import Supervisor
from tests.tasks.stored_models import stored_model

PROJECT = "workshop"
MODEL = b"the bytes of a model"


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    """How workers connect."""
    return redis_server.url("worker")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "runner_warm": "",
            "lease_s": 2.0,
            "heartbeat_s": 0.5,
            "reaper_interval_s": 0.5,
            # What is lost is tried again at once, but where a test says otherwise.
            "retry_first_s": 0.0,
        }
    )


@pytest.fixture
def store(redis_client: redis.Redis, settings: Settings) -> JobStore:
    return JobStore(redis_client, settings)


@pytest.fixture
def queue(settings: Settings) -> Queue:
    return Queue(make_celery(settings))


@pytest.fixture
def runners(settings: Settings) -> Iterator[Runners]:
    runners = Runners("", settings.scratch_dir / ".home")
    yield runners
    runners.stop()


class Bench:
    """A supervisor in this process, and jobs for it."""

    def __init__(
        self,
        settings: Settings,
        client: redis.Redis,
        store: JobStore,
        storage: Storage,
        queue: Queue,
        runners: Runners,
    ) -> None:
        self.settings = settings
        self.client = client
        self.store = store
        self.storage = storage
        self.queue = queue
        self.runners = runners

    def submit(
        self, *, data: bytes = MODEL, project: str = PROJECT, gated: int | None = VERSION, **limits: int
    ) -> JobRecord:
        return submit(
            self.client, self.store, self.storage, data=data, project=project, gated=gated, **limits
        )

    def supervisor(self, misbehaviour: str, **overrides: Any) -> Supervisor:
        target = f"tests.misbehaving.{misbehaviour}:compress"
        settings = self.settings.model_copy(update={"runner_target": target, **overrides})
        return Supervisor(settings, self.client, self.store, self.storage, self.queue, self.runners)

    def run(self, misbehaviour: str, *, settings: dict[str, Any] | None = None, **limits: int) -> JobRecord:
        """A new job, run to its end here."""
        job = self.submit(**limits)
        self.supervisor(misbehaviour, **(settings or {})).run(job.id)
        return self.store.get(PROJECT, job.id)

    def log(self, job: JobRecord) -> str:
        return self.storage.read(keys.log_key(PROJECT, job.id, job.attempt)).decode()

    def keys(self, job: JobRecord) -> set[str]:
        prefix = keys.job_prefix(PROJECT, job.id)
        return {key.removeprefix(prefix) for key in self.storage.list_keys(prefix)}


@pytest.fixture
def bench(
    settings: Settings,
    redis_client: redis.Redis,
    store: JobStore,
    storage: Storage,
    queue: Queue,
    runners: Runners,
) -> Bench:
    return Bench(settings, redis_client, store, storage, queue, runners)


def submit(
    client: redis.Redis,
    store: JobStore,
    storage: Storage,
    *,
    data: bytes = MODEL,
    project: str = PROJECT,
    gated: int | None = VERSION,
    **limits: int,
) -> JobRecord:
    """A stored model and a queued job for it, which nobody has been told of. The bytes are none of a model:
    what misbehaves here is the runner, so the gate is said to have let them in."""
    model_id = stored_model(client, storage, project, data, gated=gated)
    return store.create(project, request(model_id, **limits), job_id=new_id("job"))


def request(model_id: str = "mdl_a", **limits: int) -> JobRequest:
    return JobRequest.model_validate(
        {"model_id": model_id, "spec": {"steps": [{"technique": "prune"}]}, "limits": limits}
    )


def eventually(condition: Callable[[], Any], *, timeout_s: float = 15) -> Any:
    """What `condition` answers once it is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{condition} has not come true within {timeout_s} s")
        time.sleep(0.05)
    return found


def pids(store: JobStore, job: JobRecord) -> list[int]:
    """The processes that a job has told of."""
    messages = [event.get("message", "") for _, event in store.events(PROJECT, job.id)]
    return [int(message.removeprefix("pid ")) for message in messages if message.startswith("pid ")]


def is_alive(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
