"""What a model's kind allows is told the same everywhere, without a framework."""

from __future__ import annotations

from typing import Any

import pytest

from featherweight.problem import CODES
from featherweight.spec import CompressionSpec
from tasks.compression.abilities import KINDS, ModelKind, abilities, framework_of, kind_of_format, unable
from tasks.compression.catalogue import ROWS

QUANTIZE = {"technique": "quantize", "scheme": "dynamic_int8"}


def spec(*steps: dict[str, Any], outputs: list[str]) -> CompressionSpec:
    return CompressionSpec.model_validate({"steps": list(steps), "outputs": outputs})


@pytest.mark.parametrize("kind", KINDS)
def test_every_technique_and_output_is_offered_or_refused_with_a_reason(kind: ModelKind) -> None:
    known = abilities(kind)
    rows = [row for row in ROWS if row.framework == framework_of(kind)]
    assert {*known.techniques, *known.refused_techniques} == {row.technique for row in rows}
    assert not set(known.techniques) & set(known.refused_techniques)
    assert {*known.outputs, *known.refused_outputs} == {output for row in rows for output in row.outputs}
    assert not set(known.outputs) & set(known.refused_outputs)
    refused = known.refused_techniques or known.refused_outputs
    assert bool(refused) == (known.hint is not None) == (kind not in ("keras", "pt2"))


@pytest.mark.parametrize(
    ("kind", "given", "pointers"),
    [
        ("keras", spec({"technique": "prune"}, QUANTIZE, outputs=["tflite", "keras"]), []),
        ("graph", spec(QUANTIZE, outputs=["tflite", "saved_model", "onnx", "c_array"]), []),
        ("graph", spec(QUANTIZE, outputs=["tflite", "keras"]), ["/outputs/1"]),
        ("graph", spec({"technique": "prune"}, QUANTIZE, outputs=["tflite"]), ["/steps/0/technique"]),
        ("tflite", spec(QUANTIZE, outputs=["c_array", "tflite"]), []),
        ("keras", spec(QUANTIZE, outputs=["onnx"]), ["/outputs"]),
        ("pt2", spec(QUANTIZE, outputs=["onnx"]), []),
        ("pt2", spec({"technique": "prune"}, QUANTIZE, outputs=["pt2", "pte"]), []),
        (
            "tflite",
            spec({"technique": "cluster"}, outputs=["saved_model", "tflite"]),
            ["/steps/0/technique", "/outputs/0"],
        ),
    ],
)
def test_what_a_kind_does_not_allow_is_pointed_at(
    kind: ModelKind, given: CompressionSpec, pointers: list[str]
) -> None:
    found = unable(given, kind, "as this file says")
    assert [fault.pointer for fault in found] == pointers
    for fault in found:
        assert fault.code in CODES
        assert "as this file says" in fault.detail
        assert fault.hint is not None


def test_only_the_inside_of_an_archive_tells_its_kind() -> None:
    assert kind_of_format("hdf5") == "keras"
    assert kind_of_format("tflite") == "tflite"
    assert kind_of_format("zip") is kind_of_format("tar_gz") is kind_of_format("saved_model") is None
