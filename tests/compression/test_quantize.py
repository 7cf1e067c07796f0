"""Selective quantisation, calibration chosen, sensitive layers, blocks: on real digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from featherweight.report import Report
from featherweight.spec import Quantize
from tasks.compression import compress
from tasks.compression.errors import CompressionError
from tasks.compression.tflite import tensors, weight_types
from tests.compression.networks import keras, save_model

Run = Callable[..., tuple[Report, bytes]]


@pytest.fixture(scope="module")
def dense_file(digit_arrays: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    layers = keras().layers
    keras().utils.set_random_seed(0)
    model = keras().Sequential(
        [
            layers.InputLayer((28, 28)),
            layers.Flatten(),
            layers.Dense(64, activation="relu", name="first"),
            layers.Dense(32, activation="relu", name="second"),
            layers.Dense(10, name="logits"),
        ]
    )
    model.compile("adam", keras().losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(digit_arrays["x"], digit_arrays["y"], epochs=4, batch_size=64, verbose=0)
    return save_model(model, tmp_path_factory.mktemp("dense") / "dense.keras")


@pytest.fixture
def run(cnn_file: Path, digit_file: Path, tmp_path: Path) -> Run:
    def run(model: Path = cnn_file, *, data: bool = True, **step: Any) -> tuple[Report, bytes]:
        spec = {"steps": [{"technique": "quantize", **step}]}
        compress(model, spec, dataset=digit_file if data else None, workdir=tmp_path)
        report = Report.model_validate_json((tmp_path / "out" / "report.json").read_bytes())
        return report, (tmp_path / "out" / "model.tflite").read_bytes()

    return run


def details(report: Report) -> dict[str, Any]:
    return report.steps[0].details


def why_float(report: Report) -> dict[str | None, str]:
    return {item.layer: item.message for item in report.warnings if item.code == "left_float"}


@pytest.mark.parametrize("algorithm", ["min_max", "octav", "gptq", "hadamard"])
def test_blocks_that_do_not_divide_a_layer_leave_it_float_and_say_so(
    run: Run, dense_file: Path, algorithm: str
) -> None:
    step = {"scheme": "dynamic", "weight_bits": 4, "algorithm": algorithm, "granularity": "blockwise"}
    report, content = run(dense_file, **step, calibration_samples=30)
    assert details(report)["layers"] == {"first": "float32", "second": "int4", "logits": "int4"}
    assert weight_types(content)["int4"] == 2
    assert list(why_float(report)) == ["first"]
    assert "blocks of 32 do not divide its 784 inputs" in why_float(report)["first"]


def test_blocks_that_divide_no_layer_are_refused(run: Run, dense_file: Path) -> None:
    step = {"scheme": "dynamic", "weight_bits": 4, "granularity": "blockwise", "block_size": 256}
    with pytest.raises(CompressionError) as raised:
        run(dense_file, **step)
    assert raised.value.code == "layer_not_supported"
    assert raised.value.pointer == "/steps/0"
    assert "blocks of 256" in raised.value.detail


@pytest.mark.parametrize("scheme", ["full_int8", "int16x8"])
def test_calibration_is_chosen_among_candidates(run: Run, scheme: str) -> None:
    report, _ = run(scheme=scheme, calibration_candidates=4, calibration_samples=64)
    choice = details(report)["calibration"]
    assert choice["samples"] == [64, 16, 10, 64]
    assert len(choice["divergence"]) == 4
    assert len(set(choice["divergence"])) > 1
    assert choice["chosen"] == int(np.argmin(choice["divergence"]))
    assert report.data is not None
    assert choice["compared_on"] == report.data.validation == 160


def test_candidates_are_compared_on_all_but_the_test_split_where_validation_is_small(
    digit_arrays: dict[str, Any], dense_file: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few.npz"
    np.savez(few, x=digit_arrays["x"][:120], y=digit_arrays["y"][:120])
    step = {"technique": "quantize", "calibration_candidates": 2, "calibration_samples": 20}
    report = compress(dense_file, {"steps": [step]}, dataset=few, workdir=tmp_path / "work").report
    assert report.data is not None
    assert report.data.validation == 10
    assert details(report)["calibration"]["compared_on"] == report.data.train + report.data.validation == 96


def test_harmful_layer_is_found_and_left_in_float(
    digit_arrays: dict[str, Any], run: Run, tmp_path: Path
) -> None:
    # One huge weight coarsens the scale of the whole tensor: the layer's other weights round to zero.
    layers = keras().layers
    keras().utils.set_random_seed(0)
    model = keras().Sequential(
        [
            layers.InputLayer((28, 28)),
            layers.Flatten(),
            layers.Dense(32, activation="relu", name="fine"),
            layers.Dense(33, activation="relu", name="harmed"),
            layers.Dense(10, name="logits"),
        ]
    )
    model.compile("adam", keras().losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(digit_arrays["x"], digit_arrays["y"], epochs=5, batch_size=64, verbose=0)
    kernel, bias = model.get_layer("harmed").get_weights()
    kernel[:, 32], bias[32] = -1000.0, -1000.0
    model.get_layer("harmed").set_weights([kernel, bias])
    path = save_model(model, tmp_path / "harmed.keras")
    step = {"scheme": "dynamic", "granularity": "per_tensor"}
    report, content = run(path, **step, sensitivity={"max_drop": 0.02, "max_float_layers": 2})
    found = details(report)["sensitivity"]
    assert found["left_float"] == ["harmed"]
    assert found["drop_before"] > 0.1
    assert found["drop"] <= 0.02
    errors = {entry["layer"]: entry["snr_db"] for entry in found["layers"]}
    assert set(errors) == {"fine", "harmed", "logits"}
    assert errors["harmed"] < errors["fine"] - 10
    assert details(report)["layers"] == {"fine": "int8", "harmed": "float32", "logits": "int8"}
    assert weight_types(content)["int8"] == 2
    assert "left_float" not in {warning.code for warning in report.warnings}


def test_drop_that_cannot_be_met_is_said(run: Run, dense_file: Path) -> None:
    step = {"scheme": "dynamic", "weight_bits": 2, "sensitivity": {"max_drop": 0.0, "max_float_layers": 1}}
    report, _ = run(dense_file, **step)
    assert details(report)["sensitivity"]["drop"] > 0
    assert "drop_not_met" in {warning.code for warning in report.warnings}


def test_full_int8_leaves_what_is_not_selected_in_float(run: Run) -> None:
    report, content = run(scheme="full_int8", layers={"include": ["logits"]})
    assert details(report)["layers"] == {"conv": "float32", "depthwise": "float32", "logits": "int8"}
    assert weight_types(content)["int8"] == 1


def test_pattern_that_matches_no_layer_is_refused(run: Run) -> None:
    with pytest.raises(CompressionError) as raised:
        run(scheme="full_int8", layers={"exclude": ["logit"]})
    assert raised.value.code == "layer_not_found"
    assert raised.value.pointer == "/steps/0/layers/exclude/0"


def test_depthwise_with_one_scale_is_not_computed_dynamically(run: Run) -> None:
    # LiteRT takes such a file and answers nonsense.
    report, _ = run(scheme="dynamic", granularity="per_tensor")
    assert details(report)["layers"]["depthwise"] == "float32"
    assert report.outputs[0].agreement is not None
    assert report.outputs[0].agreement > 0.95


@pytest.mark.parametrize(
    ("step", "named"),
    [
        ({"scheme": "full_int8"}, "dynamic_int8 needs none"),
        ({"scheme": "int16x8"}, "dynamic_int8 needs none"),
        ({"scheme": "dynamic", "algorithm": "gptq"}, "octav and mse need none"),
        ({"scheme": "dynamic", "sensitivity": {}}, "to measure the drop on"),
    ],
)
def test_what_needs_data_says_what_does_not(run: Run, step: dict[str, Any], named: str) -> None:
    with pytest.raises(CompressionError) as raised:
        run(data=False, **step)
    assert raised.value.code == "dataset_required"
    assert named in raised.value.detail


@pytest.mark.parametrize(
    "step",
    [
        {"scheme": "weight_only", "weight_bits": 2},
        {"scheme": "weight_only", "granularity": "blockwise", "weight_bits": 4},
        {"scheme": "weight_only", "algorithm": "hadamard"},
        {"scheme": "dynamic", "granularity": "blockwise"},
        {"scheme": "dynamic", "granularity": "blockwise", "weight_bits": 2},
        {"scheme": "dynamic", "granularity": "blockwise", "weight_bits": 4, "algorithm": "mse"},
        {"scheme": "dynamic", "weight_bits": 2, "algorithm": "mse"},
        {"scheme": "dynamic", "block_size": 64},
        {"scheme": "int16x8", "layers": {"exclude": ["a"]}},
        {"scheme": "int16x8", "sensitivity": {}},
    ],
)
def test_what_no_kernel_can_do_is_refused_by_the_contract(step: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="Value error"):
        Quantize.model_validate({"technique": "quantize", **step})


def test_same_spec_makes_the_same_bytes(run: Run) -> None:
    step = {"scheme": "dynamic", "weight_bits": 4, "algorithm": "gptq", "calibration_samples": 20}
    first, content = run(**step)
    again, other = run(**step, layers={"include": ["*"]})
    assert content == other
    assert first.outputs[0].sha256 == again.outputs[0].sha256


def test_names_can_be_kept(cnn_file: Path, tmp_path: Path) -> None:
    spec = {"steps": [{"technique": "quantize", "scheme": "dynamic"}]}
    sizes = {}
    for names in ("strip", "keep"):
        compress(cnn_file, {**spec, "tflite_names": names}, workdir=tmp_path / names)
        content = (tmp_path / names / "out" / "model.tflite").read_bytes()
        sizes[names] = len(content)
        assert any("depthwise" in tensor.name for tensor in tensors(content)) == (names == "keep")
    assert sizes["strip"] < sizes["keep"] - 1000


def test_int16_of_what_litert_cannot_run_is_refused(run: Run, tmp_path: Path) -> None:
    layers = keras().layers
    model = keras().Sequential(
        [layers.InputLayer((28, 28)), layers.LayerNormalization(), layers.Flatten(), layers.Dense(10)]
    )
    with pytest.raises(CompressionError) as raised:
        run(save_model(model, tmp_path / "norm.keras"), scheme="int16x8", calibration_samples=5)
    assert raised.value.code == "conversion_failed"
    assert "RSQRT" in raised.value.detail


def test_layers_too_small_for_dynamic_int8_change_nothing_and_say_so(run: Run, tmp_path: Path) -> None:
    layers = keras().layers
    model = keras().Sequential([layers.InputLayer((6,)), layers.Dense(4, name="small")])
    report, _ = run(save_model(model, tmp_path / "small.keras"), data=False, scheme="dynamic_int8")
    assert details(report)["layers"] == {"small": "float32"}
    assert "1,024 weights" in why_float(report)["small"]
    assert "nothing_changed" in {warning.code for warning in report.warnings}


def test_two_inputs_and_two_outputs_are_quantised_and_stripped(run: Run, tmp_path: Path) -> None:
    layers = keras().layers
    first, second = layers.Input((8,)), layers.Input((6,))
    left, right = layers.Dense(16, name="left")(first), layers.Dense(16, name="right")(second)
    path = save_model(keras().Model([first, second], [left, right]), tmp_path / "two.keras")
    report, content = run(path, data=False, scheme="dynamic", layers={"include": ["left"]})
    assert details(report)["layers"] == {"left": "int8", "right": "float32"}
    assert len([tensor for tensor in tensors(content) if tensor.name]) == 4


def test_layer_that_cannot_be_traced_in_the_file_is_said_to_stay_float(run: Run, tmp_path: Path) -> None:
    layers = keras().layers
    model = keras().Sequential([layers.InputLayer((8, 4)), layers.LSTM(16, name="memory"), layers.Dense(3)])
    path = save_model(model, tmp_path / "recurrent.keras")
    report, _ = run(path, data=False, scheme="weight_only")
    assert "cannot be told apart" in why_float(report)["memory"]
