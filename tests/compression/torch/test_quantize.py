from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherweight.spec import LayerSelection, Quantize
from tasks.compression.backends.torch.convert import to_tflite
from tasks.compression.backends.torch.pt2e import quantized_pt2
from tasks.compression.backends.torch.quantize import check, quantize
from tasks.compression.backends.torch.stored import stored
from tasks.compression.backends.torch.written import predict_written
from tasks.compression.errors import CompressionError
from tasks.compression.litert import Program
from tasks.compression.quantizing.static import measured_ranges
from tasks.compression.tflite import tensors
from tests.compression.torch.quantizable import (
    HELD_OUT,
    accuracy,
    answers,
    classifier,
    images,
    quantizing,
)

LAYERS = ["stem.0", "depthwise", "mixed", "head.1", "head.4"]


def made(tmp_path: Path, *outputs: Any, **options: Any) -> tuple[Any, dict[str, Any], set[str]]:
    """The network, the details and the codes of the warnings."""
    step, context = quantizing(classifier(), tmp_path, outputs or ("tflite",), **options)
    network = quantize(classifier(), step, context)
    return network, context.record.details, {item.code for item in context.record.warnings}


def program_of(network: Any) -> Program:
    return Program(network.files["tflite"])


def dtypes(network: Any, *, stored: bool) -> set[str]:
    return {item.dtype for item in tensors(network.files["tflite"]) if item.stored == stored}


@pytest.mark.parametrize(
    ("options", "types"),
    [
        ({"scheme": "float16"}, dict.fromkeys(LAYERS, "float16")),
        (
            {"scheme": "dynamic_int8"},
            # The others have fewer than 1,024 weights.
            {name: "int8" if name in ("mixed", "head.1") else "float32" for name in LAYERS},
        ),
        ({"scheme": "full_int8"}, dict.fromkeys(LAYERS, "int8")),
        ({"scheme": "full_int8", "granularity": "per_tensor"}, dict.fromkeys(LAYERS, "int8")),
        ({"scheme": "int16x8"}, dict.fromkeys(LAYERS, "int8")),
        ({"scheme": "weight_only"}, dict.fromkeys(LAYERS, "int8")),
        (
            {"scheme": "dynamic", "weight_bits": 4, "algorithm": "octav"},
            {name: "int4" if name in ("mixed", "head.1", "head.4") else "float32" for name in LAYERS},
        ),
        (
            {"scheme": "dynamic", "weight_bits": 4, "algorithm": "gptq"},
            {name: "int4" if name in ("head.1", "head.4") else "float32" for name in LAYERS},
        ),
    ],
    ids=["float16", "dynamic_int8", "full_int8", "per_tensor", "int16x8", "weight_only", "int4", "gptq"],
)
def test_tflite_has_the_types_promised_layer_by_layer(
    tmp_path: Path, options: dict[str, Any], types: dict[str, str]
) -> None:
    network, details, codes = made(tmp_path, calibration_samples=60, **options)
    if options["scheme"] == "dynamic_int8" and details["layers"]["stem.0"] == "float32":
        assert "left_float" in codes
    assert details["layers"] == types
    assert details["scheme"] == options["scheme"]
    program = program_of(network)
    assert program.open_batch
    found = program.predict(images()[0][-HELD_OUT:])
    assert accuracy(found) > accuracy(answers(classifier())) - 0.02
    assert len(network.files["tflite"]) < (0.7 if options["scheme"] == "float16" else 0.6) * len(
        to_tflite(classifier())
    )


@pytest.mark.parametrize("io_dtype", ["float32", "int8"])
def test_full_int8_is_integers_alone_between_in_and_output(tmp_path: Path, io_dtype: str) -> None:
    network, _, _ = made(tmp_path, scheme="full_int8", io_dtype=io_dtype, calibration_samples=60)
    program = program_of(network)
    assert program.input_dtype == io_dtype
    assert program.inner_floats() == 0
    assert [name for name, _, _ in program.signature()] == ["image", "scores"]
    assert dtypes(network, stored=True) == {"int8", "int32"}


def test_ranges_are_those_of_all_samples_and_not_of_their_average() -> None:
    samples = images()[0][:40]
    found = measured_ranges(to_tflite(classifier()), samples)
    reference = Program(to_tflite(classifier())).predict(samples)
    assert found["scores"] == pytest.approx((np.min(reference), np.max(reference)), abs=1e-4)


def test_outputs_of_integers_reach_the_ends_of_the_float_ones(tmp_path: Path) -> None:
    network, _, _ = made(tmp_path, scheme="full_int8", calibration_samples=1000)
    found = program_of(network).predict(images()[0][-HELD_OUT:])
    reference = np.asarray(answers(classifier()))
    assert np.abs(np.asarray(found) - reference).max() < 0.08 * np.ptp(reference)


@pytest.mark.parametrize("scheme", ["full_int8", "weight_only", "float16"])
def test_layers_not_selected_stay_float(tmp_path: Path, scheme: str) -> None:
    network, details, _ = made(tmp_path, scheme=scheme, layers={"exclude": ["mixed"]}, calibration_samples=30)
    assert details["layers"]["mixed"] == "float32"
    assert details["layers"]["head.1"] == ("float16" if scheme == "float16" else "int8")
    kernel = next(item for item in tensors(network.files["tflite"]) if item.shape == (16, 3, 3, 8))
    assert kernel.dtype == "float32"


def test_unknown_layer_is_refused() -> None:
    step = Quantize(technique="quantize", layers=LayerSelection(include=("nowhere",)))
    with pytest.raises(CompressionError) as caught:
        check(classifier(), step, "/steps/0")
    assert caught.value.code == "layer_not_found"


def test_sensitivity_and_candidates_are_told_and_hold_for_all_outputs(tmp_path: Path) -> None:
    network, details, _ = made(
        tmp_path,
        "tflite",
        "pt2",
        scheme="full_int8",
        calibration_samples=40,
        calibration_candidates=2,
        sensitivity={"max_drop": 0.0, "max_float_layers": 1},
    )
    told = details["sensitivity"]
    assert {entry["layer"] for entry in told["layers"]} == set(LAYERS)
    assert details["calibration"]["chosen"] in (0, 1)
    for layer in told["left_float"]:
        assert details["layers"][layer] == "float32"
        assert details["outputs"]["pt2"]["layers"][layer] == "float32"
    assert set(network.files) == {"tflite", "pt2"}


def test_stored_layers_have_their_type_and_signal_to_noise(tmp_path: Path) -> None:
    network, _, _ = made(tmp_path, scheme="full_int8", calibration_samples=60)
    told = stored(network, images()[0][-8:])
    assert {name: item.dtype for name, item in told.items()} == dict.fromkeys(LAYERS, "int8")
    for item in told.values():
        assert item.snr_db is not None
        assert item.snr_db > 10


def test_format_that_cannot_hold_the_scheme_is_float_and_said_to_be(tmp_path: Path) -> None:
    network, _, codes = made(tmp_path, "tflite", "onnx", "pt2", scheme="weight_only")
    assert set(network.files) == {"tflite"}
    assert "output_left_float" in codes


def test_scheme_that_no_output_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompressionError) as caught:
        made(tmp_path, "pt2", scheme="int16x8")
    assert (caught.value.code, caught.value.pointer) == ("unsupported_output", "/steps/0/scheme")


@pytest.mark.parametrize(
    ("options", "narrow"),
    [
        ({"scheme": "full_int8"}, set(LAYERS)),
        ({"scheme": "full_int8", "granularity": "per_tensor"}, set(LAYERS)),
        ({"scheme": "dynamic_int8"}, set(LAYERS)),
    ],
    ids=["full_int8", "per_tensor", "dynamic_int8"],
)
def test_pt2_holds_integers_and_no_float_copy(
    tmp_path: Path, options: dict[str, Any], narrow: set[str]
) -> None:
    step = Quantize.model_validate({"technique": "quantize", **options})
    samples = images()[0][:100] if step.calibrates else None
    content, types = quantized_pt2(classifier(), step, samples, frozenset(["head.4"]))
    assert types == {name: "int8" if name in narrow - {"head.4"} else "float32" for name in LAYERS}
    path = tmp_path / "model.pt2"
    path.write_bytes(content)
    found = predict_written("pt2", path, images()[0][-HELD_OUT:])
    assert accuracy(found) > accuracy(answers(classifier())) - 0.02
    # The float weights of this layer alone are 102,400 bytes.
    assert len(content) < 100_000
    assert b"quantizable.py" not in content
    again, _ = quantized_pt2(classifier(), step, samples, frozenset(["head.4"]))
    assert again == content
