"""``featherweight webhook`` against the real application, with a receiver that is really there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx
import pytest
import redis
from flask import Flask

from featherweight import cli
from featherweight.client import Client
from service import create_app
from service.services import NAME, Services
from tasks.settings import Settings
from tasks.webhooks.courier import Deliverer
from tests.webhooks.receiver import Receiver, receiver

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def served() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture
def app(settings: Settings, redis_client: redis.Redis, served: Receiver) -> Flask:
    changes = {"webhook_trusted_origins": served.origin, "webhook_retry_delays_s": "0"}
    return create_app(settings.model_copy(update=changes))


@pytest.fixture
def parts(app: Flask) -> Services:
    found: Services = app.extensions[NAME]
    return found


@pytest.fixture
def run(app: Flask, parts: Services, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, standard output and standard error of ``featherweight webhook`` with more arguments."""
    key = parts.keys.create("clients", scope="admin")

    def run(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(
            ["webhook", *map(str, argv)],
            connect=lambda _: Client("http://api.test", key, transport=httpx.WSGITransport(app)),
        )
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def endpoint(run: Run, served: Receiver) -> str:
    code, out, err = run("create", f"{served.origin}/hook", "--event", "job.failed", "--metadata", "a=b")
    id_, secret = out.split()
    assert (code, id_[:4], secret[:6]) == (0, "whe_", "whsec_")
    assert "not shown again" in err
    return id_


def deliver(parts: Services) -> None:
    Deliverer(parts.settings, parts.redis, parts.queue, most_slow=1)("dlv_any")


def test_list_show_update_and_delete(run: Run, endpoint: str, served: Receiver) -> None:
    assert f"{endpoint}  enabled  job.failed        0  {served.origin}/hook" in run("list")[1]
    shown = run("show", endpoint)[1]
    assert "  a            b" in shown
    assert "whsec_" not in shown
    assert "disabled (requested)" in run("update", endpoint, "--disable")[1]
    code, out, _ = run(
        "update", endpoint, "--enable", "--event", "job.expired", "--event", "job.failed", "--json"
    )
    changed = json.loads(out)
    assert (code, changed["disabled"], changed["events"]) == (0, False, ["job.expired", "job.failed"])
    assert json.loads(run("update", endpoint, "--description", "x", "--json")[1])["disabled"] is False
    assert run("delete", endpoint) == (0, "", "")
    assert run("show", endpoint)[0] == 5


def test_test_deliveries_and_replay(run: Run, endpoint: str, parts: Services, served: Receiver) -> None:
    served.behaviours["/hook"] = [500, 500, 200]
    code, out, err = run("test", endpoint)
    delivery = out.strip()
    assert (code, delivery[:4]) == (0, "dlv_")
    assert f"featherweight webhook deliveries {endpoint}" in err
    deliver(parts)
    row = run("deliveries", endpoint, "--state", "failed")[1].splitlines()[1]
    assert row.split()[:6] == [delivery, "webhook.test", "failed", "2", "500", "bad_status"]
    assert run("replay", endpoint, delivery)[1].startswith("dlv_")
    assert run("replay", endpoint, "--since", "2020-01-01")[1] == "1 deliveries are sent again\n"
    deliver(parts)
    found = json.loads(run("deliveries", endpoint, "--json")[1])
    assert [each["state"] for each in found] == ["succeeded", "succeeded", "failed"]


def test_rotate_prints_the_new_secret(run: Run, endpoint: str, parts: Services) -> None:
    code, out, _ = run("rotate", endpoint, "--overlap-hours", "1")
    assert code == 0
    assert parts.webhook_endpoints.secrets.valid(endpoint)[0] == out.strip()
    assert len(parts.webhook_endpoints.secrets.valid(endpoint)) == 2


def test_what_is_wrong_is_said(run: Run, endpoint: str) -> None:
    code, _, err = run("create", "https://127.0.0.1/")
    assert (code, "url_not_allowed" in err) == (3, True)
    assert run("create", "https://example.com/", "--event", "job.exploded")[0] == 3
    assert run("replay", endpoint)[0] == 2
    assert run("deliveries", "whe_unknown")[0] == 5
    for wrong in (["replay", endpoint, "--since", "soon"], ["deliveries", endpoint, "--state", "lost"]):
        with pytest.raises(SystemExit):
            run(*wrong)
