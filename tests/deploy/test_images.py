"""What the images hold is enough, and no more than their share of the lock."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.utils import canonicalize_name

from deploy.lock import LOCK, parse, subset

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())

WITHOUT_THE_REST = """
import importlib.abc, json, sys

class Missing(importlib.abc.MetaPathFinder):
    names = set(json.loads(sys.argv[1]))
    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)

sys.meta_path.insert(0, Missing())
"""


def share(stage: str) -> list[str]:
    """The groups of the lock that a stage of the Dockerfile installs."""
    found = re.search(rf"deploy\.lock only (.+) > {stage}\.lock", DOCKERFILE)
    assert found is not None
    return found[1].split()


def run_with_the_share_of(stage: str, code: str) -> str:
    installed = set(parse(subset(LOCK.read_text(), share(stage)))) | {"featherweight"}
    absent = [
        name
        for name, distributions in packages_distributions().items()
        if not installed & {canonicalize_name(each) for each in distributions}
    ]
    assert "pytest" in absent
    command = [sys.executable, "-c", WITHOUT_THE_REST + code, json.dumps(absent)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_service_runs_on_its_share() -> None:
    code = """
import gunicorn.workers.gthread
import service
import tasks.plan_process
from tasks.compression.catalogue import ROWS, resolve
assert all(resolve(name) for row in ROWS for name in (row.plan, row.plan_check) if name)
http = service.create_app().test_client()
assert http.get("/healthz").json["version"] != "0+unknown"
print(http.get("/openapi.json").status_code, http.get("/metrics").status_code)
"""
    assert run_with_the_share_of("service", code).split()[-2:] == ["200", "200"]


@pytest.mark.slow
def test_the_worker_runs_on_its_share() -> None:
    code = """
import tasks.celery
from tasks.compression.backends.tensorflow import warm
warm()
from tasks.compression.catalogue import ROWS, resolve
print(len([resolve(row.handler) for row in ROWS]))
"""
    assert int(run_with_the_share_of("worker", code).split()[-1]) >= 3


def test_what_the_dockerfile_copies_is_not_ignored() -> None:
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [
        word.rstrip("/")
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE)
        for word in line.split()
    ]
    assert copied
    for path in copied:
        assert (ROOT / path).exists(), path
        assert f"!{path}" in allowed, path


def test_no_image_runs_as_root() -> None:
    stages = re.split(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    final = {name: body for name, body in zip(stages[1::2], stages[2::2], strict=True) if "CMD" in body}
    assert set(final) == {"service", "worker", "objects"}
    for body in final.values():
        assert re.search(r"^USER 10001:10001$", body, flags=re.MULTILINE)
        assert "HEALTHCHECK" in body


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_container_is_hardened_and_limited(name: str) -> None:
    container = COMPOSE["services"][name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["deploy"]["resources"]["limits"].keys() >= {"cpus", "memory", "pids"}
    assert all(port.startswith("127.0.0.1:") for port in container.get("ports", []))
