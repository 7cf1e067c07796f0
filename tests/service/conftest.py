"""The application in process, callers with keys, and the same service under real gunicorn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from flask import Flask
from pydantic import SecretStr

from deploy.local.object_store import ObjectStore
from deploy.local.processes import HOST, Process, free_port, wait_until
from service import create_app
from service.keys import KeyRing
from service.services import NAME, Services
from tasks.messages import new_message_key
from tasks.settings import Settings
from tests.service.helpers import PROJECT, ROOT, Caller, Served


@pytest.fixture
def app(settings: Settings, redis_client: redis.Redis) -> Flask:
    return create_app(settings)


@pytest.fixture
def parts(app: Flask) -> Services:
    """The stores, storage and queue that the application works with."""
    found: Services = app.extensions[NAME]
    return found


@pytest.fixture
def caller(app: Flask, parts: Services) -> Caller:
    return Caller(app, parts.keys.create(PROJECT))


@pytest.fixture
def admin(app: Flask, parts: Services) -> Caller:
    """Somebody of the same project who may do everything."""
    return Caller(app, parts.keys.create(PROJECT, scope="admin"))


@pytest.fixture
def stranger(app: Flask, parts: Services) -> Caller:
    """Somebody with a key of another project."""
    return Caller(app, parts.keys.create("other"))


@pytest.fixture
def with_settings(settings: Settings, redis_client: redis.Redis) -> Callable[..., Caller]:
    """A caller of an application whose settings are changed."""

    def make(**changes: Any) -> Caller:
        app = create_app(settings.model_copy(update=changes))
        return Caller(app, app.extensions[NAME].keys.create(PROJECT))

    return make


@pytest.fixture(scope="module")
def gunicorn(
    redis_url: str, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The service as it is deployed: gunicorn with deploy/gunicorn.conf.py, its metrics shared. Its URL."""
    settings = Settings(
        redis_url=redis_url,
        message_keys=SecretStr(new_message_key()),
        s3_endpoint_url=object_store.endpoint_url,
        s3_bucket=object_store.bucket,
        s3_access_key_id=SecretStr(object_store.access_key_id),
        s3_secret_access_key=SecretStr(object_store.secret_access_key),
        max_dataset_bytes=64 * 1024 * 1024,
        max_gate_bytes=0,
    )
    metrics = tmp_path_factory.mktemp("metrics")
    url = f"http://{HOST}:{free_port()}"
    process = Process(
        "gunicorn",
        [
            Path(sys.executable).with_name("gunicorn"),
            *("--config", str(ROOT / "deploy" / "gunicorn.conf.py")),
            *("--bind", url.removeprefix("http://"), "--workers", "2"),
        ],
        log=tmp_path_factory.mktemp("gunicorn") / "gunicorn.log",
        environment=_environment(settings) | {"PROMETHEUS_MULTIPROC_DIR": str(metrics)},
        directory=ROOT,
    )
    try:
        wait_until(
            lambda: httpx.get(f"{url}/healthz"), what="gunicorn", process=process, retry=(httpx.HTTPError,)
        )
        yield url
    finally:
        process.stop()


@pytest.fixture
def served(gunicorn: str, redis_client: redis.Redis) -> Iterator[Served]:
    """The service under gunicorn, with a key made for this test."""
    served = Served(gunicorn, KeyRing(redis_client).create(PROJECT))
    with served.http:
        yield served


def _environment(settings: Settings) -> dict[str, str]:
    plain = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in settings
        if value is not None
    }
    return {"PATH": "/usr/bin:/bin"} | {
        f"FEATHERWEIGHT_{name.upper()}": value for name, value in plain.items()
    }
