"""Real parts for the tests, started once for the session: a Redis, an S3 server, the whole stack.

Redis has the users of ``deploy/redis.acl``, and what is tested is one of them: the service's in most tests,
the worker's in ``tests/tasks``. `redis_admin` is for what a test wants to see or do itself.

Storage is shared by all tests of a session, so keys and ids must not collide; Redis is emptied
before every test that asks for `redis_client`. The stack has a Redis and a storage of its own.
"""

from __future__ import annotations

import fcntl
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from deploy.local.object_store import ObjectStore
from deploy.local.redis_server import RedisServer
from tests.thinning import thin

if TYPE_CHECKING:
    import redis

    from deploy.local.stack import LocalStack
    from featherweight import Client
    from tasks.settings import Settings
    from tasks.storage import Storage


# Frameworks that a test starts must neither fill the log nor fight over two cores.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

# Tests that wait, mostly, for processes; tests that compute; and, last, files of which none takes long.
_WAITING = ("chaos", "end_to_end", "fuzzing", "tasks", "webhooks")
_COMPUTING = ("conformance", "compression")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Some combinations of parameters; files that wait and files that compute in turn, the short ones after
    them: workers that take one after the other use the machine evenly and end together. Within a file nothing
    changes."""
    thin(config, items)
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    folders = {name: Path(name).parts[1] for name in files}
    waiting = [name for name in files if folders[name] in _WAITING]
    computing = [name for name in files if folders[name] in _COMPUTING]
    others = [name for name in files if folders[name] not in _WAITING + _COMPUTING]
    in_turn = [name for pair in zip_longest(waiting, computing) for name in pair if name is not None]
    items[:] = [item for name in (*in_turn, *others) for item in files[name]]


def pytest_collection_finish() -> None:
    """What was imported stays, and is much: garbage is collected without looking at all of it each time (of
    five trainings by TensorFlow, measured twice, that was an eighth of the processor's time)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


MESSAGE_KEY = "messages of the tests are signed with this"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    # Never the one of $REDIS_URL: these tests empty it, and kill it.
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    """How the service connects."""
    return redis_server.url("api")


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    store = ObjectStore(tmp_path_factory.mktemp("object-store")).start()
    yield store
    # Nothing is to be kept, and to end in order takes it seconds.
    store.kill()


@pytest.fixture
def settings(redis_url: str, object_store: ObjectStore, tmp_path: Path) -> Settings:
    """The service's and the worker's settings on the session's Redis and object store."""
    from pydantic import SecretStr

    from tasks.settings import Settings

    return Settings(
        redis_url=redis_url,
        message_keys=SecretStr(MESSAGE_KEY),
        s3_endpoint_url=object_store.endpoint_url,
        s3_bucket=object_store.bucket,
        s3_access_key_id=SecretStr(object_store.access_key_id),
        s3_secret_access_key=SecretStr(object_store.secret_access_key),
        scratch_dir=tmp_path / "scratch",
        # Most tests of the service send first bytes alone; those of the gate set it.
        max_gate_bytes=0,
    )


@pytest.fixture
def storage(settings: Settings) -> Storage:
    from tasks.storage import Storage

    return Storage(settings)


@pytest.fixture
def redis_admin(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of the session's Redis that may do everything. Redis is emptied first."""
    import redis

    client = redis.Redis.from_url(redis_server.url("admin"))
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def redis_client(redis_url: str, redis_admin: redis.Redis) -> Iterator[redis.Redis]:
    """A client that may do what the service may, of the session's Redis, which is emptied first."""
    import redis

    client = redis.Redis.from_url(redis_url)
    yield client
    client.close()


class Digits(NamedTuple):
    """The trained CNN and the real digits of the demo."""

    model: Path
    data: Path


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    from deploy.local.digits import DATA, MODEL

    directory = tmp_path_factory.mktemp("digits")
    if os.environ.get("PYTEST_XDIST_WORKER"):
        # The folder of the whole run, that of this worker's being in it: trained once for all of them.
        directory = tmp_path_factory.getbasetemp().parent / "digits"
        directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "trained").exists():
            # In a process of its own: TensorFlow would stay in this one.
            command = [sys.executable, "-m", "deploy.local.digits", directory]
            subprocess.run(command, check=True, capture_output=True)
            (directory / "trained").touch()
    return Digits(directory / MODEL, directory / DATA)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Redis, S3, the API and one worker, all real. Leases are short: tests kill workers and wait."""
    from deploy.local.stack import LocalStack

    directory = tmp_path_factory.mktemp("stack")
    options = {"lease_s": 6, "heartbeat_s": 1, "reaper_interval_s": 1, "stale_queued_s": 5}
    # Of one framework: every worker that a test starts would load the other as well.
    with LocalStack(directory, queues=["tensorflow"], **options) as running:
        yield running


@pytest.fixture
def client(stack: LocalStack) -> Iterator[Client]:
    """The client library on the stack's API."""
    from featherweight import Client

    with Client(stack.url, stack.api_key) as client:
        yield client
