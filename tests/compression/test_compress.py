"""The whole job, on a small real network and real digits."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherweight.events import Event, LogEvent, ProgressEvent, StageEvent
from featherweight.report import Report
from featherweight.spec import CompressionSpec
from tasks.compression import Outcome, compress
from tasks.compression.litert import Program
from tasks.compression.sizes import gzip_size, sha256
from tests.compression.networks import keras, save_model

FULL: dict[str, Any] = {
    "steps": [
        {"technique": "prune", "layers": {"include": ["conv", "logits"]}},
        {"technique": "finetune", "epochs": 2, "batch_size": 32, "learning_rate": 2e-3},
        {"technique": "quantize", "calibration_samples": 100},
    ],
    "outputs": ["tflite", "keras"],
}


def codes(report: Report) -> set[str]:
    return {warning.code for warning in report.warnings}


@pytest.fixture(scope="module")
def said() -> list[Event]:
    return []


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def full(cnn_file: Path, digit_file: Path, work: Path, said: list[Event]) -> Outcome:
    return compress(cnn_file, FULL, dataset=digit_file, workdir=work, emit=said.append, job_id="job_x")


def test_outputs_are_small_and_as_good(full: Outcome) -> None:
    report = full.report
    tflite, kept = report.outputs
    assert report.verdict == "smaller"
    assert tflite.accuracy is not None
    assert report.original.accuracy is not None
    assert tflite.accuracy.n == report.original.accuracy.n == 400
    assert tflite.accuracy.value > report.original.accuracy.value - 0.05
    assert tflite.agreement is not None
    assert tflite.agreement > 0.95
    assert tflite.compression_ratio is not None
    assert tflite.compression_ratio > 4
    assert kept.max_abs_difference == 0.0


def test_report_tells_of_the_files_delivered(full: Outcome, work: Path) -> None:
    names = {path.name: path for path in full.artifacts}
    assert set(names) == {"model.tflite", "model.keras", "report.html", "report.json", "spec.json"}
    for variant in full.report.outputs:
        path = names[variant.name]
        assert variant.sha256 == sha256(path)
        assert (variant.bytes, variant.gzip_bytes) == (path.stat().st_size, gzip_size(path))
    assert Report.model_validate_json(names["report.json"].read_bytes()) == full.report
    assert CompressionSpec.model_validate_json(names["spec.json"].read_bytes()).steps[0].technique == "prune"
    assert list((work / "tmp").iterdir()) == []


def test_gzip_size_is_that_of_gzip_9(full: Outcome) -> None:
    path = full.artifacts[0]
    assert abs(gzip_size(path) - len(gzip.compress(path.read_bytes(), 9, mtime=0))) <= 1


def test_spec_in_the_report_is_resolved(full: Outcome) -> None:
    prune, train, _ = full.report.spec["steps"]
    assert full.report.data is not None
    steps = -(-full.report.data.train // 32) * 2
    assert prune["schedule"]["end_step"] == steps
    assert (train["loss"], train["metrics"]) == ("sparse_categorical_crossentropy", ["accuracy"])
    assert {row.field: row.source for row in full.report.inferred}["loss"] == "compiled_model"


def test_splits_are_counted_and_apart(full: Outcome) -> None:
    data = full.report.data
    assert data is not None
    assert (data.samples, data.test, data.validation, data.train, data.calibration) == (
        2000,
        400,
        160,
        1440,
        100,
    )
    assert data.test_source == "split"


def test_original_with_optimizer_state_is_compared_without_it(full: Outcome) -> None:
    original, tflite = full.report.original, full.report.outputs[0]
    assert "optimizer_state_in_original" in codes(full.report)
    assert tflite.compression_ratio is not None
    assert tflite.compression_ratio < original.gzip_bytes / tflite.gzip_bytes


def test_latencies_were_measured_side_by_side(full: Outcome) -> None:
    baseline, tflite = full.report.baseline, full.report.outputs[0]
    assert baseline is not None
    assert baseline.latency is not None
    assert tflite.latency is not None
    assert baseline.latency.runs == tflite.latency.runs > 0
    assert 0 < tflite.latency.p50_ms <= tflite.latency.p95_ms


def test_events_tell_of_every_stage_and_rise_to_one(full: Outcome, said: list[Event]) -> None:
    stages = [event.stage for event in said if isinstance(event, StageEvent)]
    assert stages == ["load", "baseline", "prune", "finetune", "quantize", "convert", "evaluate", "report"]
    fractions = [event.fraction for event in said if isinstance(event, ProgressEvent)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert sum("epoch" in event.message for event in said if isinstance(event, LogEvent)) == 2
    epochs = full.report.steps[1].epochs
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(epochs[-1].metrics)
    assert epochs[-1].sparsity == pytest.approx(0.8, abs=0.02)


def test_job_tried_again_takes_finished_steps_over(
    full: Outcome, cnn_file: Path, digit_file: Path, work: Path, tmp_path: Path
) -> None:
    shutil.copytree(work, tmp_path / "work")
    prune, train, quantize = (step.key for step in full.report.steps)
    shutil.rmtree(tmp_path / "work" / "steps" / quantize)
    again = compress(cnn_file, FULL, dataset=digit_file, workdir=tmp_path / "work").report
    assert [step.reused for step in again.steps] == [True, True, False]
    assert [step.key for step in again.steps] == [prune, train, quantize]
    assert again.steps[1].epochs == full.report.steps[1].epochs
    assert [item.sha256 for item in again.outputs] == [item.sha256 for item in full.report.outputs]
    # How long an inference takes is measured anew, on a machine that may be busier than it was.
    warned, first = (
        [item.message for item in report.warnings if item.code != "slower_than_original"]
        for report in (again, full.report)
    )
    assert warned == first


def test_same_spec_and_seed_make_the_same_bytes(
    full: Outcome, cnn_file: Path, digit_file: Path, tmp_path: Path
) -> None:
    again = compress(cnn_file, FULL, dataset=digit_file, workdir=tmp_path).report
    assert not any(step.reused for step in again.steps)
    assert [item.sha256 for item in again.outputs] == [item.sha256 for item in full.report.outputs]


def test_later_finetune_keeps_the_zeros(cnn_file: Path, digit_file: Path, tmp_path: Path) -> None:
    spec = {
        "steps": [
            {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 0.6}},
            {"technique": "finetune", "epochs": 1},
            {"technique": "finetune", "epochs": 1},
        ],
        "outputs": ["keras"],
    }
    report = compress(cnn_file, spec, dataset=digit_file, workdir=tmp_path).report
    pruned = {layer.name: layer for layer in report.layers if layer.target_sparsity is not None}
    assert set(pruned) == {"conv", "logits"}
    for layer in pruned.values():
        assert layer.sparsity_after == pytest.approx(0.6, abs=0.01)
    assert "existing_zeros_kept" not in codes(report)


def test_zeros_the_model_came_with_are_kept_and_reported(
    cnn_file: Path, digit_file: Path, tmp_path: Path
) -> None:
    pruned = compress(
        cnn_file, {"steps": [{"technique": "prune"}], "outputs": ["keras"]}, workdir=tmp_path / "a"
    )
    spec = {"steps": [{"technique": "finetune", "epochs": 1}], "outputs": ["keras"]}
    report = compress(pruned.artifacts[0], spec, dataset=digit_file, workdir=tmp_path / "b").report
    kept = [warning.layer for warning in report.warnings if warning.code == "existing_zeros_kept"]
    assert kept == ["conv", "logits"]
    assert {layer.sparsity_after for layer in report.layers if layer.name in kept} == {
        layer.sparsity_before for layer in report.layers if layer.name in kept
    }


def test_final_sparsity_is_reached_whatever_the_frequency(
    cnn_file: Path, digit_file: Path, tmp_path: Path
) -> None:
    # 24 steps: TFMOT itself would never update a mask at a frequency of 100.
    schedule = {"type": "polynomial_decay", "final_sparsity": 0.7, "frequency": 100}
    steps = [{"technique": "prune", "schedule": schedule}, {"technique": "finetune", "epochs": 2}]
    report = compress(cnn_file, {"steps": steps}, dataset=digit_file, workdir=tmp_path).report
    logits = next(layer for layer in report.layers if layer.name == "logits")
    assert logits.sparsity_after == pytest.approx(0.7, abs=0.001)
    assert "sparsity_not_reached" not in codes(report)


def test_schedule_that_ends_after_training_is_warned_of(
    cnn_file: Path, digit_file: Path, tmp_path: Path
) -> None:
    schedule = {"type": "polynomial_decay", "initial_sparsity": 0.1, "end_step": 1000, "frequency": 1}
    steps = [{"technique": "prune", "schedule": schedule}, {"technique": "finetune", "epochs": 1}]
    report = compress(cnn_file, {"steps": steps}, dataset=digit_file, workdir=tmp_path).report
    (warning,) = [item for item in report.warnings if item.code == "schedule_ends_late"]
    logits = next(layer for layer in report.layers if layer.name == "logits")
    reached = 0.8 + (0.1 - 0.8) * (1 - 12 / 1000) ** 3
    assert logits.sparsity_after == pytest.approx(reached, abs=1e-3)
    assert f"will reach {reached:.2%}" in warning.message


def test_one_shot_without_data_is_unverified(cnn_file: Path, tmp_path: Path) -> None:
    spec = {"steps": [{"technique": "prune"}, {"technique": "quantize", "scheme": "dynamic_int8"}]}
    report = compress(cnn_file, spec, workdir=tmp_path).report
    assert report.verdict == "smaller_unverified"
    assert report.data is None
    assert report.outputs[0].max_abs_difference is not None
    assert "layer_skipped" in codes(report)  # the depthwise convolution


def test_recipe_that_changes_nothing_says_so(cnn_file: Path, tmp_path: Path) -> None:
    nothing = {"type": "constant_sparsity", "target_sparsity": 0.0}
    report = compress(
        cnn_file, {"steps": [{"technique": "prune", "schedule": nothing}]}, workdir=tmp_path
    ).report
    assert "nothing_changed" in codes(report)


def test_hdf5_and_keras_files_of_a_model_give_the_same_result(cnn_file: Path, tmp_path: Path) -> None:
    hdf5 = save_model(keras().models.load_model(cnn_file), tmp_path / "named_wrong.keras", save_format="h5")
    spec = {"steps": [{"technique": "prune"}]}
    first, second = (compress(path, spec, workdir=tmp_path / path.stem).report for path in (cnn_file, hdf5))
    assert second.original.format == "hdf5"
    assert first.outputs[0].sha256 == second.outputs[0].sha256


def test_channel_axis_is_added_and_test_split_of_the_caller_used(
    digit_arrays: dict[str, Any], save_data: Callable[..., Path], tmp_path: Path
) -> None:
    layers = keras().layers
    model = keras().Sequential(
        [layers.InputLayer((28, 28, 1)), layers.Flatten(), layers.Dense(10, activation="softmax")]
    )
    path = save_model(model, tmp_path / "m.keras")
    x, y = digit_arrays["x"], np.eye(10)[digit_arrays["y"]]
    data = save_data(x_train=x[:500], y_train=y[:500], x_test=x[500:550], y_test=y[500:550])
    spec = {"steps": [{"technique": "finetune", "epochs": 3, "learning_rate": 0.01}]}
    report = compress(path, spec, dataset=data, workdir=tmp_path / "w").report
    assert {"channel_axis_added", "test_split_small", "baseline_near_chance"} <= codes(report)
    assert report.data is not None
    assert (report.data.test, report.data.test_source) == (50, "caller")
    assert report.outputs[0].accuracy is not None
    assert report.outputs[0].accuracy.value > 0.5
    assert {row.field: row.value for row in report.inferred}["labels"] == "one_hot"


def test_regression_is_measured_by_its_error(save_data: Callable[..., Path], tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(600, 6)).astype(np.float32)
    y = x @ np.arange(6, dtype=np.float32)
    layers = keras().layers
    model = keras().Sequential(
        [layers.InputLayer((6,)), layers.Dense(16, activation="relu"), layers.Dense(1)]
    )
    path = save_model(model, tmp_path / "m.keras")
    spec = {
        "steps": [
            {"technique": "finetune", "epochs": 30, "batch_size": 16, "learning_rate": 0.01},
            {"technique": "quantize", "scheme": "float16"},
        ]
    }
    report = compress(path, spec, dataset=save_data(x=x, y=y), workdir=tmp_path / "w").report
    before, after = report.original.accuracy, report.outputs[0].accuracy
    assert before is not None
    assert after is not None
    assert (after.metric, after.method, after.higher_is_better) == ("mean_squared_error", "bootstrap", False)
    assert after.low < after.value < after.high < before.value / 10


def test_nested_and_branching_models_are_pruned_where_selected(
    digit_arrays: dict[str, Any], digit_file: Path, tmp_path: Path
) -> None:
    layers = keras().layers
    inner = keras().Sequential([layers.InputLayer((8,)), layers.Dense(8, name="deep")], name="inner")
    image = layers.Input((28, 28))
    hidden = layers.Dense(8, activation="relu", name="first")(layers.Flatten()(image))
    merged = layers.Add()([inner(hidden), hidden])
    model = keras().Model(image, layers.Dense(10, activation="softmax", name="last")(merged))
    path = save_model(model, tmp_path / "m.keras")
    spec = {
        "steps": [
            {"technique": "prune", "layers": {"include": ["inner/*", "first"]}},
            {"technique": "finetune", "epochs": 1},
        ]
    }
    report = compress(path, spec, dataset=digit_file, workdir=tmp_path / "w").report
    reached = {layer.name: layer.sparsity_after for layer in report.layers}
    assert reached["first"] == pytest.approx(0.8, abs=0.001)
    assert reached["inner/deep"] == pytest.approx(0.8, abs=0.01)
    assert reached["last"] < 0.01


def test_delivered_keras_file_is_stripped_and_uncompiled(full: Outcome) -> None:
    path = next(path for path in full.artifacts if path.suffix == ".keras")
    model = keras().models.load_model(path)
    assert [type(layer).__name__ for layer in model.layers if layer.weights] == [
        "Conv2D",
        "BatchNormalization",
        "DepthwiseConv2D",
        "Dense",
    ]
    assert model.optimizer is None


def test_delivered_tflite_takes_and_gives_what_the_model_did(full: Outcome) -> None:
    program = Program(full.artifacts[0].read_bytes())
    assert program.input_dtype == "float32"
    assert program.predict(np.zeros((3, 28, 28), np.float32)).shape == (3, 10)


def test_spec_json_can_be_sent_again(full: Outcome) -> None:
    path = next(path for path in full.artifacts if path.name == "spec.json")
    CompressionSpec.model_validate(json.loads(path.read_text()))


def test_recurrent_network_is_compared_without_the_state_of_the_sample_before(
    digit_file: Path, tmp_path: Path
) -> None:
    layers = keras().layers
    model = keras().Sequential([layers.InputLayer((28, 28)), layers.LSTM(8, name="memory"), layers.Dense(10)])
    path = save_model(model, tmp_path / "m.keras")
    spec = {"steps": [{"technique": "prune"}]}
    report = compress(path, spec, dataset=digit_file, workdir=tmp_path / "w").report
    assert report.outputs[0].max_abs_difference == pytest.approx(0, abs=1e-5)
    assert "fixed_batch" in codes(report)
    assert report.layers[0].sparsity_after == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("scheme", ["dynamic_int8", "full_int8"])
def test_recurrent_network_is_quantized_for_one_sample_at_a_time(
    digit_file: Path, tmp_path: Path, scheme: str
) -> None:
    layers = keras().layers
    model = keras().Sequential([layers.InputLayer((28, 28)), layers.LSTM(48), layers.Dense(10)])
    path = save_model(model, tmp_path / "m.keras")
    spec = {"steps": [{"technique": "quantize", "scheme": scheme}]}
    report = compress(path, spec, dataset=digit_file, workdir=tmp_path / "w").report
    assert "fixed_batch" in codes(report)
    # The LSTM's weights count, though its operation is not traced to it.
    assert "nothing_changed" not in codes(report)
    assert report.steps[0].details["tensors"]["int8"] > 0
    assert report.outputs[0].agreement is not None
    assert report.outputs[0].agreement > 0.9
