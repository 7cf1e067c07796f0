"""The courier as a process: beside a dead receiver, killed in the middle of a delivery, without its Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import redis

from deploy.local.redis_server import RedisServer
from tasks.settings import Settings
from tests.conftest import MESSAGE_KEY
from tests.tasks.conftest import eventually
from tests.webhooks.conftest import Office, with_settings
from tests.webhooks.receiver import Received, Receiver, answer

ROOT = Path(__file__).parents[2]


class Couriers:
    """As operators start them. They find no worker, whose reaper could help."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, settings: Settings) -> subprocess.Popen[bytes]:
        names = [name for name in Settings.model_fields if name.startswith("webhook_")]
        environment = {f"FEATHERWEIGHT_{name.upper()}": str(getattr(settings, name)) for name in names}
        environment |= {
            "FEATHERWEIGHT_REDIS_URL": settings.redis_url,
            "FEATHERWEIGHT_MESSAGE_KEYS": MESSAGE_KEY,
            "FEATHERWEIGHT_SCRATCH_DIR": str(settings.scratch_dir),
            "FEATHERWEIGHT_VISIBILITY_TIMEOUT_S": "5",
        }
        with (self._logs / f"courier-{len(self.started)}.log").open("wb") as log:
            command = [sys.executable, "-m", "celery", "--app=tasks.courier", "worker", "--concurrency=16"]
            courier = subprocess.Popen(
                [*command, "--queues=webhooks,schedules"],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
            )
        self.started.append(courier)
        return courier

    def stop(self) -> None:
        for courier in self.started:
            with suppress(ProcessLookupError):
                courier.kill()
            courier.wait()


@pytest.fixture
def couriers(tmp_path: Path) -> Iterator[Couriers]:
    couriers = Couriers(tmp_path)
    yield couriers
    couriers.stop()


def seen(served: Receiver, path: str = "/hook") -> list[Received]:
    return served.at(path)


@pytest.mark.slow
def test_a_dead_receiver_with_200_events_delays_no_other(office: Office, couriers: Couriers) -> None:
    """Each of its requests takes until the deadline; those of the other are there at once."""
    silent = threading.Event()
    office.served.behaviours["/dead"] = lambda handler: silent.wait(20) and None
    office = with_settings(office, webhook_retry_delays_s="60", webhook_timeout_s=2)
    dead = office.endpoint("/dead", events=["job.failed"])
    healthy = office.endpoint("/healthy", events=["job.succeeded"])
    for number in range(200):
        office.tell(f"job_{number}", "job.failed")
    couriers.start(office.settings)
    eventually(lambda: seen(office.served, "/dead"), timeout_s=15)
    told: dict[str, float] = {}
    for number in range(50):
        at = time.monotonic()
        office.tell(f"job_{number}", "job.succeeded")
        told[office.log(healthy)[0].event_id] = at
        time.sleep(0.05)
    eventually(lambda: len(seen(office.served, "/healthy")) == 50)
    latencies = sorted(request.at - told[request.id] for request in seen(office.served, "/healthy"))

    # A request to the dead one takes 2 s, and all of them one after the other would take 200 s and more.
    assert latencies[-1] < 1.5
    assert office.again(dead).pending == 200
    assert office.again(dead).failing_since is not None
    silent.set()


@pytest.mark.slow
def test_what_a_killed_courier_was_sending_is_sent_by_the_next_under_the_same_id(
    office: Office, couriers: Couriers
) -> None:
    hanging = threading.Event()

    def hang_once(handler: BaseHTTPRequestHandler) -> None:
        if not hanging.is_set():
            hanging.set()
            time.sleep(1.5)
        answer(handler, 204)

    office.served.behaviours["/hook"] = hang_once
    office = with_settings(office, webhook_timeout_s=2)
    endpoint = office.endpoint()
    office.tell()
    first = couriers.start(office.settings)
    assert hanging.wait(40)
    first.send_signal(signal.SIGKILL)
    first.wait()
    couriers.start(office.settings)
    delivery = eventually(
        lambda: (found := office.only(endpoint)).state == "succeeded" and found, timeout_s=60
    )
    assert [each.error for each in delivery.attempts] == ["courier_lost", None]
    one, other = office.served.requests
    assert (one.id, one.body) == (other.id, other.body)
    for request in (one, other):
        request.verified(*office.secrets(endpoint))


@pytest.mark.slow
def test_events_outlive_redis(
    settings: Settings, served: Receiver, couriers: Couriers, tmp_path: Path
) -> None:
    with RedisServer(tmp_path / "redis") as server:
        settings = settings.model_copy(
            update={"redis_url": server.url("courier"), "webhook_retry_delays_s": ",".join(["0.5"] * 100)}
        )
        served.behaviours["/hook"] = 503
        with redis.Redis.from_url(settings.redis_url) as client:
            office = Office(settings, client, served)
            endpoint = office.endpoint()
            for number in range(20):
                office.tell(f"job_{number}")
            couriers.start(settings)
            eventually(lambda: len(served.requests) > 5, timeout_s=40)
            # What Redis has said it has is on the disk within a second.
            time.sleep(1.5)
            server.kill()
            time.sleep(1)
            served.behaviours["/hook"] = 204
            server.start()
            office.tell("job_20")
            eventually(lambda: len(office.log(endpoint, "succeeded")) == 21, timeout_s=60)
            assert len({request.id for request in served.requests}) == 21
            assert office.log(endpoint, "failed") == []
            assert len(office.secrets(endpoint)) == 1
