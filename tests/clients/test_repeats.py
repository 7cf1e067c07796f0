"""Jobs repeated and projects paused, by client and command line, against the real application."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis
from flask import Flask

from featherweight import Conflict, PermissionDenied, cli
from featherweight.client import Client
from featherweight.job import JobLimits
from featherweight.problem import problem
from service import create_app
from service.keys import Scope
from service.services import NAME, Services
from tasks.records import Outcome
from tasks.settings import Settings
from tests.service.helpers import KERAS, NPZ

PROJECT = "clients"
SPEC = {"steps": [{"technique": "prune"}]}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def app(settings: Settings, redis_client: redis.Redis) -> Flask:
    return create_app(settings)


@pytest.fixture
def parts(app: Flask) -> Services:
    found: Services = app.extensions[NAME]
    return found


def connected(app: Flask, scope: Scope) -> Client:
    key = app.extensions[NAME].keys.create(PROJECT, scope=scope)
    return Client("http://api.test", api_key=key, transport=httpx.WSGITransport(app))


@pytest.fixture
def client(app: Flask) -> Iterator[Client]:
    with connected(app, "admin") as client:
        yield client


@pytest.fixture
def run(app: Flask, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([str(each) for each in argv], connect=lambda _: connected(app, "admin"))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def failed(client: Client, parts: Services, tmp_path: Path) -> str:
    model, data = tmp_path / "m.keras", tmp_path / "d.npz"
    model.write_bytes(KERAS)
    data.write_bytes(NPZ)
    limits = JobLimits(max_run_s=60, max_total_s=600)
    job = client.compress(
        model, SPEC, dataset=data, name="first", metadata={"a": "1", "b": "2"}, limits=limits
    )
    claim = parts.jobs.claim(job.id, "worker-1")
    assert claim is not None
    parts.jobs.commit(claim, Outcome.failed(problem("runner_crashed", "it crashed")))
    return job.id


def test_a_handle_makes_handles_of_new_jobs(client: Client, failed: str) -> None:
    job = client.job(failed)
    again = job.retry(idempotency_key="once")
    assert again.job.origin is not None
    assert (again.job.origin.type, again.job.origin.id) == ("retry", failed)
    assert again.job.limits == job.job.limits == JobLimits(max_run_s=60, max_total_s=600)
    assert job.retry(idempotency_key="once").id == again.id
    other = job.clone(name=None, metadata={"a": None, "c": "3"}, limits={"max_total_s": None}).job
    assert (other.name, other.metadata) == (None, {"b": "2", "c": "3"})
    assert other.limits == JobLimits(max_run_s=60)
    assert (other.model_id, other.dataset_id) == (job.job.model_id, job.job.dataset_id)
    quantised = job.clone(
        spec={"steps": [{"technique": "quantize", "scheme": "dynamic_int8"}]}, dataset_id=None
    )
    assert quantised.job.dataset_id is None
    assert [step["technique"] for step in quantised.job.spec["steps"]] == ["quantize"]
    with pytest.raises(Conflict) as refused:
        again.retry()
    assert refused.value.code == "job_not_done"


def test_the_project_is_paused_by_who_may(client: Client, app: Flask) -> None:
    assert client.project().paused is False
    paused = client.pause_project()
    assert (paused.name, paused.paused) == (PROJECT, True)
    assert client.usage().paused is True
    assert client.resume_project() == client.project()
    with connected(app, "submit") as other, pytest.raises(PermissionDenied):
        other.pause_project()


def test_commands(run: Run, client: Client, failed: str, tmp_path: Path) -> None:
    code, said, _ = run("jobs", "show", failed)
    assert code == 0
    assert "on worker-1; ended: runner_crashed" in said
    code, again, _ = run("jobs", "retry", failed, "--idempotency-key", "k")
    assert code == 0
    assert client.jobs.get(again.strip()).origin is not None
    assert f"made by      retry of {failed}" in run("jobs", "show", again.strip())[1]
    spec = tmp_path / "other.yaml"
    spec.write_text("steps: [{technique: quantize, scheme: full_int8}]")
    options = ("--spec", spec, "--max-total", "90", "--metadata", "c=3", "--name", "n")
    code, made, _ = run("--json", "jobs", "clone", failed, *options)
    job = json.loads(made)
    assert (code, job["name"], job["metadata"]) == (0, "n", {"a": "1", "b": "2", "c": "3"})
    assert job["limits"] == {"max_queue_s": 86_400, "max_run_s": 60, "max_total_s": 90}
    assert job["origin"]["type"] == "clone"
    # In a state that does not allow it.
    assert run("jobs", "retry", again.strip())[0] == 6
    assert run("project", "pause")[1].startswith(f"{PROJECT}  paused since ")
    assert "paused" in run("usage")[1]
    assert run("project", "resume")[1] == f"{PROJECT}  not paused\n" == run("project", "show")[1]
