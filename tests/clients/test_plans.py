"""Plans through the client and on the command line, against the real application in process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherweight import cli
from featherweight.cli.plan_text import plan_text
from featherweight.client import Client
from featherweight.errors import InvalidSpec
from tests.service.models import dense_model, npz

CHANNELS = {"technique": "prune_channels", "target": {"type": "macs", "keep": 0.5}}
SPEC = {"steps": [CHANNELS, {"technique": "prune"}, {"technique": "finetune", "epochs": 1}]}


@pytest.fixture
def client(connect: Callable[..., Client]) -> Iterator[Client]:
    with connect() as client:
        yield client


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    model, data = tmp_path / "model.keras", tmp_path / "data.npz"
    model.write_bytes(dense_model())
    data.write_bytes(npz(x=np.zeros((200, 64), np.float32), y=np.zeros(200, np.int64)))
    return model, data


def test_plan_uploads_what_is_not_there_and_queues_nothing(client: Client, files: tuple[Path, Path]) -> None:
    model, data = files
    plan = client.plan(str(model), SPEC, dataset=str(data))
    assert plan.feasible, plan.problems
    assert [step.technique for step in plan.steps] == ["prune_channels", "prune", "finetune"]
    hidden = plan.steps[0].layers[0]
    assert hidden.layer == "hidden"
    assert hidden.channels_before == 32
    assert hidden.channels_after == 16
    assert "channels_after" in hidden.estimated
    assert list(client.jobs.list()) == []
    again = client.plans.create(model_id=plan.model_id or "", dataset_id=plan.dataset_id, spec=SPEC)
    assert again == plan


def test_invalid_spec_is_found_before_anything_is_sent(client: Client, files: tuple[Path, Path]) -> None:
    with pytest.raises(InvalidSpec):
        client.plan(str(files[0]), {"steps": []})
    assert list(client.models.list()) == []


def test_table_marks_what_is_an_estimate(client: Client, files: tuple[Path, Path]) -> None:
    model, data = files
    text = plan_text(client.plan(str(model), SPEC, dataset=str(data)))
    assert "feasible" in text
    assert "32 to ~16" in text
    assert "2 optimiser steps" in text


def test_command_shows_the_plan(
    connect: Callable[..., Client], files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = files
    arguments = ["plan", str(model), "--data", str(data), "--spec", json.dumps(SPEC)]
    assert cli.main(arguments, connect=connect) == 0
    assert "step 1: prune" in capsys.readouterr().out
    assert cli.main([*arguments, "--json"], connect=connect) == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert shown["object"] == "plan"


def test_command_says_by_its_exit_code_that_a_job_would_fail(
    connect: Callable[..., Client], files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["plan", str(files[0]), "--spec", json.dumps(SPEC)]
    assert cli.main(arguments, connect=connect) == 3
    out = capsys.readouterr().out
    assert "not feasible" in out
    assert "/spec/steps/2: finetune needs a data set" in out
