"""Inspections against the files that converters make of the same networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from featherweight.inspection import InspectedOutput, InspectedTechnique, Inspection
from featherweight.problem import CODES
from featherweight.spec import CompressionSpec, Quantize
from tasks.compression import CompressionError, compress
from tasks.compression.backends.tensorflow.convert import to_tflite
from tasks.compression.backends.tensorflow.deliverable import CONVERTED, obstacle
from tasks.compression.backends.tensorflow.onnx import write_onnx
from tasks.compression.backends.tensorflow.saved_model import write_saved_model
from tasks.compression.catalogue import ROWS
from tasks.compression.contents import contents
from tasks.compression.inspection import inspect
from tasks.compression.inspection.techniques import LOOKED_AT
from tasks.compression.outline.reading import read_outline
from tasks.compression.planning import plan
from tasks.compression.tflite import strip
from tests.compression.networks import keras, save_model
from tests.compression.planning.networks import NETWORKS


def inspected(model: Any, path: Path) -> Inspection:
    return inspect(read_outline(save_model(model, path)))


def technique(found: Inspection, name: str, **step: Any) -> InspectedTechnique:
    wanted = {"technique": name, **step}
    return next(each for each in found.techniques if wanted.items() <= each.step.items())


# The state of a recurrent layer, and what a SeparableConv2D has between its halves, is not counted.
@pytest.mark.parametrize("name", ["conv", "residual", "nested", "shared"])
def test_memory_is_what_the_float_file_needs(name: str, tmp_path: Path) -> None:
    model = NETWORKS[name]()
    totals = inspected(model, tmp_path / "m.keras").totals
    assert totals is not None
    needed = contents(to_tflite(model)).peak_activation_bytes
    assert totals.activation_bytes_peak_estimate == pytest.approx(needed, rel=0.25)


@pytest.mark.parametrize("name", ["conv", "residual", "separable", "shared"])
def test_converted_file_has_the_macs_of_its_layers(name: str, tmp_path: Path) -> None:
    model = NETWORKS[name]()
    before = inspected(model, tmp_path / "m.keras")
    content = to_tflite(model)
    (tmp_path / "m.tflite").write_bytes(content)
    after = inspect(read_outline(tmp_path / "m.tflite"))
    assert before.totals is not None
    assert after.totals is not None
    assert after.totals.macs == before.totals.macs
    assert after.totals.activation_bytes_peak_estimate == pytest.approx(
        contents(content).peak_activation_bytes, rel=0.05
    )
    assert (after.written_by or "").startswith("TensorFlow 2.")
    (tmp_path / "stripped").write_bytes(strip(content))
    assert inspect(read_outline(tmp_path / "stripped")).written_by is None


def test_every_technique_and_format_is_told_of_with_known_codes(tmp_path: Path) -> None:
    found = inspected(NETWORKS["lstm"](), tmp_path / "m.h5")
    assert found.format == "hdf5"
    assert {each.technique for each in found.techniques} == {row.technique for row in ROWS}
    assert {each.output for each in found.formats} == {output for row in ROWS for output in row.outputs}
    reasons = [each.why for each in (*found.techniques, *found.formats) if each.why]
    reasons += [each for part in found.techniques for each in part.left_alone]
    assert reasons
    assert {reason.code for reason in reasons} <= CODES.keys()


def test_schemes_of_quantisation_are_all_looked_at() -> None:
    schemes = get_args(Quantize.model_fields["scheme"].annotation)
    assert {step["scheme"] for step in LOOKED_AT["quantize"]} == set(schemes)


def test_what_no_layer_can_take_is_not_possible_and_the_job_agrees(tmp_path: Path) -> None:
    layers = keras().layers
    rnn = layers.Bidirectional(layers.GRU(4), name="both_ways")
    model = keras().Sequential([layers.InputLayer((6, 4)), rnn, layers.Dense(3, name="out")])
    path = save_model(model, tmp_path / "m.keras")
    found = inspect(read_outline(path))
    told = technique(found, "quantize", scheme="full_int8")
    assert told.possible is False
    assert told.why is not None
    assert told.outputs == []
    assert technique(found, "quantize", scheme="dynamic_int8").possible
    with pytest.raises(CompressionError) as refused:
        compress(path, {"steps": [told.step]}, dataset=None, workdir=tmp_path / "w")
    assert refused.value.code == "dataset_required"
    assert told.needs_data
    assert (told.why.code, told.why.layer) == ("layer_not_supported", "both_ways")


def test_model_without_weights_has_nothing_to_prune(tmp_path: Path) -> None:
    layers = keras().layers
    model = keras().Sequential([layers.InputLayer((4, 4, 1)), layers.MaxPooling2D(), layers.Flatten()])
    found = inspected(model, tmp_path / "m.keras")
    assert found.usable
    pruned = technique(found, "prune")
    assert pruned.possible is False
    assert pruned.why is not None
    assert pruned.why.code == "nothing_to_do"


# What converters refuse, and the same layer as they take it.

IMAGE, VOLUME = (8, 8, 3), (4, 4, 4, 2)
Make = Callable[[Any], Any]
REFUSED: dict[str, tuple[tuple[int, ...], Make, Make | None, set[str]]] = {
    "average of volumes": (
        VOLUME,
        lambda k: k.AveragePooling3D(),
        lambda k: k.GlobalAveragePooling3D(),
        {"tflite"},
    ),
    "maximum of volumes": (VOLUME, lambda k: k.MaxPooling3D(), lambda k: k.GlobalMaxPooling3D(), {"tflite"}),
    "bicubic": (
        IMAGE,
        lambda k: k.Resizing(5, 5, interpolation="bicubic"),
        lambda k: k.Resizing(5, 5),
        {"tflite"},
    ),
    "upsampled": (
        IMAGE,
        lambda k: k.UpSampling2D(interpolation="bicubic"),
        lambda k: k.UpSampling2D(interpolation="bilinear"),
        {"tflite"},
    ),
    "lanczos": (IMAGE, lambda k: k.Resizing(5, 5, interpolation="lanczos3"), None, {"tflite", "onnx"}),
    "categories": ((1,), lambda k: k.CategoryEncoding(4), None, {"tflite"}),
    "buckets": ((1,), lambda k: k.Discretization(bin_boundaries=[0.0, 1.0]), None, {"onnx"}),
    "random crop": (
        IMAGE,
        lambda k: k.RandomCrop(4, 4),
        lambda k: k.CenterCrop(4, 4),
        {"tflite", "onnx", "saved_model"},
    ),
    "groups": ((8, 8, 4), lambda k: k.Conv2D(4, 3, groups=2), lambda k: k.Conv2D(4, 3), {"onnx"}),
    "gelu": (
        (4,),
        lambda k: k.Dense(3, activation="gelu"),
        lambda k: k.Dense(3, activation="silu"),
        {"onnx"},
    ),
}


def converted(model: Any, output: str, folder: Path) -> bool:
    why = None
    try:
        _convert(model, output, folder)
    except CompressionError as error:
        why = error
    assert why is None or why.code == "conversion_failed"
    assert why is None or ".py" not in why.detail  # No path of this machine.
    return why is None


def _convert(model: Any, output: str, folder: Path) -> None:
    if output == "tflite":
        to_tflite(model)
    elif output == "onnx":
        write_onnx(model, folder / "m.onnx")
    else:
        write_saved_model(model, folder / "m.tar.gz")


def of_keras(found: Inspection) -> list[InspectedOutput]:
    """The formats without those of another framework, which are told of as refused."""
    others = [each for each in found.formats if each.output in ("pt2", "pte")]
    assert {each.why.code for each in others if each.why} == {"unsupported_output"}
    assert not any(each.possible for each in others)
    return [each for each in found.formats if each not in others]


@pytest.mark.parametrize("name", REFUSED)
def test_formats_that_a_layer_cannot_go_into_are_those_whose_converter_refuses(
    name: str, tmp_path: Path
) -> None:
    shape, make, other, refused = REFUSED[name]
    layers = keras().layers
    model = keras().Sequential([layers.InputLayer(shape), make(layers)])
    found = inspected(model, tmp_path / "m.keras")
    kept = {each.output for each in found.formats if each.possible}
    assert kept.isdisjoint(refused)
    assert ("c_array" in kept) is ("tflite" not in refused)
    blamed = {each.why.layer for each in of_keras(found) if each.why}
    assert blamed == {model.layers[-1].name}
    spec = CompressionSpec.model_validate({"steps": [{"technique": "prune"}], "outputs": sorted(refused)})
    problems = plan(read_outline(tmp_path / "m.keras"), spec).problems
    assert {(each.code, each.pointer) for each in problems} >= {
        ("conversion_failed", f"/spec/outputs/{index}") for index in range(len(refused))
    }
    formats = ("tflite", "onnx", "saved_model")
    assert {output for output in formats if not converted(model, output, tmp_path)} == refused
    if other is not None:
        fine = keras().Sequential([layers.InputLayer(shape), other(layers)])
        assert all(each.possible for each in of_keras(inspected(fine, tmp_path / "fine.keras")))
        assert all(converted(fine, output, tmp_path) for output in refused)


def test_kinds_not_tried_leave_a_format_open(tmp_path: Path) -> None:
    found = inspected(NETWORKS["shared"](), tmp_path / "m.keras")  # multiplies by a number
    told = {each.output: (each.possible, each.open) for each in found.formats}
    assert told["keras"] == (True, None)
    possible, open_ = told["onnx"]
    assert possible is None
    assert "TFOpLambda" in (open_ or "")
    assert "TFOpLambda" not in CONVERTED
    assert obstacle("Dense", {}, "onnx") is None
