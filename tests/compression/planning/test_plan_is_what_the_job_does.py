"""Plans against the report of the real job, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherweight.plan import Plan
from featherweight.report import Report
from featherweight.spec import CompressionSpec
from tasks.compression import CompressionError, compress
from tasks.compression.arrays import is_of_samples
from tasks.compression.npz import read_shapes
from tasks.compression.outline.reading import read_outline
from tasks.compression.planning import plan
from tests.compression.networks import keras, save_model
from tests.compression.planning.networks import NETWORKS

SAMPLES = 120

PRUNE: dict[str, Any] = {"technique": "prune"}
BLOCKS = {"technique": "prune", "pattern": {"type": "block", "block_size": [4, 4]}}
TWO_OF_FOUR = {"technique": "prune", "pattern": {"type": "n_of_m"}}
TRAIN = {"technique": "finetune", "epochs": 1, "batch_size": 16}
CHANNELS = {"technique": "prune_channels", "target": {"type": "ratio", "remove": 0.4}, "round_to": 2}
SPECS: dict[str, list[dict[str, Any]]] = {
    "prune": [PRUNE],
    "prune some": [
        {
            "technique": "prune",
            "schedule": {"type": "constant_sparsity", "target_sparsity": 0.3},
            "layers": {"exclude": ["*o*"]},
        }
    ],
    "blocks": [BLOCKS],
    "two of four": [TWO_OF_FOUR],
    "train": [PRUNE, TRAIN],
    "channels": [CHANNELS],
    "channels, pruned and trained": [CHANNELS, PRUNE, TRAIN],
}
QUANTIZED: dict[str, dict[str, Any]] = {
    "float16": {"scheme": "float16"},
    "dynamic_int8": {"scheme": "dynamic_int8"},
    "full_int8": {"scheme": "full_int8"},
    "weight_only": {"scheme": "weight_only"},
    "four bits": {"scheme": "dynamic", "weight_bits": 4},
    "two bits": {"scheme": "dynamic", "weight_bits": 2},
    "without some": {"scheme": "weight_only", "layers": {"exclude": ["*o*"]}},
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model file and a data set that fits it."""
    keras().utils.set_random_seed(1)
    model = NETWORKS[request.param]()
    directory = tmp_path_factory.mktemp(request.param)
    chance = np.random.default_rng(0)
    x = chance.normal(size=(SAMPLES, *model.inputs[0].shape[1:])).astype(np.float32)
    np.savez(directory / "data.npz", x=x, y=np.arange(SAMPLES) % 4)
    model.compile("adam", keras().losses.SparseCategoricalCrossentropy(from_logits=True))
    return save_model(model, directory / "m.keras"), directory / "data.npz"


def planned(model: Path, data: Path | None, steps: list[dict[str, Any]], **options: Any) -> Plan:
    spec = CompressionSpec.model_validate({"steps": steps, **options})
    shapes = None if data is None else read_shapes(data, is_of_samples)
    return plan(read_outline(model), spec, shapes=shapes, has_dataset=data is not None)


@pytest.mark.parametrize("name", SPECS)
def test_layers_end_as_planned(network: tuple[Path, Path], name: str, tmp_path: Path) -> None:
    model, data = network
    steps = SPECS[name]
    told = planned(model, data, steps, outputs=["keras"])
    assert told.feasible, told.problems
    spec = {"steps": steps, "outputs": ["keras"]}
    report = compress(model, spec, dataset=data, workdir=tmp_path / "w").report

    assert told.data is not None
    assert report.data is not None
    assert told.data.model_dump() == {key: getattr(report.data, key) for key in told.data.model_dump()}
    assert told.steps[-1].parameters == sum(layer.parameters for layer in report.layers)
    _compare_pruning(told, report)
    _compare_channels(told, report)
    for code in ("layer_skipped", "channels_left_alone", "nothing_changed", "override_unused"):
        assert _said(told, code) == _said(report, code)


def _compare_pruning(told: Plan, report: Report) -> None:
    layers = {layer.name: layer for layer in report.layers}
    for step in told.steps:
        if step.technique != "prune":
            continue
        assert {layer.layer for layer in step.layers} == set(layers)
        for layer in step.layers:
            done = layers[layer.layer]
            assert layer.target_sparsity == pytest.approx(done.target_sparsity)
            if layer.action == "change":
                assert not layer.estimated
                assert layer.sparsity == pytest.approx(done.sparsity_after, abs=1e-9), layer.layer
            elif done.skipped:
                assert (layer.action, layer.reason) == ("leave_alone", done.skipped)


def _compare_channels(told: Plan, report: Report) -> None:
    for step, done in zip(told.steps, report.steps, strict=True):
        if step.technique != "prune_channels":
            continue
        known = {"left_alone", "parameters_after", "macs_before", "macs_after", "reached", "met"}
        assert {key: step.details[key] for key in known} == {key: done.details[key] for key in known}
        channels = {
            layer.layer: {"before": layer.channels_before, "after": layer.channels_after}
            for layer in step.layers
            if layer.channels_before is not None
        }
        assert channels == done.details["channels"]


def _said(source: Plan | Report, code: str) -> set[tuple[str | None, str]]:
    return {(warning.layer, warning.message) for warning in source.warnings if warning.code == code}


@pytest.mark.parametrize("name", QUANTIZED)
def test_weights_are_stored_as_planned(network: tuple[Path, Path], name: str, tmp_path: Path) -> None:
    model, data = network
    steps = [{"technique": "quantize", **QUANTIZED[name]}]
    told = planned(model, data, steps)
    if not told.feasible:
        with pytest.raises(CompressionError) as refused:
            compress(model, {"steps": steps}, dataset=data, workdir=tmp_path / "w")
        error = refused.value
        assert [(problem.code, problem.detail) for problem in told.problems] == [(error.code, error.detail)]
        return
    report = compress(model, {"steps": steps}, dataset=data, workdir=tmp_path / "w").report
    dtypes = {layer.layer: layer.dtype for layer in told.steps[0].layers if "dtype" not in layer.estimated}
    done = report.steps[0].details["layers"]
    assert {layer: dtypes[layer] for layer in done if layer in dtypes} == {
        layer: dtype for layer, dtype in done.items() if layer in dtypes
    }
    assert len(done) >= 1 or not dtypes or set(dtypes.values()) == {"float32"}
    assert _said(told, "left_float") == _said(report, "left_float")
    # The estimate of the raw file is of the right size.
    assert told.after[0].bytes_estimate == pytest.approx(report.outputs[0].bytes, rel=0.6)


@pytest.mark.parametrize(
    "step",
    [
        {"technique": "prune", "layers": {"include": ["nothing*"]}},
        {"technique": "prune", "layers": {"exclude": ["ot"]}},
        {"technique": "prune_channels", "overrides": [{"layers": {"include": ["x9"]}, "remove": 0.1}]},
        {"technique": "prune_channels", "on_unsupported": "error"},
        {"technique": "prune", "pattern": {"type": "n_of_m", "n": 3, "m": 7}, "on_unsupported": "error"},
        {"technique": "quantize", "scheme": "float16", "layers": {"include": ["q*"]}},
    ],
    ids=str,
)
def test_what_the_job_refuses_is_a_problem_of_the_plan(
    network: tuple[Path, Path], step: dict[str, Any], tmp_path: Path
) -> None:
    model, _ = network
    told = planned(model, None, [step])
    with pytest.raises(CompressionError) as refused:
        compress(model, {"steps": [step]}, workdir=tmp_path / "w")
    error = refused.value
    assert not told.feasible
    (problem,) = told.problems
    assert (problem.code, problem.detail, problem.hint) == (error.code, error.detail, error.hint)
    assert (problem.pointer, problem.layer) == (f"/spec{error.pointer}", error.layer)


@pytest.mark.parametrize(
    "rank",
    [{"type": "fixed", "rank": 3}, {"type": "fixed", "rank": 64}, {"type": "parameters", "keep": 0.5}],
    ids=str,
)
def test_ranks_are_as_planned(network: tuple[Path, Path], rank: dict[str, Any], tmp_path: Path) -> None:
    model, _ = network
    steps = [{"technique": "decompose", "rank": rank}]
    told = planned(model, None, steps, outputs=["keras"])
    assert told.feasible, told.problems
    report = compress(model, {"steps": steps, "outputs": ["keras"]}, workdir=tmp_path / "w").report
    done = report.steps[0].details
    layers = {layer.layer: layer for layer in told.steps[0].layers}
    assert {path: layers[path].reason for path in done["left_alone"]} == done["left_alone"]
    assert {path for path, layer in layers.items() if layer.action == "change"} == set(done["layers"])
    for path, made in done["layers"].items():
        layer = layers[path]
        if not layer.estimated:
            assert layer.rank == made["ranks"][0]
            assert layer.parameters_after == made["parameters_after"]
            assert layer.macs_after == made["macs_after"]
    assert _said(told, "not_decomposed") == _said(report, "not_decomposed")
