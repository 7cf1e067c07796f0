from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis
from flask import Flask

from featherweight.client import Client
from service import create_app
from service.services import NAME
from tasks.settings import Settings
from tests.clients.fake_service import FakeClock, FakeService

SPEC = {"steps": [{"technique": "prune"}, {"technique": "finetune"}, {"technique": "quantize"}]}


@pytest.fixture(autouse=True)
def own_cache_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FEATHERWEIGHT_URL", raising=False)
    monkeypatch.delenv("FEATHERWEIGHT_API_KEY", raising=False)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def client(service: FakeService, clock: FakeClock) -> Iterator[Client]:
    with service.client(clock) as client:
        yield client


@pytest.fixture
def app(settings: Settings, redis_client: redis.Redis) -> Flask:
    """The service itself, called without a network."""
    return create_app(settings)


@pytest.fixture
def connect(app: Flask) -> Callable[..., Client]:
    key = app.extensions[NAME].keys.create("clients")
    return lambda *_: Client("http://api.test", key, transport=httpx.WSGITransport(app))


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.keras"
    path.write_bytes(bytes(range(256)) * 17)  # five parts, the last of them short
    return path
