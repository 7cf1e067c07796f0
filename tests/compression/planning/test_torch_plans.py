"""Plans of PyTorch models, made without PyTorch, against the report of the real job, and what they read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import featherweight.torch
from featherweight.plan import Plan
from featherweight.report import Report
from tasks.compression import CompressionError, compress
from tasks.compression.backends.torch.layers import describe, placed_layers
from tasks.compression.backends.torch.load import load
from tasks.compression.inspection import inspect
from tasks.compression.outline.reading import read_outline
from tests.compression.planning.test_plan_is_what_the_job_does import planned
from tests.compression.torch.models import MODELS, save


@pytest.mark.parametrize("name", MODELS)
def test_layers_are_those_that_the_job_has(name: str, tmp_path: Path) -> None:
    save(name, tmp_path / "m.pt2")
    network = load(tmp_path / "m.pt2", tmp_path, lambda warning: None).network
    outline = read_outline(tmp_path / "m.pt2")
    placed = [(place.path, type(place.layer).__name__) for place in placed_layers(network.model)]
    assert [(layer.path, layer.kind) for layer in outline.listed()] == placed
    told = {layer.path: (layer.parameters, layer.nonzero) for layer in outline.listed() if layer.weights}
    assert told == {facts.name: (facts.parameters, facts.nonzero) for facts in describe(network.model)}
    signature = network.signature
    assert (outline.input_names, outline.output_names) == (signature.input_names, signature.output_names)


class Blocks(nn.Module):
    """Of everything that plans tell apart: normalised, depthwise, joined, dense on samples."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.second = nn.Conv2d(16, 16, 1)
        self.hidden = nn.Linear(16, 96)
        self.last = nn.Linear(96, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.second(torch.relu(self.depthwise(x)))
        return self.last(torch.relu(self.hidden(x.mean((2, 3)))))


class Steps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 8, batch_first=True)
        self.last = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.rnn(x)[0][:, -1])


NETWORKS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "blocks": (Blocks, (3, 8, 8)),
    "steps": (Steps, (6, 4)),
}
SAMPLES = 120
PRUNE: dict[str, Any] = {"technique": "prune"}
TRAIN = {"technique": "finetune", "epochs": 1, "batch_size": 16}
CLUSTER = {"technique": "cluster", "clusters": 8}
AWARE = {"technique": "quantize_aware", "weight_bits": 4, "layers": {"exclude": ["last"]}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("torch-plans")
    chance = np.random.default_rng(0)
    for name, (make, shape) in NETWORKS.items():
        torch.manual_seed(0)
        featherweight.torch.save(make(), torch.zeros(2, *shape), made / f"{name}.pt2")
        x = chance.normal(size=(SAMPLES, *shape)).astype(np.float32)
        np.savez(made / f"{name}.npz", x=x, y=np.arange(SAMPLES) % 4)
    return made


def both(
    folder: Path, name: str, steps: list[dict[str, Any]], workdir: Path, *outputs: str
) -> tuple[Plan, Report]:
    model, data = folder / f"{name}.pt2", folder / f"{name}.npz"
    told = planned(model, data, steps, outputs=list(outputs))
    assert told.feasible, told.problems
    spec = {"steps": steps, "outputs": list(outputs)}
    return told, compress(model, spec, dataset=data, workdir=workdir).report


def said(source: Plan | Report, *codes: str) -> set[tuple[str | None, str]]:
    return {(warning.layer, warning.message) for warning in source.warnings if warning.code in codes}


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("blocks", [PRUNE, TRAIN]),
        ("blocks", [{**PRUNE, "pattern": {"type": "block", "block_size": [4, 4]}}]),
        ("steps", [{**PRUNE, "pattern": {"type": "n_of_m"}, "layers": {"include": ["rnn"]}}]),
    ],
    ids=["trained", "blocks", "two-of-four"],
)
def test_layers_end_as_planned(folder: Path, name: str, steps: list[dict[str, Any]], tmp_path: Path) -> None:
    told, report = both(folder, name, steps, tmp_path, "pt2")
    assert told.data is not None
    assert report.data is not None
    assert told.data.model_dump() == {key: getattr(report.data, key) for key in told.data.model_dump()}
    assert told.steps[-1].parameters == sum(layer.parameters for layer in report.layers)
    assert told.steps[-1].macs == report.outputs[0].macs
    layers = {layer.name: layer for layer in report.layers}
    assert [layer.layer for layer in told.steps[0].layers] == list(layers)
    for layer in told.steps[0].layers:
        done = layers[layer.layer]
        assert layer.kind == done.kind
        assert layer.target_sparsity == pytest.approx(done.target_sparsity)
        if layer.action == "change":
            assert not layer.estimated
            assert layer.sparsity == pytest.approx(done.sparsity_after, abs=1e-9)
        elif done.skipped:
            assert (layer.action, layer.reason) == ("leave_alone", done.skipped)
    codes = ("layer_skipped", "override_unused", "nothing_changed")
    assert said(told, *codes) == said(report, *codes)
    if len(steps) > 1:
        assert told.steps[1].cost is not None
        assert told.steps[1].cost.optimizer_steps == report.steps[1].details["optimiser_steps"]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("blocks", {"scheme": "dynamic_int8"}),
        ("blocks", {"scheme": "weight_only", "weight_bits": 4, "layers": {"exclude": ["s*"]}}),
        ("blocks", {"scheme": "full_int8"}),
    ],
    ids=["dynamic", "four-bits", "full"],
)
def test_weights_are_stored_as_planned(folder: Path, name: str, step: dict[str, Any], tmp_path: Path) -> None:
    told, report = both(folder, name, [{"technique": "quantize", **step}], tmp_path, "tflite")
    planned_types = {
        layer.layer: layer.dtype for layer in told.steps[0].layers if "dtype" not in layer.estimated
    }
    assert {"stem", "depthwise", "second", "hidden", "last"} == planned_types.keys()
    assert planned_types == report.steps[0].details["layers"]
    assert said(told, "left_float") == said(report, "left_float")
    assert told.after[0].bytes_estimate == pytest.approx(report.outputs[0].bytes, rel=0.6)


def test_layers_learn_to_be_rounded_as_planned(folder: Path, tmp_path: Path) -> None:
    told, report = both(folder, "blocks", [AWARE, TRAIN], tmp_path, "tflite")
    assert told.steps[0].details == report.steps[0].details
    done = report.steps[1].details["quantize_aware"]
    types = {layer.layer: layer.dtype for layer in told.steps[0].layers if not layer.estimated}
    assert types.keys() & done["layers"].keys() == {"stem", "depthwise", "second", "hidden"}
    assert {path: types[path] for path in types.keys() & done["layers"].keys()} == {
        path: dtype for path, dtype in done["layers"].items() if path in types
    }
    assert said(told, "computed_in_float") == said(report, "computed_in_float")


def test_values_and_ranks_are_as_planned(folder: Path, tmp_path: Path) -> None:
    ranks = {"technique": "decompose", "rank": {"type": "fixed", "rank": 3}}
    told, report = both(folder, "blocks", [ranks], tmp_path / "ranks", "pt2")
    done = report.steps[0].details
    layers = {layer.layer: layer for layer in told.steps[0].layers}
    assert {path: layers[path].reason for path in done["left_alone"]} == done["left_alone"]
    assert {path for path, layer in layers.items() if layer.action == "change"} == set(done["layers"])
    for path, made in done["layers"].items():
        assert layers[path].parameters_after == made["parameters_after"]
        assert layers[path].macs_after == made["macs_after"]
    told, report = both(folder, "blocks", [CLUSTER], tmp_path / "values", "pt2")
    assert told.steps[0].details["layers"] == report.steps[0].details["layers"]
    reached = {layer.name: layer.distinct_values_after for layer in report.layers}
    for layer in told.steps[0].layers:
        if layer.action == "change":
            assert layer.distinct_values is not None
            assert 0.6 * layer.distinct_values <= (reached[layer.layer] or 0) <= layer.distinct_values


@pytest.mark.parametrize(
    "step",
    [
        {"technique": "prune", "layers": {"include": ["nothing*"]}},
        {"technique": "prune", "pattern": {"type": "xnnpack_latency"}},
        {"technique": "prune", "on_unsupported": "error"},
        {"technique": "cluster", "overrides": [{"layers": {"include": ["q*"]}, "clusters": 4}]},
        {"technique": "decompose", "on_unsupported": "error"},
        {"technique": "quantize", "scheme": "float16", "layers": {"include": ["q*"]}},
    ],
    ids=["pattern", "xnnpack", "depthwise", "override", "groups", "quantised"],
)
def test_what_the_job_refuses_is_a_problem_of_the_plan(
    folder: Path, step: dict[str, Any], tmp_path: Path
) -> None:
    model = folder / "blocks.pt2"
    with pytest.raises(CompressionError) as refused:
        compress(model, {"steps": [step]}, workdir=tmp_path)
    error = refused.value
    (problem,) = planned(model, None, [step]).problems
    assert (problem.code, problem.detail, problem.hint) == (error.code, error.detail, error.hint)
    assert (problem.pointer, problem.layer) == (f"/spec{error.pointer}", error.layer)


def test_what_only_the_job_finds_out_is_said(folder: Path) -> None:
    steps = [{"technique": "prune_channels"}, {"technique": "quantize", "scheme": "dynamic_int8"}]
    made = planned(folder / "blocks.pt2", None, steps, outputs=["onnx"])
    open_ = [warning.message for warning in made.warnings if warning.code == "not_looked_at"]
    assert any("prune_channels" in message for message in open_)
    assert any("onnx" in message for message in open_)
    possible = {
        each.technique: each.possible for each in inspect(read_outline(folder / "blocks.pt2")).techniques
    }
    assert possible["prune"] is True
    assert possible["prune_channels"] is None


def test_no_plan_needs_pytorch(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; "
        "from tests.compression.planning.test_plan_is_what_the_job_does import planned; "
        f"made = planned(Path({str(folder / 'blocks.pt2')!r}), None, {[PRUNE, CLUSTER, TRAIN]!r}, "
        "outputs=['pt2']); print(made.problems[0].code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["dataset_required", "False"]
