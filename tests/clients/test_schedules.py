"""``client.schedules`` and ``featherweight schedule`` against the real application in process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from flask import Flask

from featherweight import cli, errors
from featherweight.client import Client
from featherweight.job import JobLimits
from featherweight.schedule import CronTrigger, RegressionLimits
from featherweight.spec import CompressionSpec
from service import create_app
from service.services import NAME
from tasks.settings import Settings
from tests.service.helpers import KERAS, NPZ

SPEC = {"steps": [{"technique": "prune"}]}
CRON = {"type": "cron", "expression": "30 2 * * *", "timezone": "Europe/Berlin"}


@pytest.fixture
def app(settings: Settings, redis_client: redis.Redis) -> Flask:
    return create_app(settings)


@pytest.fixture
def connect(app: Flask) -> Callable[..., Client]:
    """Commands close their client."""
    key = app.extensions[NAME].keys.create("clients")
    return lambda *_: Client("http://api.test", api_key=key, transport=httpx.WSGITransport(app))


@pytest.fixture
def client(connect: Callable[..., Client]) -> Iterator[Client]:
    with connect() as client:
        yield client


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.keras"
    path.write_bytes(KERAS)
    return path


@pytest.fixture
def run(connect: Callable[..., Client], capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """A command's answer with --json."""

    def run(*argv: str, code: int = 0) -> Any:
        found = cli.main(["--json", *argv], connect=connect)
        printed = capsys.readouterr()
        assert found == code, printed.err
        return json.loads(printed.out if code == 0 else printed.err)

    return run


def test_a_schedule_from_making_to_deleting(client: Client, model: Path) -> None:
    stored = client.models.upload(model)
    made = client.schedules.create(
        trigger=CronTrigger(expression="30 2 * * *", timezone="Europe/Berlin"),
        job={"model_id": stored.id, "spec": CompressionSpec.model_validate(SPEC), "limits": JobLimits()},
        name="nightly",
        overlap="skip",
        regression=RegressionLimits(accuracy_drop=1.5),
        ends_at=datetime(2099, 1, 1, tzinfo=UTC),
        idempotency_key="one",
    )
    assert (made.name, made.state, made.overlap) == ("nightly", "active", "skip")
    assert made.regression == RegressionLimits(accuracy_drop=1.5)
    previewed = client.schedules.get(made.id, preview=3).next_fires
    assert previewed is not None
    assert len(previewed) == 3
    assert client.schedules.pause(made.id).state == "paused"
    assert client.schedules.resume(made.id).next_fire_at == made.next_fire_at
    changed = client.schedules.update(made.id, trigger={"type": "interval", "seconds": 600}, ends_at=None)
    assert (changed.trigger["seconds"], changed.ends_at) == (600, None)
    first = client.schedules.run_now(made.id)
    assert client.jobs.get(first.job_id or "").origin is not None
    second = client.schedules.run_now(made.id)
    assert second.skipped_because == "overlap"
    assert [run.id for run in client.schedules.runs(made.id, limit=1)] == [second.id, first.id]
    assert [each.id for each in client.schedules.list()] == [made.id]
    client.schedules.delete(made.id)
    with pytest.raises(errors.NotFound):
        client.schedules.get(made.id)


def test_what_is_at_fault_is_named(client: Client, model: Path) -> None:
    job = {"model_id": client.models.upload(model).id, "spec": SPEC}
    with pytest.raises(errors.InvalidRequest) as caught:
        client.schedules.create(trigger={"type": "cron", "expression": "61 * * * *"}, job=job)
    assert [fault.pointer for fault in caught.value.errors] == ["/trigger/expression"]
    with pytest.raises(errors.InvalidSpec):
        client.schedules.create(trigger=CRON, job={**job, "spec": {"steps": [{"technique": "shrink"}]}})


def test_the_commands(run: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    spec = json.dumps(SPEC)
    data = tmp_path / "digits.npz"
    data.write_bytes(NPZ)
    made = run(
        *("schedule", "create", str(model), "--data", str(data), "--spec", spec),
        *("--cron", "30 2 * * MON-FRI", "--timezone", "Europe/Berlin", "--size-growth", "5"),
        *("--catch-up", "all", "--max-runs", "3", "--name", "nightly", "--metadata", "team=vision"),
    )
    assert made["trigger"]["expression"] == "30 2 * * MON-FRI"
    assert made["job"]["dataset_id"].startswith("ds_")
    assert made["regression"] == {"accuracy_drop": None, "size_growth": 5.0}
    assert (made["catch_up"], made["max_runs"], made["metadata"]) == ("all", 3, {"team": "vision"})
    assert [each["id"] for each in run("schedule", "list")] == [made["id"]]
    assert len(run("schedule", "show", made["id"])["next_fires"]) == 5
    assert run("schedule", "pause", made["id"])["state"] == "paused"
    assert run("schedule", "resume", made["id"])["state"] == "active"
    fired = run("schedule", "run", made["id"])
    assert [each["job_id"] for each in run("schedule", "runs", made["id"])] == [fired["job_id"]]
    assert run("schedule", "delete", made["id"])["deleted"] is True
    run("schedule", "show", made["id"], code=5)


def test_files_of_the_inbox_are_named_on_the_command_line(run: Callable[..., Any]) -> None:
    spec = json.dumps(SPEC)
    made = run(
        *("schedule", "create", "--changed", "model", "--data", "inbox:digits.npz", "--spec", spec),
        *("--on-change", "nightly/", "--poll", "90"),
    )
    assert made["job"]["model"] == {"changed": True}
    assert made["job"]["dataset"] == {"object": "digits.npz"}
    assert made["trigger"] == {"type": "object_changed", "prefix": "nightly/", "poll_s": 90}
    run("schedule", "create", "--spec", spec, "--every", "600", code=2)
    run("schedule", "create", "mdl_x", "--changed", "model", "--spec", spec, "--on-change", "x", code=2)


def test_for_people_tables_say_what_matters(
    client: Client,
    connect: Callable[..., Client],
    model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = {"model_id": client.models.upload(model).id, "spec": SPEC}
    made = client.schedules.create(trigger=CRON, job=job, name="nightly", overlap="skip")

    def shown(*argv: str) -> str:
        assert cli.main(["schedule", *argv], connect=connect) == 0
        return capsys.readouterr().out

    assert shown("run", made.id).startswith("job_")
    assert "skipped: overlap" in shown("run", made.id)
    assert "30 2 * * * Europe/Berlin" in shown("list")
    assert shown("show", made.id).count("next fire") == 5
    runs = shown("runs", made.id)
    assert "overlap" in runs
    assert "manual" in runs
