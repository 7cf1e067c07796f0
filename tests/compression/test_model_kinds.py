"""Jobs on SavedModels and float ``.tflite`` files, and that plans foretell them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherweight.plan import Plan
from featherweight.report import Report
from featherweight.spec import CompressionSpec
from tasks.compression import CompressionError, compress
from tasks.compression.litert import Program
from tasks.compression.tflite import strip, weight_types
from tests.compression.networks import keras
from tests.compression.planned_jobs import Spec, done, refused
from tests.compression.saved_models import (
    IMAGE,
    files_of,
    framework,
    image_data,
    keras2,
    keras2_with_lambda,
    keras3_export,
    plain_module,
    tar_of,
    two_inputs,
    zip_of,
)

PRUNE: Spec = {"technique": "prune"}
TRAIN: Spec = {"technique": "finetune", "epochs": 1, "batch_size": 32}


def quantize(scheme: str, **options: Any) -> Spec:
    return {"technique": "quantize", "scheme": scheme, **options}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_data(tmp_path_factory.mktemp("data") / "images.npz")


@pytest.fixture(scope="module")
def keras_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keras2(tmp_path_factory.mktemp("keras2") / "model")


@pytest.fixture(scope="module")
def program(keras_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float ``.tflite`` of a convolutional network."""
    from tasks.compression.backends.tensorflow.convert import to_tflite

    path = tmp_path_factory.mktemp("program") / "m.tflite"
    path.write_bytes(to_tflite(keras().models.load_model(keras_folder)))  # one of ours
    return path


def codes(said: Report | Plan) -> set[str]:
    return {warning.code for warning in said.warnings}


def test_keras_network_of_a_saved_model_is_trained_again(
    keras_folder: Path, data: Path, tmp_path: Path
) -> None:
    model = zip_of(files_of(keras_folder), tmp_path / "m.zip", top="model/")
    spec = {"steps": [PRUNE, TRAIN, quantize("full_int8")], "outputs": ["tflite", "keras"]}
    outcome, told = done(model, spec, tmp_path, data)
    report = outcome.report
    assert report.original.format == "saved_model"
    assert "rebuilt_from_saved_model" in codes(report)
    layers = {layer.name: layer for layer in report.layers}
    assert layers["head/logits"].sparsity_after == pytest.approx(0.8, abs=0.01)
    assert {layer.layer for layer in told.steps[0].layers} == set(layers)
    assert told.model is not None
    assert told.model.parameters == report.original.parameters
    assert told.model.macs == report.original.macs
    assert [step.loss for step in [CompressionSpec.model_validate(report.spec).steps[1]]] == [  # type: ignore[union-attr]
        "sparse_categorical_crossentropy"
    ]
    back = keras().models.load_model(tmp_path / "work" / "out" / "model.keras", compile=False)
    assert [layer.name for layer in back.layers] == ["conv", "norm", "flatten", "head"]


def test_network_that_answers_otherwise_than_its_graph_is_refused(keras_folder: Path, tmp_path: Path) -> None:
    metadata = files_of(keras_folder)["keras_metadata.pb"]
    before, after = b'"activation": "relu"', b'"activation": "tanh"'
    assert before in metadata
    files = {**files_of(keras_folder), "keras_metadata.pb": metadata.replace(before, after)}
    with pytest.raises(CompressionError) as caught:
        compress(zip_of(files, tmp_path / "m.zip"), {"steps": [PRUNE]}, workdir=tmp_path / "work")
    assert caught.value.code == "unsupported_model"
    assert "answers otherwise" in caught.value.detail


def test_several_inputs_and_outputs_of_a_saved_model(tmp_path: Path) -> None:
    model = tar_of(two_inputs(tmp_path / "m"), tmp_path / "m.tar.gz")
    chance = np.random.default_rng(0)
    np.savez(
        tmp_path / "d.npz",
        **{
            "x/first": chance.random((60, 3), dtype=np.float32),
            "x/second": chance.random((60, 2), dtype=np.float32),
            "y/kind": np.arange(60) % 4,
            "y/size": chance.random((60, 1), dtype=np.float32),
        },
    )
    outcome, _ = done(model, {"steps": [quantize("full_int8")]}, tmp_path, tmp_path / "d.npz")
    (output,) = outcome.report.outputs
    assert output.by_output is not None
    assert set(output.by_output) == {"kind", "size"}


def test_lambda_leaves_a_graph_and_its_python_is_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    model = zip_of(files_of(keras2_with_lambda(tmp_path / "m", marker)), tmp_path / "m.zip")
    error = refused(model, {"steps": [PRUNE], "outputs": ["tflite"]}, tmp_path)
    assert (error.code, error.pointer) == ("unsupported_technique", "/steps/0/technique")
    assert "Lambda layer, sly" in error.detail
    outcome, told = done(model, {"steps": [quantize("weight_only")]}, tmp_path)
    assert "taken_as_graph" in codes(outcome.report) & codes(told)
    assert not marker.exists()


def test_graph_is_quantised_and_delivered_as_one(tmp_path: Path) -> None:
    model = zip_of(files_of(plain_module(tmp_path / "m")), tmp_path / "m.zip")
    chance = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=chance.random((60, 4), dtype=np.float32), y=np.arange(60) % 3)
    outputs = ["tflite", "saved_model", "c_array", "onnx"]
    spec = {"steps": [quantize("full_int8")], "outputs": outputs}
    outcome, told = done(model, spec, tmp_path, tmp_path / "d.npz")
    assert told.model is not None
    assert told.model.parameters == outcome.report.original.parameters == 12
    by_format = {output.format: output for output in outcome.report.outputs}
    assert set(by_format) == set(outputs)
    assert by_format["saved_model"].max_abs_difference == pytest.approx(0, abs=1e-6)
    assert by_format["onnx"].max_abs_difference == pytest.approx(0, abs=1e-5)
    assert by_format["tflite"].max_abs_difference == pytest.approx(0, abs=0.05)
    assert outcome.report.original.macs == 12
    error = refused(model, {**spec, "outputs": ["tflite", "keras"]}, tmp_path, tmp_path / "d.npz")
    assert (error.code, error.pointer) == ("unsupported_output", "/outputs/1")


@pytest.mark.parametrize("scheme", ["float16", "dynamic_int8", "weight_only", "int16x8"])
def test_export_of_keras_3_is_quantised(data: Path, tmp_path: Path, scheme: str) -> None:
    model = zip_of(files_of(keras3_export(tmp_path / "m")), tmp_path / "m.zip")
    outcome, _ = done(model, {"steps": [quantize(scheme)]}, tmp_path, data)
    report = outcome.report
    assert report.outputs[0].max_abs_difference == pytest.approx(0, abs=0.02)
    kinds = {layer.kind for layer in report.layers}
    assert {"CONV_2D", "FULLY_CONNECTED"} <= kinds
    assert {layer.stored_as for layer in report.layers} & {"int8", "float16"}


def test_file_of_a_graph_is_never_written(tmp_path: Path) -> None:
    tf, marker = framework(), tmp_path / "ran"

    def leave_mark(x: Any) -> Any:
        with tf.control_dependencies([tf.io.write_file(str(marker), "x")]):
            return tf.identity(x)

    model = zip_of(files_of(plain_module(tmp_path / "m", leave_mark)), tmp_path / "m.zip")
    with pytest.raises(CompressionError) as caught:
        compress(model, {"steps": [quantize("float16")]}, workdir=tmp_path / "work")
    assert "WriteFile" in caught.value.detail
    assert not marker.exists()


def test_loop_is_not_calibrated(tmp_path: Path) -> None:
    tf = framework()

    def turn(x: Any) -> Any:
        return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * 0.5), [tf.constant(0), x])[1]

    model = zip_of(files_of(plain_module(tmp_path / "m", turn)), tmp_path / "m.zip")
    np.savez(tmp_path / "d.npz", x=np.ones((60, 4), np.float32), y=np.ones((60, 4), np.float32))
    error = refused(model, {"steps": [quantize("full_int8")]}, tmp_path, tmp_path / "d.npz")
    assert (error.code, error.pointer) == ("layer_not_supported", "/steps/0/scheme")


@pytest.mark.parametrize(
    ("scheme", "stored"),
    [
        ("float16", "float16"),
        ("dynamic_int8", None),
        ("weight_only", "int8"),
        ("full_int8", "int8"),
        ("int16x8", "int8"),
    ],
)
def test_tflite_is_quantised(program: Path, data: Path, tmp_path: Path, scheme: str, stored: str) -> None:
    spec = {"steps": [quantize(scheme)], "outputs": ["tflite", "c_array"]}
    if stored is None:
        # All its layers are small.
        assert refused(program, spec, tmp_path, data).code == "layer_not_supported"
        return
    outcome, told = done(program, spec, tmp_path, data)
    report = outcome.report
    assert report.original.format == "tflite"
    written = (tmp_path / "work" / "out" / "model.tflite").read_bytes()
    assert weight_types(written)[stored] >= 2
    assert {output.format for output in report.outputs} == {"tflite", "c_array"}
    assert report.outputs[0].max_abs_difference == pytest.approx(0, abs=0.1)
    kernels = {layer.name: layer for layer in report.layers if layer.stored_as is not None}
    assert {layer.stored_as for layer in kernels.values()} == {stored}
    assert {layer.layer for layer in told.steps[0].layers} == set(kernels)
    if scheme != "full_int8":
        assert {layer.dtype for layer in told.steps[0].layers} == {stored}
    assert told.model is not None
    assert (told.model.parameters, told.model.macs) == (report.original.parameters, report.original.macs)
    x = np.load(data)["x"][:16]
    original = Program(program.read_bytes()).predict(x)
    np.testing.assert_allclose(Program(written).predict(x), original, atol=0.1)


def test_layers_of_a_stripped_tflite_can_be_chosen(program: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(strip(program.read_bytes()))
    step = quantize("weight_only", layers={"exclude": ["conv_2d_*"]})
    outcome, told = done(tmp_path / "m.tflite", {"steps": [step]}, tmp_path, data)
    stored = {layer.kind: layer.stored_as for layer in outcome.report.layers if layer.stored_as}
    assert stored == {"CONV_2D": "float32", "FULLY_CONNECTED": "int8"}
    assert {layer.kind: layer.dtype for layer in told.steps[0].layers} == stored
    wrong = quantize("weight_only", layers={"exclude": ["no_such*"]})
    error = refused(tmp_path / "m.tflite", {"steps": [wrong]}, tmp_path, data)
    assert (error.code, error.pointer) == ("layer_not_found", "/steps/0/layers/exclude/0")


def test_finished_step_on_a_tflite_is_taken_over(program: Path, data: Path, tmp_path: Path) -> None:
    spec = {"steps": [quantize("full_int8")]}
    first, again = (compress(program, spec, dataset=data, workdir=tmp_path / "work").report for _ in range(2))
    assert [step.reused for step in (*first.steps, *again.steps)] == [False, True]
    assert again.outputs[0].sha256 == first.outputs[0].sha256
    assert again.layers == first.layers


def test_finished_step_on_a_graph_is_taken_over(tmp_path: Path) -> None:
    model = zip_of(files_of(plain_module(tmp_path / "m")), tmp_path / "m.zip")
    spec = {"steps": [quantize("weight_only")], "outputs": ["tflite", "saved_model"]}
    first, again = (compress(model, spec, workdir=tmp_path / "work").report for _ in range(2))
    assert [step.reused for step in (*first.steps, *again.steps)] == [False, True]
    assert [output.sha256 for output in again.outputs] == [output.sha256 for output in first.outputs]


@pytest.mark.parametrize(
    ("spec", "code", "pointer"),
    [
        ({"steps": [PRUNE]}, "unsupported_technique", "/steps/0/technique"),
        (
            {"steps": [quantize("float16")], "outputs": ["tflite", "onnx"]},
            "unsupported_output",
            "/outputs/1",
        ),
    ],
)
def test_a_tflite_can_be_quantised_alone(
    program: Path, tmp_path: Path, spec: Spec, code: str, pointer: str
) -> None:
    error = refused(program, spec, tmp_path)
    assert (error.code, error.pointer) == (code, pointer)
    assert ".keras" in (error.hint or "")


@pytest.mark.parametrize("scheme", ["float16", "dynamic_int8"])
def test_quantised_tflite_is_not_quantised_again(keras_folder: Path, tmp_path: Path, scheme: str) -> None:
    from tasks.compression.backends.tensorflow.converted import convert_weights

    layers = keras().layers
    model = keras().Sequential([layers.InputLayer((64,)), layers.Dense(32)])
    (tmp_path / "m.tflite").write_bytes(convert_weights(model, scheme))
    error = refused(tmp_path / "m.tflite", {"steps": [quantize("weight_only")]}, tmp_path)
    assert error.code == "already_quantized"


def test_tflite_with_an_operation_of_its_own_is_refused(program: Path, tmp_path: Path) -> None:
    from tasks.compression.tflite import read, written

    model = read(program.read_bytes())
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = 32
    model.operatorCodes[0].customCode = "FlexWriteFile"
    (tmp_path / "m.tflite").write_bytes(written(model, 100_000))
    error = refused(tmp_path / "m.tflite", {"steps": [quantize("float16")]}, tmp_path)
    assert error.code == "unsupported_model"
    assert "CUSTOM" in error.detail


def test_samples_must_fit_a_tflite(program: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((60, 9, 9, 1), np.float32), y=np.arange(60) % 4)
    error = refused(program, {"steps": [quantize("full_int8")]}, tmp_path, tmp_path / "d.npz")
    assert error.code == "shape_mismatch"
    assert str(IMAGE[0]) in error.detail
