"""Outputs that a converter refuses: named, and left out where the spec says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import featherweight.torch
from tasks.compression import CompressionError, Outcome, compress
from tasks.compression.litert import Program
from tasks.compression.page import page


class Pick(nn.Module):
    """The third of each sample's values: an operator that only PyTorch itself has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.kthvalue(x, 3, dim=1, keepdim=True).values


class Head(nn.Module):
    def __init__(self, *, picks: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(4 * 36, 5)
        self.pick = Pick() if picks else nn.ReLU()
        self.last = nn.Linear(1 if picks else 5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.pick(self.dense(x.flatten(1))))


def network(*, picks: bool) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), Head(picks=picks))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("picking")
    names = {"input_names": ["image"], "output_names": ["scores"]}
    for picks in (False, True):
        path = made / f"{'picking' if picks else 'plain'}.pt2"
        featherweight.torch.save(network(picks=picks), torch.zeros(2, 1, 8, 8), path, **names)
    chance = np.random.default_rng(0)
    x = chance.normal(size=(80, 1, 8, 8)).astype(np.float32)
    np.savez(made / "d.npz", x=x, y=np.arange(80) % 3)
    return made


INTEGERS = [{"technique": "quantize", "scheme": "dynamic_int8"}]


def ran(folder: Path, workdir: Path, **spec: Any) -> Outcome:
    return compress(folder / "picking.pt2", spec, dataset=folder / "d.npz", workdir=workdir)


@pytest.mark.parametrize("output", ["tflite", "c_array"])
def test_the_refused_operator_is_named_before_anything_is_done(
    folder: Path, output: str, tmp_path: Path
) -> None:
    steps = [{"technique": "finetune", "epochs": 1}]
    with pytest.raises(CompressionError) as caught:
        ran(folder, tmp_path, steps=steps, outputs=["pt2", output])
    problem = caught.value.problem()
    assert (problem.code, problem.stage, problem.layer) == ("conversion_failed", "baseline", "2.pick")
    assert "at 2.pick" in problem.detail
    assert "aten.kthvalue" in problem.detail
    assert [fault.pointer for fault in problem.errors] == ["/outputs/1"]
    assert "on_unsupported" in (problem.hint or "")


@pytest.fixture(scope="module")
def skipped(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    steps = [{"technique": "prune"}, *INTEGERS]
    outputs = ["tflite", "pt2", "c_array", "onnx"]
    return ran(folder, tmp_path_factory.mktemp("w"), steps=steps, outputs=outputs, on_unsupported="skip")


def test_the_other_outputs_are_delivered_and_the_missing_ones_said(skipped: Outcome) -> None:
    report = skipped.report
    assert [(item.name, item.scheme) for item in report.outputs] == [("model.pt2", "dynamic_int8")]
    assert report.outputs[0].agreement == pytest.approx(1.0, abs=0.2)
    assert [(item.output, item.code, item.layer) for item in report.missing] == [
        ("tflite", "conversion_failed", "2.pick"),
        ("c_array", "conversion_failed", "2.pick"),
        ("onnx", "conversion_failed", "2.pick"),
    ]
    said = [warning for warning in report.warnings if warning.code == "output_missing"]
    assert [warning.layer for warning in said] == ["2.pick"] * 3
    for output, warning in zip(("tflite", "c_array", "onnx"), said, strict=True):
        assert output in warning.message
        assert "aten.kthvalue" in warning.message
    assert report.spec["outputs"] == ["tflite", "pt2", "c_array", "onnx"]


def test_files_and_pages_know_of_no_other(skipped: Outcome) -> None:
    delivered = {path.name for path in skipped.artifacts}
    assert delivered == {"model.pt2", "spec.json", "report.json", "report.html"}
    assert {path.name for path in skipped.artifacts[0].parent.iterdir()} == delivered
    assert {item.name for item in skipped.report.files} == {"model.pt2"}
    text = page(skipped.report)
    assert "Missing" in text
    assert "aten.kthvalue" in text


def test_a_job_of_which_nothing_is_left_fails(folder: Path, tmp_path: Path) -> None:
    spec = {"steps": INTEGERS, "outputs": ["tflite", "c_array"], "on_unsupported": "skip"}
    with pytest.raises(CompressionError) as caught:
        ran(folder, tmp_path, **spec)
    assert caught.value.code == "conversion_failed"
    assert caught.value.pointer == "/outputs"
    assert "tflite: litert-torch" in caught.value.detail


def test_what_decides_on_the_tflite_cannot_do_without(folder: Path, tmp_path: Path) -> None:
    steps = [{**INTEGERS[0], "sensitivity": {"max_drop": 0.5}}]
    with pytest.raises(CompressionError) as caught:
        ran(folder, tmp_path, steps=steps, outputs=["tflite", "onnx"], on_unsupported="skip")
    assert caught.value.pointer == "/steps/0/sensitivity"


def test_training_that_rounds_goes_on_without_its_file(folder: Path, tmp_path: Path) -> None:
    steps = [{"technique": "quantize_aware"}, {"technique": "finetune", "epochs": 1}]
    report = ran(folder, tmp_path, steps=steps, outputs=["tflite", "pt2"], on_unsupported="skip").report
    assert [item.scheme for item in report.outputs] == ["float32"]
    assert [item.output for item in report.missing] == ["tflite"]
    assert report.steps[1].epochs


def test_tensors_have_the_callers_names_in_every_file(folder: Path, tmp_path: Path) -> None:
    spec = {"steps": [{"technique": "prune"}], "outputs": ["tflite", "onnx", "pt2"]}
    outcome = compress(folder / "plain.pt2", spec, workdir=tmp_path)
    files = {path.name: path for path in outcome.artifacts}
    assert [name for name, _, _ in Program(files["model.tflite"].read_bytes()).signature()] == [
        "image",
        "scores",
    ]
    graph = onnx.load(files["model.onnx"]).graph
    assert [item.name for item in (*graph.input, *graph.output)] == ["image", "scores"]
    held = {"featherweight.json": ""}
    torch.export.load(files["model.pt2"], extra_files=held)
    assert json.loads(held["featherweight.json"])["output_names"] == ["scores"]
