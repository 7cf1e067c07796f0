"""What of the prune step goes together, and at which place a fault is told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from featherweight.problem import field_errors
from featherweight.spec import CompressionSpec

OVERRIDE = {"layers": {"include": ["a"]}, "schedule": {"type": "constant_sparsity"}}
CUSTOM = {"type": "custom"}


def spec(**fields: Any) -> dict[str, Any]:
    return {"steps": [{"technique": "prune", **fields}]}


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "lamp"},
        {"method": "random", "overrides": [OVERRIDE]},
        {"pattern": {"type": "block", "block_size": [1, 16], "pooling": "max"}, "overrides": [OVERRIDE]},
        {"pattern": {"type": "n_of_m", "n": 1, "m": 4}},
        {"pattern": {"type": "xnnpack_latency"}, "summaries": True},
        {"schedule": {**CUSTOM, "points": [{"fraction": 0.5, "sparsity": 0.5}], "interpolation": "step"}},
    ],
)
def test_what_goes_together_is_taken(fields: dict[str, Any]) -> None:
    checked = CompressionSpec.model_validate(spec(**fields))
    assert CompressionSpec.model_validate_json(checked.model_dump_json()) == checked


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"method": "lamp", "overrides": [OVERRIDE]}, "one target for all layers"),
        ({"method": "random", "pattern": {"type": "n_of_m"}}, "goes with the method magnitude"),
        ({"pattern": {"type": "n_of_m"}, "overrides": [OVERRIDE]}, "has its own sparsity"),
        ({"pattern": {"type": "n_of_m", "n": 4, "m": 4}}, "must be less than m"),
        ({"schedule": {**CUSTOM, "points": [{"sparsity": 0.5}]}}, "either step or fraction"),
        (
            {
                "schedule": {
                    **CUSTOM,
                    "points": [{"step": 1, "sparsity": 0}, {"fraction": 1, "sparsity": 0.5}],
                }
            },
            "all points by step or all by fraction",
        ),
        (
            {"schedule": {**CUSTOM, "points": [{"step": 9, "sparsity": 0}, {"step": 9, "sparsity": 0.5}]}},
            "must rise",
        ),
    ],
)
def test_what_does_not_is_refused_with_the_reason(fields: dict[str, Any], sentence: str) -> None:
    body = spec(**fields)
    with pytest.raises(ValidationError, match=sentence) as caught:
        CompressionSpec.model_validate(body)
    assert field_errors(caught.value, body)[0].pointer.startswith("/steps/0")
