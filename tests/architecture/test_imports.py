"""Who may know whom, and what importing a package may cost."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVER = {"flask", "werkzeug", "celery", "kombu", "redis", "boto3", "botocore", "gunicorn"}
FRAMEWORKS = {
    "tensorflow",
    "tf_keras",
    "keras",
    "tensorflow_model_optimization",
    "ai_edge_litert",
    "torch",
    "numpy",
}


def test_the_directions_of_imports_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    checked = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("featherweight", SERVER | FRAMEWORKS | {"service", "tasks"}),
        ("featherweight.cli", SERVER | FRAMEWORKS | {"service", "tasks"}),
        ("service", FRAMEWORKS - {"numpy"} | {"tasks.celery"}),
        ("tasks.celery", FRAMEWORKS | {"service", "flask"}),
        ("tasks.compression", FRAMEWORKS - {"numpy"} | SERVER | {"service", "tasks.store", "tasks.storage"}),
        ("tasks.compression.catalogue", FRAMEWORKS | SERVER),
    ],
)
def test_an_import_loads_nothing_it_should_not(module: str, forbidden: set[str]) -> None:
    assert not loaded_by(f"import {module}") & forbidden


def test_the_whole_application_loads_no_framework() -> None:
    code = "import service; from tasks.settings import Settings; service.create_app(Settings())"
    assert not loaded_by(code) & (FRAMEWORKS - {"numpy"})


def loaded_by(code: str) -> set[str]:
    """Modules that a fresh interpreter has after `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_every_public_name_of_the_client_exists() -> None:
    featherweight = importlib.import_module("featherweight")
    assert list(featherweight.__all__) == sorted(featherweight.__all__)
    for name in featherweight.__all__:
        assert getattr(featherweight, name) is not None


@pytest.mark.slow
def test_every_row_of_the_catalogue_leads_to_something_callable() -> None:
    code = """
from tasks.compression.catalogue import BACKENDS, ROWS, resolve
import importlib
for row in ROWS:
    assert callable(resolve(row.handler)), row
    assert row.check is None or callable(resolve(row.check)), row
    assert row.framework in BACKENDS, row
for module in BACKENDS.values():
    importlib.import_module(module)
"""
    assert "tensorflow" in loaded_by(code)
