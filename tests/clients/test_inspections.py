"""Inspections through the client and on the command line, against the real application in process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from featherweight import cli
from featherweight.client import Client
from tests.service.models import dense_model, keras_archive


@pytest.fixture
def client(connect: Callable[..., Client]) -> Iterator[Client]:
    with connect() as client:
        yield client


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model.keras").write_bytes(dense_model())
    return tmp_path / "model.keras"


def test_inspect_uploads_what_is_not_there_and_takes_ids(client: Client, model: Path) -> None:
    found = client.inspect(str(model))
    assert found.usable
    assert found.filename == "model.keras"
    assert found.model_id is not None
    assert client.models.inspect(found.model_id) == client.inspect(found.model_id) == found
    assert len(list(client.models.list())) == 1


def test_command_shows_layers_techniques_and_formats(
    connect: Callable[..., Client], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect", str(model)], connect=connect) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["written", "by", "Keras", "2.21.0"] for line in lines)
    hidden = next(line.split() for line in lines if line.startswith("hidden"))
    assert hidden == ["hidden", "Dense", "32", "2,080", "8,320", "2,048", "float32"]
    assert any(line.split()[:3] == ["prune", "yes", "2"] for line in lines if line)
    assert any("quantize (scheme full_int8)" in line and "needed" in line for line in lines)
    assert any("they are an output of the model" in line for line in lines)
    assert any(line.split() == ["onnx", "yes"] for line in lines if line)


def test_command_prints_the_whole_inspection_as_json(
    connect: Callable[..., Client], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect", str(model), "--json"], connect=connect) == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert shown["object"] == "inspection"
    assert shown["totals"]["macs"] == 64 * 32 + 32 * 4


def test_command_says_by_its_exit_code_that_no_job_would_take_the_model(
    connect: Callable[..., Client], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.keras").write_bytes(keras_archive({"class_name": "Mine>Net", "config": {}}, {}))
    assert cli.main(["inspect", str(tmp_path / "m.keras")], connect=connect) == 3
    out = capsys.readouterr().out
    assert "Mine>Net" in out
    assert "[unsupported_model]" in out
