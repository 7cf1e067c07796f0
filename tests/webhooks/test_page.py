"""docs/webhooks.md says what is so, and its receiver runs."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from featherweight.signing import new_secret, signature_header
from featherweight.webhooks import EVENT_TYPES, TEST_EVENT
from tasks.settings import Settings
from tasks.webhooks.retries import RetryPolicy

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
SECRET = new_secret()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.setenv("FEATHERWEIGHT_WEBHOOK_SECRET", SECRET)
    program: dict[str, object] = {"__name__": "receiver"}
    exec(compile(code, "docs/webhooks.md", "exec"), program)
    client: FlaskClient = program["app"].test_client()  # type: ignore[attr-defined]
    return client


def sent(receiver: FlaskClient, secret: str = SECRET) -> int:
    job = {"id": "job_a", "model_id": "mdl_a", "spec": {}, "state": "succeeded", "verdict": "smaller"}
    data = {**job, "created_at": "2026-01-02T03:04:05Z"}
    event = {"id": "evt_a", "type": "job.succeeded", "timestamp": "2026-01-02T03:04:05Z", "data": data}
    body, now = json.dumps(event).encode(), int(time.time())
    headers = {
        "webhook-id": "evt_a",
        "webhook-timestamp": str(now),
        "webhook-signature": signature_header([secret], "evt_a", now, body),
    }
    return receiver.post("/featherweight", data=body, headers=headers).status_code


def test_the_receiver_takes_what_is_signed_once(
    receiver: FlaskClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [sent(receiver), sent(receiver)] == [204, 204]
    assert capsys.readouterr().out == "job_a smaller\n"


def test_the_receiver_refuses_what_is_not(receiver: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert sent(receiver, new_secret()) == 400
    assert receiver.post("/featherweight", data=b"{}").json == {"error": "missing_header"}
    assert capsys.readouterr().out == ""


def test_every_type_is_explained() -> None:
    table = PAGE.partition("| Type | When |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z_]+\.[a-z_]+)`", table)) == {*EVENT_TYPES, TEST_EVENT}


def test_the_waits_are_those_of_the_settings() -> None:
    (row,) = re.findall(r"\| mean wait \| (.*) \|", PAGE)
    units = {"s": 1, "min": 60, "h": 3600}
    shown = [int(number) * units[unit] for number, unit in re.findall(r"(\d+) (\w+)", row)]
    policy = RetryPolicy.of(Settings())
    assert shown == list(policy.delays)
    assert policy.attempts == 11
    assert 23 * 3600 < sum(shown) < 25 * 3600
