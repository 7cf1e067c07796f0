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
from tests.compression.several import arrays, save_trained

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
SPECS_OF: dict[str, list[str]] = {
    "conv": ["prune", "blocks", "train", "channels"],
    "residual": ["prune", "two of four", "channels, pruned and trained"],
    "separable": ["prune", "blocks", "channels"],
    "lstm": ["prune", "two of four"],
    "nested": ["prune", "prune some", "channels"],
    "shared": ["prune", "prune some", "channels"],
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


QUANTIZED_OF: dict[str, list[str]] = {
    "conv": ["full_int8", "four bits", "without some"],
    "residual": ["dynamic_int8", "two bits"],
    "separable": ["weight_only", "full_int8"],
    "lstm": ["float16"],
    "nested": ["two bits", "without some"],
    "shared": ["dynamic_int8"],
}
CLUSTER = {"technique": "cluster", "clusters": 8}
PER_CHANNEL = {
    **CLUSTER,
    "per_channel": True,
    "overrides": [
        {"layers": {"include": ["*o*"]}, "clusters": 3},
        {"layers": {"include": ["*o*"]}, "clusters": 4},
    ],
}
CLUSTERED: dict[str, list[dict[str, Any]]] = {
    "at once": [CLUSTER],
    "pruned": [PRUNE, CLUSTER],
    "per channel": [PER_CHANNEL],
    "trained": [PRUNE, PER_CHANNEL, TRAIN],
}
AWARE = {"technique": "quantize_aware"}
ROUNDED: dict[str, dict[str, Any]] = {
    "eight bits": AWARE,
    "four bits, without some": {**AWARE, "weight_bits": 4, "layers": {"exclude": ["s*"]}},
}
ROUNDS: dict[str, dict[str, Any]] = {
    "ratio": {**CHANNELS, "iterations": 3},
    "macs": {
        "technique": "prune_channels",
        "target": {"type": "macs", "keep": 0.5},
        "iterations": 2,
        "overrides": [{"layers": {"include": ["*n*"]}, "remove": 0.25}],
    },
}


def on(**chosen: list[str]) -> pytest.MarkDecorator:
    """Networks, each with the cases that it shows something of."""
    pairs = [(network, case) for network, cases in chosen.items() for case in cases]
    return pytest.mark.parametrize(("network", "name"), pairs, indirect=["network"])


@pytest.fixture(scope="module")
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


@pytest.mark.ends
@on(**SPECS_OF)
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


@pytest.mark.ends
@on(**QUANTIZED_OF)
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


@pytest.mark.parametrize("network", ["shared"], indirect=True)
@pytest.mark.parametrize(
    "step",
    [
        {"technique": "prune", "layers": {"include": ["nothing*"]}},
        {"technique": "prune", "layers": {"exclude": ["ot"]}},
        {"technique": "prune_channels", "overrides": [{"layers": {"include": ["x9"]}, "remove": 0.1}]},
        {"technique": "prune_channels", "on_unsupported": "error"},
        {"technique": "prune", "pattern": {"type": "n_of_m", "n": 3, "m": 7}, "on_unsupported": "error"},
        {"technique": "quantize", "scheme": "float16", "layers": {"include": ["q*"]}},
        {"technique": "cluster", "overrides": [{"layers": {"include": ["q*"]}, "clusters": 4}]},
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


@pytest.mark.parametrize("network", ["conv", "nested"], indirect=True)
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


@on(conv=["at once", "trained"], nested=["per channel"], separable=["pruned"])
def test_values_are_as_few_as_planned(network: tuple[Path, Path], name: str, tmp_path: Path) -> None:
    model, data = network
    spec = {"steps": CLUSTERED[name], "outputs": ["keras"]}
    told = planned(model, data, CLUSTERED[name], outputs=["keras"])
    assert told.feasible, told.problems
    report = compress(model, spec, dataset=data, workdir=tmp_path / "w").report
    place = next(index for index, step in enumerate(told.steps) if step.technique == "cluster")
    known = {"clusters", "initialization", "per_channel", "begin", "layers"}
    done = report.steps[place].details
    assert {key: told.steps[place].details[key] for key in known} == {key: done[key] for key in known}
    layers = {layer.name: layer for layer in report.layers}
    for layer in told.steps[place].layers:
        if layer.action == "change":
            assert layer.clusters == done["layers"][layer.layer]
            assert layer.distinct_values is not None
            reached = layers[layer.layer].distinct_values_after
            assert reached is not None
            assert 0.6 * layer.distinct_values <= reached <= layer.distinct_values
    for code in ("layer_not_shared", "override_unused", "nothing_changed"):
        assert _said(told, code) == _said(report, code)
    if name != "trained":  # In which channels zeros are, the weights decide.
        assert _said(told, "nothing_shared") == _said(report, "nothing_shared")
    assert told.after[0].gzip_bytes_estimate < told.before[0].gzip_bytes_estimate


@on(conv=["eight bits"], residual=["four bits, without some"])
def test_layers_learn_to_be_rounded_as_planned(network: tuple[Path, Path], name: str, tmp_path: Path) -> None:
    model, data = network
    steps = [ROUNDED[name], TRAIN]
    told = planned(model, data, steps)
    assert told.feasible, told.problems
    report = compress(model, {"steps": steps}, dataset=data, workdir=tmp_path / "w").report
    assert told.steps[0].details == report.steps[0].details
    done = report.steps[1].details["quantize_aware"]
    dtypes = {layer.layer: layer.dtype for layer in told.steps[0].layers if not layer.estimated}
    assert len(dtypes.keys() & done["layers"].keys()) > 2
    assert {path: dtype for path, dtype in done["layers"].items() if path in dtypes} == {
        path: dtypes[path] for path in done["layers"] if path in dtypes
    }
    assert _said(told, "computed_in_float") == _said(report, "computed_in_float")
    assert told.after[0].bytes_estimate == pytest.approx(report.outputs[0].bytes, rel=0.6)


@pytest.mark.parametrize("network", ["lstm"], indirect=True)
def test_network_of_which_nothing_can_learn_to_be_rounded(network: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = network
    steps = [{**AWARE, "layers": {"include": ["lstm"]}}, TRAIN]
    told = planned(model, data, steps)
    with pytest.raises(CompressionError) as refused:
        compress(model, {"steps": steps}, dataset=data, workdir=tmp_path / "w")
    assert [problem.detail for problem in told.problems] == [refused.value.detail]


@on(conv=["ratio"], residual=["macs"])
def test_rounds_end_as_planned(network: tuple[Path, Path], name: str, tmp_path: Path) -> None:
    model, data = network
    steps = [ROUNDS[name], TRAIN]
    told = planned(model, data, steps, outputs=["keras"])
    assert told.feasible, told.problems
    spec = {"steps": steps, "outputs": ["keras"]}
    report = compress(model, spec, dataset=data, workdir=tmp_path / "w").report
    before, after = told.steps
    done = report.steps[1].details["prune_channels"]
    assert [part["asked"] for part in before.details["rounds"]] == report.steps[0].details["asked"]
    assert before.details["left_alone"] == report.steps[0].details["left_alone"]
    assert after.cost is not None
    assert after.cost.optimizer_steps == report.steps[1].details["optimiser_steps"]
    exact = name == "ratio"
    assert bool(before.estimated) is not exact
    for planned_round, done_round in zip(before.details["rounds"], done["rounds"], strict=True):
        for key in ("channels", "parameters", "macs", "reached") if exact else ():
            assert planned_round[key] == done_round[key]
        assert planned_round["macs"] == pytest.approx(done_round["macs"], rel=0.1)
    assert before.macs == pytest.approx(done["macs_after"], rel=0 if exact else 0.1)
    assert _said(told, "channels_left_alone") == _said(report, "channels_left_alone")


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_trained(tmp_path_factory.mktemp("several") / "m.keras")


def test_data_of_several_tensors_are_divided_as_planned(several: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **arrays())
    told = planned(several, tmp_path / "d.npz", [PRUNE], outputs=["keras"])
    spec = {"steps": [PRUNE], "outputs": ["keras"]}
    report = compress(several, spec, dataset=tmp_path / "d.npz", workdir=tmp_path / "w").report
    assert told.feasible, told.problems
    assert told.data is not None
    assert report.data is not None
    assert told.data.model_dump() == {key: getattr(report.data, key) for key in told.data.model_dump()}


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"x__angle": None}, {}),
        ({"x__angle": np.zeros((600, 5), np.float32)}, {}),
        ({"y__kind": np.zeros(599, np.int64)}, {}),
        ({"x": np.zeros((600, 6), np.float32)}, {}),
        ({}, {"loss": {"size": "mean_squared_error", "colour": "mean_squared_error"}}),
    ],
    ids=str,
)
def test_data_that_do_not_fit_several_tensors_are_problems_of_the_plan(
    several: Path, changes: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    np.savez(tmp_path / "d.npz", **arrays(**changes))
    steps = [{**TRAIN, **options}]
    told = planned(several, tmp_path / "d.npz", steps)
    with pytest.raises(CompressionError) as refused:
        compress(several, {"steps": steps}, dataset=tmp_path / "d.npz", workdir=tmp_path / "w")
    (problem,) = told.problems
    error = refused.value
    assert (problem.code, problem.detail, problem.hint) == (error.code, error.detail, error.hint)
    prefix = "" if (error.pointer or "").startswith("/dataset/") else "/spec"
    assert problem.pointer == (error.pointer and f"{prefix}{error.pointer}")
