"""Jobs on ``.onnx`` files, and that plans foretell them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tasks.compression import CompressionError, compress
from tasks.compression.backends.torch.backend import macs
from tasks.compression.backends.torch.onnx import write_onnx
from tasks.compression.backends.torch.programs.loading import load_onnx
from tasks.compression.inspection import inspect
from tasks.compression.onnx_program import OnnxProgram
from tasks.compression.outline.reading import read_outline
from tasks.compression.outline.skeleton import cost
from tests.compression.planned_jobs import Spec, done, planned, refused
from tests.compression.torch.onnx_models import older, saved, two_ended, words
from tests.compression.torch.quantizable import HELD_OUT, accuracy, answers, classifier, images


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of digits, as PyTorch exports it."""
    path = tmp_path_factory.mktemp("trained") / "m.onnx"
    write_onnx(classifier(), path)
    return path


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    x, y = images()
    np.savez(path, x_train=x[:300], y_train=y[:300], x_test=x[-HELD_OUT:], y_test=y[-HELD_OUT:])
    return path


def job(scheme: str, **options: Any) -> Spec:
    few = {"calibration_samples": 60} if scheme == "full_int8" else {}
    return {"steps": [{"technique": "quantize", "scheme": scheme, **few, **options}], "outputs": ["onnx"]}


@pytest.mark.parametrize(
    ("options", "bits", "share"),
    [
        ({"scheme": "full_int8"}, 8, 0.45),
        ({"scheme": "full_int8", "granularity": "per_tensor"}, 8, 0.45),
        ({"scheme": "dynamic_int8"}, 8, 0.5),
        ({"scheme": "float16"}, 16, 0.6),
    ],
    ids=["full_int8", "per_tensor", "dynamic_int8", "float16"],
)
def test_model_is_quantised_and_delivered_as_one(
    trained: Path, digits: Path, tmp_path: Path, options: Spec, bits: int, share: float
) -> None:
    outcome, told = done(trained, job(**options), tmp_path, digits)
    report = outcome.report
    assert report.original.format == "onnx"
    assert report.original.accuracy is not None
    assert report.original.accuracy.value == pytest.approx(accuracy(answers(classifier())))
    (output,) = report.outputs
    assert (output.name, output.scheme, report.baseline) == ("model.onnx", options["scheme"], None)
    assert output.accuracy is not None
    assert output.accuracy.value > report.original.accuracy.value - 0.02
    assert output.bytes < share * report.original.bytes
    for variant in (report.original, output):
        assert variant.latency is not None
        assert (variant.latency.runtime, variant.latency.threads) == ("ONNX Runtime", 1)
    narrow = {layer.name for layer in report.layers if layer.bits == bits}
    planned_narrow = {layer.layer for layer in told.steps[0].layers if layer.action == "change"}
    assert narrow == planned_narrow != set()
    assert {layer.name: layer.stored_as for layer in report.layers if layer.stored_as} == {
        layer.layer: layer.dtype for layer in told.steps[0].layers
    }
    left = {warning.layer for warning in report.warnings if warning.code == "left_float"}
    assert left == {warning.layer for warning in told.warnings if warning.code == "left_float"}
    found = OnnxProgram(tmp_path / "work" / "out" / "model.onnx").predict(images()[0][-HELD_OUT:])
    assert accuracy(found) == output.accuracy.value
    after = told.after[0]
    assert after.bytes_estimate == pytest.approx(output.bytes, rel=0.35)
    assert report.steps[0].reached is not None
    assert report.steps[0].reached.format == "onnx"
    assert report.steps[0].reached.gzip_bytes == output.gzip_bytes


def test_finished_step_is_taken_over_and_makes_the_same_bytes(
    trained: Path, digits: Path, tmp_path: Path
) -> None:
    first, again = (
        compress(trained, job("full_int8"), dataset=digits, workdir=tmp_path / "work").report
        for _ in range(2)
    )
    assert [step.reused for step in (*first.steps, *again.steps)] == [False, True]
    assert again.outputs[0].sha256 == first.outputs[0].sha256
    assert [layer.stored_as for layer in again.layers] == [layer.stored_as for layer in first.layers]
    anew = compress(trained, job("full_int8"), dataset=digits, workdir=tmp_path / "anew").report
    assert anew.outputs[0].sha256 == first.outputs[0].sha256


def test_layers_not_selected_stay_float(trained: Path, digits: Path, tmp_path: Path) -> None:
    outline = read_outline(trained)
    dense = [layer.path for layer in outline.layers if layer.kind == "Gemm"]
    assert len(dense) == 2
    outcome, told = done(trained, job("full_int8", layers={"exclude": [dense[0]]}), tmp_path, digits)
    stored = {layer.name: layer.stored_as for layer in outcome.report.layers}
    assert stored[dense[0]] == "float32"
    assert stored[dense[1]] == "int8"
    assert {layer.layer: layer.action for layer in told.steps[0].layers}[dense[0]] == "not_selected"
    error = refused(trained, job("full_int8", layers={"include": ["nowhere"]}), tmp_path, digits)
    assert (error.code, error.pointer) == ("layer_not_found", "/steps/0/layers/include/0")


@pytest.mark.parametrize(
    ("spec", "code", "pointer"),
    [
        (
            {"steps": [{"technique": "prune"}], "outputs": ["onnx"]},
            "unsupported_technique",
            "/steps/0/technique",
        ),
        (job("int16x8"), "unsupported_output", "/steps/0/scheme"),
        (job("weight_only", weight_bits=4), "unsupported_output", "/steps/0/scheme"),
        (job("full_int8", io_dtype="int8"), "unsupported_technique", "/steps/0/io_dtype"),
    ],
    ids=["prune", "int16x8", "weight_only", "io_dtype"],
)
def test_what_cannot_be_done_is_pointed_at(
    trained: Path, digits: Path, tmp_path: Path, spec: Spec, code: str, pointer: str
) -> None:
    error = refused(trained, spec, tmp_path, digits)
    assert (error.code, error.pointer) == (code, pointer)
    assert error.hint is not None


def test_model_is_converted_to_the_formats_of_pytorch(trained: Path, digits: Path, tmp_path: Path) -> None:
    outputs = ["onnx", "tflite", "c_array", "pt2"]
    dense = [layer.path for layer in read_outline(trained).layers if layer.kind == "Gemm"]
    step = {"layers": {"exclude": [dense[-1]]}, "calibration_candidates": 2}
    outcome, told = done(trained, {**job("full_int8", **step), "outputs": outputs}, tmp_path, digits)
    report = outcome.report
    assert report.original.accuracy is not None
    assert report.baseline is not None
    assert [output.format for output in report.outputs] == outputs
    for output in report.outputs:
        assert output.scheme == "full_int8"
        assert output.accuracy is not None
        assert output.accuracy.value > report.original.accuracy.value - 0.02
    assert report.outputs[1].latency is not None
    assert "not_looked_at" in {warning.code for warning in told.warnings}
    stored = {layer.name: layer.stored_as for layer in report.layers}
    assert stored == {name: "float32" if name == dense[-1] else "int8" for name in stored}
    assert report.steps[0].details["outputs"]["onnx"]["layers"] == stored


def test_scheme_that_only_a_tflite_holds_leaves_the_onnx_float(trained: Path, tmp_path: Path) -> None:
    outcome, _ = done(trained, {**job("weight_only", weight_bits=4), "outputs": ["onnx", "tflite"]}, tmp_path)
    first, second = outcome.report.outputs
    assert (first.scheme, second.scheme) == ("float32", "weight_only")
    assert "output_left_float" in {warning.code for warning in outcome.report.warnings}
    assert first.max_abs_difference == pytest.approx(0, abs=1e-6)


def test_operator_without_a_counterpart_is_named_and_the_onnx_is_to_be_had(tmp_path: Path) -> None:
    program = words()
    program.graph.node[-1].CopyFrom(
        onnx.helper.make_node("Einsum", ["a", "w"], ["y"], name="out", equation="nk,ko->no")
    )
    path = saved(program, tmp_path / "m.onnx")
    spec = {**job("float16"), "outputs": ["onnx", "tflite"]}
    (told,) = planned(path, spec, None).problems
    assert told.pointer == "/spec/outputs/1"
    with pytest.raises(CompressionError) as caught:
        compress(path, spec, workdir=tmp_path / "work")
    error = caught.value
    assert (error.code, error.layer) == ("conversion_failed", "out") == (told.code, told.layer)
    assert (error.detail, error.hint) == (told.detail, told.hint)
    assert "Einsum" in error.detail
    done(path, job("float16"), tmp_path)


def test_what_no_kernel_takes_is_refused_by_plan_and_job(tmp_path: Path) -> None:
    conv = onnx.helper.make_node("Conv", ["x", "k"], ["y"], name="only")
    kernel = onnx.numpy_helper.from_array(np.ones((2, 1, 3, 3), np.float32), "k")
    ends = [
        onnx.helper.make_tensor_value_info(name, 1, ["n", c, s, s])
        for name, c, s in (("x", 1, 8), ("y", 2, 6))
    ]
    graph = onnx.helper.make_graph([conv], "g", ends[:1], ends[1:], [kernel])
    program = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    error = refused(saved(program, tmp_path / "m.onnx"), job("dynamic_int8"), tmp_path)
    assert (error.code, error.pointer) == ("layer_not_supported", "/steps/0")
    assert "Conv" in error.detail


def test_forms_of_older_exporters_are_understood(tmp_path: Path) -> None:
    path = saved(older(), tmp_path / "m.onnx")
    loaded = load_onnx(path)
    x = np.random.default_rng(0).random((5, 1, 8, 8), dtype=np.float32)
    np.testing.assert_array_equal(loaded.network.model.predict(x), OnnxProgram(path).predict(x))
    assert loaded.facts.input_names == ("x",)
    assert (loaded.facts.outputs, loaded.facts.output_activation) == (((3,),), "softmax")
    assert loaded.network.model.layers() == load_onnx(path).network.model.layers()
    np.savez(
        tmp_path / "d.npz", x=np.random.default_rng(1).random((80, 1, 8, 8), np.float32), y=np.arange(80) % 3
    )
    outcome, told = done(path, job("full_int8"), tmp_path, tmp_path / "d.npz")
    layers = {layer.name: layer for layer in outcome.report.layers}
    # The third dense layer shares the first one's weights.
    assert [layer.kind for layer in layers.values()] == [
        "Conv",
        "BatchNormalization",
        "Conv",
        "Gemm",
        "Gemm",
        "Gemm",
    ]
    assert {layer.stored_as for layer in layers.values() if layer.stored_as} == {"int8"}
    assert {layer.layer for layer in told.steps[0].layers} == {
        layer.name for layer in layers.values() if layer.stored_as
    }
    assert sum(layer.parameters for layer in layers.values()) == told.model.parameters  # type: ignore[union-attr]
    made = onnx.load(tmp_path / "work" / "out" / "model.onnx")
    assert {item.key: item.value for item in made.metadata_props} == {"classes": "cat,dog"}


def test_several_inputs_and_outputs_go_by_their_names(tmp_path: Path) -> None:
    path = saved(two_ended(), tmp_path / "m.onnx")
    chance = np.random.default_rng(0)
    np.savez(
        tmp_path / "d.npz",
        **{
            "x/right:0": chance.random((60, 5), dtype=np.float32),
            "x/left:0": chance.random((60, 6), dtype=np.float32),
            "y/kind:0": np.arange(60) % 4,
            "y/size:0": chance.random((60, 1), dtype=np.float32),
        },
    )
    outcome, _ = done(path, job("full_int8"), tmp_path, tmp_path / "d.npz")
    (output,) = outcome.report.outputs
    assert output.by_output is not None
    assert set(output.by_output) == {"kind:0", "size:0"}


def test_indices_beyond_a_table_are_told(tmp_path: Path) -> None:
    path = saved(words(), tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).integers(0, 12, (60, 6)), y=np.arange(60) % 2)
    outcome, told = done(path, job("dynamic_int8"), tmp_path, tmp_path / "d.npz")
    stored = {layer.name: layer.stored_as for layer in outcome.report.layers}
    assert stored == {layer.layer: layer.dtype for layer in told.steps[0].layers}
    assert stored == {"embed": "uint8", "out": "int8"}
    np.savez(tmp_path / "d.npz", x=np.full((60, 6), 99), y=np.arange(60) % 2)
    with pytest.raises(CompressionError) as caught:
        compress(path, job("dynamic_int8"), dataset=tmp_path / "d.npz", workdir=tmp_path / "other")
    assert caught.value.code == "shape_mismatch"


def test_one_sample_at_a_time_will_do(tmp_path: Path) -> None:
    path = saved(words(1), tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).integers(0, 12, (60, 6)), y=np.arange(60) % 2)
    outcome, _ = done(path, job("full_int8"), tmp_path, tmp_path / "d.npz")
    assert outcome.report.outputs[0].accuracy is not None


def test_batch_that_is_open_only_in_name_is_refused(tmp_path: Path) -> None:
    program = words()
    program.graph.node.extend([onnx.helper.make_node("Reshape", ["y", "one"], ["z"], name="fixed")])
    program.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 2]), "one"))
    program.graph.output[0].name = "z"
    with pytest.raises(CompressionError) as caught:
        load_onnx(saved(program, tmp_path / "m.onnx"))
    assert caught.value.code == "unsupported_model"


@pytest.mark.parametrize("make", [older, two_ended, words])
def test_shapes_are_those_that_onnx_infers(make: Any, tmp_path: Path) -> None:
    path = saved(make(), tmp_path / "m.onnx")
    compare_shapes(path)


def test_shapes_and_macs_of_an_exported_model(trained: Path) -> None:
    compare_shapes(trained)
    found = cost(read_outline(trained))
    assert not found.unknown
    assert found.total == sum((macs(classifier()) or {}).values())


def compare_shapes(path: Path) -> None:
    program = onnx.load(path)
    del program.graph.value_info[:]
    path = path.with_name("bare.onnx")
    path.write_bytes(program.SerializeToString())
    inferred = onnx.shape_inference.infer_shapes(program, data_prop=True).graph
    theirs = {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
        )
        for value in (*inferred.value_info, *inferred.output)
    }
    outline = read_outline(path)
    makers = {call.layer: call.outputs[0] for call in outline.calls}
    ours = {layer: outline.tensors[number] for layer, number in makers.items()}
    named = {node.name or None: node.output[0] for node in program.graph.node}
    compared = 0
    for number, shape in enumerate(outline.tensors):
        assert number < len(outline.tensors)
        compared += shape is not None
    assert compared == len(outline.tensors)
    for layer, output in named.items():
        if layer in ours and output in theirs:
            assert ours[layer] == theirs[output], layer


def test_inspection_says_what_there_is_and_what_can_be_done(trained: Path) -> None:
    found = inspect(read_outline(trained))
    assert (found.kind, found.format, found.framework, found.usable) == ("onnx", "onnx", "torch", True)
    assert [(each.name, each.shape) for each in found.inputs] == [("image", [None, 1, 28, 28])]
    assert found.totals is not None
    assert found.totals.macs is not None
    assert {each.output for each in found.formats if each.possible} == {"onnx"}
    possible = {
        each.step["scheme"] for each in found.techniques if each.technique == "quantize" and each.possible
    }
    assert possible == {"float16", "dynamic_int8", "full_int8", "dynamic"}
    assert {each.output for each in found.formats if each.possible is None} == {
        "tflite",
        "c_array",
        "pt2",
        "pte",
    }
    pruned = next(each for each in found.techniques if each.technique == "prune")
    assert pruned.possible is False
    assert pruned.why is not None
    assert pruned.why.code == "unsupported_technique"
