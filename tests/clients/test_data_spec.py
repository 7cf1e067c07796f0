"""How data is read: bounds, faults at their place, and nothing where it is not used."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from featherweight.problem import field_errors
from featherweight.spec import CompressionSpec

STEPS = {"steps": [{"technique": "prune"}]}
RECORDS = {"features": {"x": {"encoding": "image"}, "t": {"encoding": "text"}}, "input": "x", "label": "t"}


def test_a_spec_without_data_has_none_in_its_resolved_form() -> None:
    assert "data" not in CompressionSpec.model_validate(STEPS).model_dump(mode="json")


@pytest.mark.parametrize(
    "data",
    [
        {},
        {
            "target": "a",
            "features": ["b"],
            "classes": ["x", "y"],
            "csv": {"delimiter": "\t", "header": False},
        },
        {"target": ["a", "b"]},
        {"classes": "sorted", "target": "a"},
        {"image": {"size": [1, 4096], "mean": [0], "std": [1, 2, 3]}},
        {"tfrecord": RECORDS},
    ],
)
def test_what_is_allowed_comes_back(data: dict[str, Any]) -> None:
    spec = CompressionSpec.model_validate({**STEPS, "data": data})
    assert CompressionSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        ({"tagret": "a"}, "/data/tagret"),
        ({"target": ""}, "/data/target"),
        ({"target": ["a", "a"]}, "/data"),
        ({"target": "a", "features": ["a"]}, "/data"),
        ({"target": ["a", "b"], "classes": "sorted"}, "/data"),
        ({"classes": ["a", "a"]}, "/data"),
        ({"csv": {"delimiter": "|"}}, "/data/csv/delimiter"),
        ({"image": {"scale": "0..2"}}, "/data/image/scale"),
        ({"image": {"size": [0, 5]}}, "/data/image/size/0"),
        ({"image": {"std": [0]}}, "/data/image/std/0"),
        ({"tfrecord": {**RECORDS, "input": "y"}}, "/data/tfrecord"),
        ({"tfrecord": {**RECORDS, "label": "x"}}, "/data/tfrecord"),
        ({"tfrecord": {**RECORDS, "input": "t", "label": None}}, "/data/tfrecord"),
        (
            {"tfrecord": {"features": {"x": {"encoding": "text", "shape": [2]}}, "input": "x"}},
            "/data/tfrecord/features/x",
        ),
        (
            {"tfrecord": {"features": {"x": {"shape": [0]}}, "input": "x"}},
            "/data/tfrecord/features/x/shape/0",
        ),
    ],
)
def test_a_fault_is_told_at_its_place(data: dict[str, Any], pointer: str) -> None:
    body = {**STEPS, "data": data}
    with pytest.raises(ValidationError) as raised:
        CompressionSpec.model_validate(body)
    assert pointer in {fault.pointer for fault in field_errors(raised.value, body)}
