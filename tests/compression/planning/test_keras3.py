"""Plans of Keras 3 files against what the job makes of them, and the names that plans go by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from featherweight.plan import Plan
from featherweight.report import Report
from tasks.compression import CompressionError, compress
from tasks.compression.backends.tensorflow import keras3 as names
from tasks.compression.backends.tensorflow._framework import keras as keras2
from tasks.compression.backends.tensorflow.bridge.counterparts import _has
from tasks.compression.backends.tensorflow.bridge.operations import ACTIVATIONS, TO_KERAS2, to_keras3
from tasks.compression.outline import keras3 as outlines
from tasks.compression.outline.reading import read_outline
from tests.compression.planning.test_plan_is_what_the_job_does import CHANNELS, PRUNE, planned
from tests.compression.test_bridge import MODELS, keras, randomise

# Keras 3 asks NumPy for a copy in a way that NumPy 2 will stop taking.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FILES = [
    *[(name, "keras") for name in MODELS if name not in ("shapes", "volumes", "sequential", "normalization")],
    *[(name, "h5") for name in ("convolutions", "nested", "sequential")],
]


def save(model: Any, path: Path) -> Path:
    model.save(path)
    return path


@pytest.mark.ends
@pytest.mark.parametrize(("name", "suffix"), FILES)
def test_keras3_file_is_planned_as_the_job_does_it(name: str, suffix: str, tmp_path: Path) -> None:
    path = save(randomise(MODELS[name]()), tmp_path / f"m.{suffix}")
    steps = [CHANNELS, PRUNE]
    told = planned(path, None, steps, outputs=["keras"])
    assert told.feasible, told.problems
    spec = {"steps": steps, "outputs": ["keras"]}
    report = compress(path, spec, workdir=tmp_path / "w").report
    channels, pruned = told.steps
    assert {layer.layer for layer in pruned.layers} == {layer.name for layer in report.layers}
    assert told.model is not None
    assert told.model.macs == report.original.macs
    assert told.model.parameters == report.original.parameters
    done = report.steps[0].details
    assert channels.details["left_alone"].keys() == done["left_alone"].keys()
    if not channels.estimated:
        assert channels.details["channels"] == done["channels"]
        assert channels.parameters == done["parameters_after"]
        assert channels.macs == done["macs_after"]
        targets = {layer.layer: layer.target_sparsity for layer in pruned.layers}
        assert targets == {layer.name: layer.target_sparsity for layer in report.layers}
    for code in ("layer_skipped", "nothing_changed", "override_unused"):
        assert said(told, code) == said(report, code)


def said(source: Plan | Report, code: str) -> set[tuple[str | None, str]]:
    return {(warning.layer, warning.message) for warning in source.warnings if warning.code == code}


def test_two_directions_of_their_own_leave_an_estimate(tmp_path: Path) -> None:
    path = save(MODELS["bidirectional"](), tmp_path / "m.keras")
    (step,) = planned(path, None, [CHANNELS], outputs=["keras"]).steps
    assert "parameters_after" in step.layers[0].estimated


REFUSED: dict[str, Any] = {
    "layer": lambda k, x: k.layers.RMSNormalization(name="rms")(x),
    "wrapped layer": lambda k, x: k.layers.TimeDistributed(k.layers.RMSNormalization(name="rms"))(x),
    "activation": lambda k, x: k.layers.Dense(2, activation="celu", name="dense")(x),
    "activation inside": lambda k, x: k.layers.LSTM(2, activation="hard_sigmoid", name="lstm")(x),
    "operation": lambda k, x: k.ops.cumsum(x, axis=1),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_keras2_lacks_is_refused_by_plan_and_job_in_one_sentence(what: str, tmp_path: Path) -> None:
    inputs = keras().Input((6, 4))
    model = keras().Model(inputs, REFUSED[what](keras(), inputs))
    path = save(model, tmp_path / "m.keras")
    told = planned(path, None, [PRUNE], outputs=["keras"])
    with pytest.raises(CompressionError) as refused:
        compress(path, {"steps": [PRUNE], "outputs": ["keras"]}, workdir=tmp_path / "w")
    error = refused.value
    assert error.code == ("layer_not_allowed" if what == "operation" else "unsupported_model")
    problem = told.problems[0]
    assert (problem.detail, problem.hint, problem.layer) == (error.detail, error.hint, error.layer)


def test_operations_in_an_h5_are_refused_by_plan_and_job(tmp_path: Path) -> None:
    path = save(MODELS["operations"](), tmp_path / "m.h5")
    told = planned(path, None, [PRUNE], outputs=["keras"])
    with pytest.raises(CompressionError) as refused:
        compress(path, {"steps": [PRUNE], "outputs": ["keras"]}, workdir=tmp_path / "w")
    problem, error = told.problems[0], refused.value
    assert (problem.code, problem.hint) == (error.code, error.hint) == ("bad_model", names.RELOAD["hdf5"])
    assert error.detail.startswith(problem.detail.removesuffix("."))


def test_masks_need_no_operations_of_their_own(tmp_path: Path) -> None:
    outline = read_outline(save(MODELS["embedding"](), tmp_path / "m.keras"))
    assert [layer.kind for layer in outline.layers] == ["InputLayer", "Embedding", "LSTM"]
    assert outline.refused is None
    assert None not in outline.tensors[:2]


def test_names_are_those_of_both_kerases() -> None:
    layers = keras().layers
    found = {name: getattr(layers, name) for name in dir(layers)}
    own = {name for name, one in found.items() if isinstance(one, type) and issubclass(one, layers.Layer)}
    models, extra = {"Functional", "Model", "Sequential"}, {"LayerScale"}
    assert own | set(TO_KERAS2) | names.MASKS | models | extra == names.KNOWN
    alone = {name for name in own if not isinstance(getattr(keras2.layers, name, None), type)}
    assert alone == names._OF_KERAS_3_ALONE


def test_operations_and_activations_are_those_of_the_bridge() -> None:
    assert TO_KERAS2.keys() == names.OPERATIONS
    assert ACTIVATIONS.keys() == names.SPLIT
    activations = {name for name in dir(keras().activations) if not name.startswith("_")}
    activations -= {"get", "serialize", "deserialize"}
    assert {name for name in activations if _has(keras2.activations, name)} == names.ACTIVATIONS


@pytest.mark.parametrize("kind", sorted(names.OPERATIONS))
def test_every_operation_has_a_counterpart_by_name(kind: str) -> None:
    config = {"name": "op", "newshape": [2, 2], "axes": [1, 0]}
    made, described = outlines.counterpart(kind, config)
    if made == "TFOpLambda":
        functions = {*to_keras3(keras().ops), "math.divide"}
        assert described["function"] in functions
    else:
        assert made == "SlicingOpLambda" or hasattr(keras2.layers, made)
