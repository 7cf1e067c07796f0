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

from deploy.local.processes import HOST, Process, free_port, wait_until
from service import create_app
from service.keys import KeyRing
from service.services import NAME, Services
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


@pytest.fixture
def served(settings: Settings, redis_client: redis.Redis, tmp_path: Path) -> Iterator[Served]:
    """The service as it is deployed: gunicorn with deploy/gunicorn.conf.py, one process of it."""
    small = settings.model_copy(update={"max_dataset_bytes": 64 * 1024 * 1024})
    url = f"http://{HOST}:{free_port()}"
    gunicorn = Process(
        "gunicorn",
        [
            Path(sys.executable).with_name("gunicorn"),
            *("--config", str(ROOT / "deploy" / "gunicorn.conf.py")),
            *("--bind", url.removeprefix("http://"), "--workers", "1"),
        ],
        log=tmp_path / "gunicorn.log",
        environment=_environment(small),
        directory=ROOT,
    )
    try:
        wait_until(
            lambda: httpx.get(f"{url}/healthz"), what="gunicorn", process=gunicorn, retry=(httpx.HTTPError,)
        )
        served = Served(url, KeyRing(redis_client).create(PROJECT), gunicorn.pid)
        with served.http:
            yield served
    finally:
        gunicorn.stop()


def _environment(settings: Settings) -> dict[str, str]:
    plain = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in settings
        if value is not None
    }
    return {"PATH": "/usr/bin:/bin"} | {
        f"FEATHERWEIGHT_{name.upper()}": value for name, value in plain.items()
    }
