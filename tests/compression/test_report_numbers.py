"""The numbers of a report against the files it speaks of."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import zstandard

from featherweight.report import Report, Variant
from tasks.compression import Outcome, compress
from tests.compression.networks import keras

STEPS = [
    {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 0.5}},
    {"technique": "finetune", "epochs": 1, "batch_size": 64},
    {"technique": "quantize", "scheme": "full_int8"},
]


@pytest.fixture(scope="module")
def outcome(cnn_file: Path, digit_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    work = tmp_path_factory.mktemp("numbers")
    spec = {"steps": STEPS, "outputs": ["tflite", "keras"]}
    return compress(cnn_file, spec, dataset=digit_file, workdir=work)


def variant(report: Report, name: str) -> Variant:
    return next(item for item in report.outputs if item.format == name)


def test_zstd_size_is_that_of_level_9(outcome: Outcome) -> None:
    for path in outcome.artifacts[:2]:
        found = next(item for item in outcome.report.outputs if item.name == path.name)
        assert found.zstd_bytes == len(zstandard.ZstdCompressor(level=9).compress(path.read_bytes()))


def test_macs_are_those_of_the_layers(outcome: Outcome) -> None:
    # 3x3 convolution to 13x13x8, 3x3 depthwise to 11x11x8, dense 968 to 10.
    macs = {"conv": 9 * 8 * 13 * 13, "depthwise": 9 * 8 * 11 * 11, "logits": 968 * 10}
    report = outcome.report
    assert {layer.name: layer.macs for layer in report.layers if layer.macs} == macs
    assert {item.macs for item in (report.original, *report.outputs)} == {sum(macs.values())}


def test_layers_have_shape_type_and_signal_to_noise_ratio(outcome: Outcome) -> None:
    layers = {layer.name: layer for layer in outcome.report.layers}
    assert layers["conv"].shape == [3, 3, 1, 8]
    for name in ("conv", "depthwise", "logits"):
        assert (layers[name].stored_as, layers[name].bits) == ("int8", 8)
        ratio = layers[name].snr_db
        assert ratio is not None
        assert 10 < ratio < 70


def test_distinct_weights_are_those_of_the_files(outcome: Outcome) -> None:
    path = next(path for path in outcome.artifacts if path.suffix == ".keras")
    model = keras().models.load_model(path, compile=False)
    kernels = [weight.numpy() for weight in model.weights if len(weight.shape) > 1]
    expected = sum(len(np.unique(kernel)) for kernel in kernels)
    assert variant(outcome.report, "keras").distinct_weights == expected
    in_bytes = variant(outcome.report, "tflite").distinct_weights
    assert in_bytes is not None
    assert 0 < in_bytes <= min(3 * 256, expected)


def test_operators_say_what_computes_in_float(outcome: Outcome) -> None:
    report = outcome.report
    assert report.baseline is not None
    floats = {item.name: item for item in report.baseline.operators or []}
    quantized = {item.name: item for item in variant(report, "tflite").operators or []}
    assert floats["CONV_2D"].in_float == floats["CONV_2D"].count == 1
    assert quantized["CONV_2D"].count == 1
    assert sum(item.in_float + item.hybrid for item in quantized.values()) == 0


def test_dynamic_kernels_are_hybrid(cnn_file: Path, tmp_path: Path) -> None:
    spec = {"steps": [{"technique": "quantize", "scheme": "dynamic_int8"}]}
    report = compress(cnn_file, spec, workdir=tmp_path).report
    dense = next(item for item in report.outputs[0].operators or [] if item.name == "FULLY_CONNECTED")
    assert (dense.count, dense.hybrid, dense.in_float) == (1, 1, 0)


def test_peak_of_activations_is_that_of_the_two_largest_neighbours(outcome: Outcome) -> None:
    # In int8 the float input beside its quantised copy; in float two outputs of 13x13x8, one of the other.
    peak = variant(outcome.report, "tflite").peak_activation_bytes
    assert peak == sum(-(-size // 64) * 64 for size in (28 * 28 * 4, 28 * 28))
    assert outcome.report.baseline is not None
    assert outcome.report.baseline.peak_activation_bytes == 2 * -(-13 * 13 * 8 * 4 // 64) * 64


def test_arena_is_told_of_every_program_and_holds_the_peak(outcome: Outcome) -> None:
    baseline = outcome.report.baseline
    assert baseline is not None
    for item in (baseline, variant(outcome.report, "tflite")):
        assert item.arena_bytes is not None
        assert item.peak_activation_bytes is not None
        assert item.arena_bytes > item.peak_activation_bytes - 64
    assert outcome.report.original.arena_bytes is None


def test_steps_say_how_small_and_how_good_they_made_the_network(outcome: Outcome) -> None:
    prune, finetune, quantize = (step.reached for step in outcome.report.steps)
    assert prune is None  # the training carries it out
    assert finetune is not None
    assert quantize is not None
    assert (finetune.format, quantize.format) == ("keras", "tflite")
    keras_file, program = variant(outcome.report, "keras"), variant(outcome.report, "tflite")
    assert finetune.accuracy == keras_file.accuracy
    assert quantize.accuracy == program.accuracy
    assert quantize.gzip_bytes < finetune.gzip_bytes < outcome.report.original.gzip_bytes


def test_report_is_what_the_contract_says_it_is(outcome: Outcome) -> None:
    from service import create_app
    from tasks.settings import Settings
    from tests.contract.test_openapi import validator

    document = json.loads(create_app(Settings()).test_client().get("/openapi.json").data)
    check = validator(document, "/components/schemas/Report")
    written = json.loads(next(path for path in outcome.artifacts if path.name == "report.json").read_text())
    assert not list(check.iter_errors(written))
    assert list(check.iter_errors({**written, "version": 2}))
    assert set(written) == set(document["components"]["schemas"]["Report"]["properties"])


def test_provenance_names_every_byte_and_version(outcome: Outcome, cnn_file: Path, digit_file: Path) -> None:
    report = outcome.report
    digests = {file.role: file.sha256 for file in report.inputs}
    for role, path in (("model", cnn_file), ("dataset", digit_file)):
        assert digests[role] == hashlib.sha256(path.read_bytes()).hexdigest()
    for file in report.files:
        path = next(path for path in outcome.artifacts if path.name == file.name)
        assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert {"featherweight", "tensorflow", "ai-edge-litert", "numpy", "python"} <= set(report.versions)
    assert report.host.cpu
    assert report.seed == report.spec["seed"]


def test_what_changed_is_told_of_every_output(outcome: Outcome) -> None:
    report = outcome.report
    before = report.original
    assert before.accuracy is not None
    assert before.calibration_error is not None
    assert before.difference is None
    for item in report.outputs:
        assert item.accuracy is not None
        assert item.difference is not None
        assert item.by_class is not None
        assert item.flipped is not None
        assert item.difference.value == pytest.approx(item.accuracy.value - before.accuracy.value)
        assert item.difference.low <= item.difference.value <= item.difference.high
        assert abs(item.difference.value) <= item.flipped
        assert sum(row.n for row in item.by_class) == item.accuracy.n
        weighted = sum(row.n * row.change for row in item.by_class) / item.accuracy.n
        assert weighted == pytest.approx(item.difference.value)
        assert [row.change for row in item.by_class] == sorted(row.change for row in item.by_class)


def test_reports_from_before_these_fields_still_parse(outcome: Outcome) -> None:
    added = {"zstd_bytes", "macs", "distinct_weights", "operators", "difference", "flipped", "by_class"}
    old = outcome.report.model_dump(mode="json")
    for item in (old["original"], old["baseline"], *old["outputs"]):
        for name in added:
            del item[name]
    assert Report.model_validate(old).outputs[0].zstd_bytes is None
