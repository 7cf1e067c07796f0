"""The compression spec: bounds, faults at their place, and a schema that says the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from featherweight.problem import field_errors
from featherweight.spec import CompressionSpec, ConstantSparsity, Finetune, PolynomialDecay, Prune, Quantize

PRUNE = {"technique": "prune"}
FINETUNE = {"technique": "finetune"}
CLUSTER = {"technique": "cluster"}
QUANTIZE = {"technique": "quantize"}


def _faults(body: Any) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as raised:
        CompressionSpec.model_validate(body)
    return [(fault.pointer, fault.code) for fault in field_errors(raised.value, body)]


def _with_step(**fields: Any) -> dict[str, Any]:
    return {"steps": [fields]}


@pytest.mark.parametrize("steps", [[PRUNE], [FINETUNE], [QUANTIZE], [PRUNE, FINETUNE, QUANTIZE]])
def test_every_default_is_valid(steps: list[dict[str, str]]) -> None:
    spec = CompressionSpec.model_validate({"steps": steps})
    assert CompressionSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert CompressionSpec.model_validate_json(spec.model_dump_json()) == spec


def test_defaults_are_the_tutorials() -> None:
    prune = CompressionSpec.model_validate({"steps": [PRUNE]}).steps[0]
    assert isinstance(prune, Prune)
    assert isinstance(prune.schedule, PolynomialDecay)
    assert (prune.schedule.initial_sparsity, prune.schedule.final_sparsity) == (0.5, 0.8)


@pytest.mark.parametrize(
    ("step", "pointer"),
    [
        ({**PRUNE, "sparsity": 0.5}, "/steps/0/sparsity"),
        ({**PRUNE, "schedule": {"type": "polynomial_decay", "final": 0.5}}, "/steps/0/schedule/final"),
        ({**PRUNE, "layers": {"only": ["a"]}}, "/steps/0/layers/only"),
        ({**FINETUNE, "epoch": 3}, "/steps/0/epoch"),
        ({**QUANTIZE, "a/b~c": 3}, "/steps/0/a~1b~0c"),
    ],
)
def test_unknown_key_is_refused_at_its_place(step: dict[str, Any], pointer: str) -> None:
    assert _faults({"steps": [step]}) == [(pointer, "extra_forbidden")]


@pytest.mark.parametrize("value", [-0.01, 1.0, 1.5, float("nan"), float("inf"), "much", None])
def test_sparsity_outside_its_range_is_refused(value: Any) -> None:
    for key in ("initial_sparsity", "final_sparsity"):
        body = _with_step(**PRUNE, schedule={"type": "polynomial_decay", key: value})
        assert [pointer for pointer, _ in _faults(body)] == [f"/steps/0/schedule/{key}"]


@pytest.mark.parametrize("value", [0.0, 0.999999, 0.5])
def test_sparsity_within_its_range_is_taken(value: float) -> None:
    assert ConstantSparsity(target_sparsity=value).final_sparsity == value


@pytest.mark.parametrize(
    ("step", "key", "bad"),
    [
        (FINETUNE, "epochs", 0),
        (FINETUNE, "epochs", 1001),
        (FINETUNE, "epochs", 1.5),
        (FINETUNE, "epochs", "2"),
        (FINETUNE, "epochs", True),
        (FINETUNE, "batch_size", 0),
        (FINETUNE, "batch_size", 65_537),
        (FINETUNE, "learning_rate", 0),
        (FINETUNE, "learning_rate", 10.1),
        (FINETUNE, "learning_rate", float("nan")),
        (FINETUNE, "optimizer", "magic"),
        (FINETUNE, "loss", "hinge"),
        (FINETUNE, "metrics", []),
        (FINETUNE, "validation_split", 1.0),
        (FINETUNE, "validation_split", -0.1),
        (FINETUNE, "seed", -1),
        (FINETUNE, "seed", 2**31),
        (QUANTIZE, "scheme", "int3"),
        (QUANTIZE, "calibration_samples", 0),
        (QUANTIZE, "calibration_samples", 100_001),
        (QUANTIZE, "io_dtype", "uint8"),
        (PRUNE, "on_unsupported", "ignore"),
    ],
)
def test_value_outside_its_bounds_is_refused(step: dict[str, Any], key: str, bad: Any) -> None:
    assert [pointer for pointer, _ in _faults(_with_step(**step, **{key: bad}))] == [f"/steps/0/{key}"]


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        ("version", 2),
        ("steps", []),
        ("steps", [PRUNE] * 21),
        ("steps", "prune"),
        ("outputs", []),
        ("outputs", ["tflite", "tflite"]),
        ("outputs", ["pickle"]),
        ("split", {"test": 0}),
        ("split", {"test": 1}),
        ("seed", -1),
        ("seed", 1.5),
        ("colour", "green"),
    ],
)
def test_fault_of_the_spec_itself_is_refused(key: str, bad: Any) -> None:
    faults = _faults({"steps": [PRUNE], key: bad})
    assert len(faults) == 1
    assert faults[0][0].startswith(f"/{key}") or faults[0] == ("", "value_error")


@pytest.mark.parametrize("type_", ["constant_sparsity", "polynomial_decay"])
@pytest.mark.parametrize(("begin", "end"), [(10, 10), (11, 10)])
def test_schedule_that_ends_before_it_begins_is_refused(type_: str, begin: int, end: int) -> None:
    schedule = {"type": type_, "begin_step": begin, "end_step": end}
    assert _faults(_with_step(**PRUNE, schedule=schedule)) == [("/steps/0/schedule", "value_error")]


@pytest.mark.parametrize(("begin", "end"), [("auto", 10), (0, "auto"), ("auto", "auto"), (0, 1)])
def test_schedule_may_leave_its_ends_to_the_service(begin: Any, end: Any) -> None:
    assert PolynomialDecay(begin_step=begin, end_step=end).end_step == end


@pytest.mark.parametrize("bad", [-1, 10_000_001, 1.5, "automatic", True])
def test_step_number_is_a_number_or_auto(bad: Any) -> None:
    faults = _faults(_with_step(**PRUNE, schedule={"type": "constant_sparsity", "begin_step": bad}))
    assert {pointer for pointer, _ in faults} == {"/steps/0/schedule/begin_step"}


@pytest.mark.parametrize("step", [{}, {"technique": "shrink"}, {"technique": None}, "prune", None, 3])
def test_step_of_no_known_technique_is_one_fault_at_the_step(step: Any) -> None:
    faults = _faults({"steps": [PRUNE, step]})
    assert [pointer for pointer, _ in faults] == ["/steps/1"]


def test_every_faulty_step_is_named() -> None:
    faults = _faults({"steps": [{**FINETUNE, "epochs": 0}, {**QUANTIZE, "scheme": "x"}, PRUNE]})
    assert [pointer for pointer, _ in faults] == ["/steps/0/epochs", "/steps/1/scheme"]


@pytest.mark.parametrize(
    "body",
    [
        {"steps": [QUANTIZE, PRUNE]},
        {"steps": [QUANTIZE, QUANTIZE]},
        {"steps": [QUANTIZE], "outputs": ["keras"]},
        {"steps": [QUANTIZE], "outputs": ["keras", "saved_model", "onnx"]},
    ],
)
def test_quantize_comes_last_and_makes_tflite(body: dict[str, Any]) -> None:
    assert _faults(body) == [("", "value_error")]


@pytest.mark.parametrize("between", [[], [FINETUNE]])
@pytest.mark.parametrize("technique", ["prune_channels", "decompose"])
def test_network_cannot_be_changed_after_weights_were_pruned(
    technique: str, between: list[dict[str, str]]
) -> None:
    change = {"technique": technique}
    for step in (PRUNE, CLUSTER):
        assert _faults({"steps": [step, *between, change]}) == [("", "value_error")]
        assert CompressionSpec.model_validate({"steps": [change, *between, step, QUANTIZE]})


@pytest.mark.parametrize(
    ("step", "pointer"),
    [
        ({"rank": {"type": "energy", "keep": 0.0}}, "rank/keep"),
        ({"rank": {"type": "parameters", "keep": 1.1}}, "rank/keep"),
        ({"rank": {"type": "parameters"}}, "rank/keep"),
        ({"rank": {"type": "fixed", "rank": 0}}, "rank/rank"),
        ({"rank": {"type": "fixed", "rank": 2.5}}, "rank/rank"),
        ({"rank": {"type": "fixed", "keep": 0.5}}, "rank"),
        ({"rank": {"type": "vbmf"}}, "rank"),
        ({"rank": 8}, "rank"),
        ({"round_to": 0}, "round_to"),
        ({"on_unsupported": "ignore"}, "on_unsupported"),
    ],
)
def test_fault_of_a_rank_is_refused_at_its_place(step: dict[str, Any], pointer: str) -> None:
    faults = _faults(_with_step(technique="decompose", **step))
    assert faults
    assert all(found.startswith(f"/steps/0/{pointer}") for found, _ in faults)


@pytest.mark.parametrize("between", [[], [PRUNE], [{"technique": "prune_channels"}], [QUANTIZE]])
def test_cuts_in_rounds_need_a_training_right_after_them(between: list[dict[str, str]]) -> None:
    rounds = {"technique": "prune_channels", "iterations": 2}
    after = [] if between in ([], [QUANTIZE]) else [FINETUNE]
    with pytest.raises(ValidationError, match="needs a finetune or distill step right after it"):
        CompressionSpec.model_validate({"steps": [rounds, *between, *after]})
    assert CompressionSpec.model_validate({"steps": [rounds, FINETUNE, *between]})


@pytest.mark.parametrize(
    ("step", "pointer"),
    [
        ({"target": {"type": "ratio", "remove": 1.0}}, "target/remove"),
        ({"target": {"type": "macs", "keep": 0.0}}, "target/keep"),
        ({"target": {"type": "macs", "remove": 0.5}}, "target"),
        ({"overrides": [{"layers": {}, "remove": -0.1}]}, "overrides/0/remove"),
        ({"round_to": 0}, "round_to"),
        ({"min_channels": 1.5}, "min_channels"),
        ({"iterations": 0}, "iterations"),
        ({"iterations": 21}, "iterations"),
        ({"iterations": 1.5}, "iterations"),
    ],
)
def test_fault_of_a_channel_target_is_refused_at_its_place(step: dict[str, Any], pointer: str) -> None:
    faults = _faults(_with_step(technique="prune_channels", **step))
    assert all(found.startswith(f"/steps/0/{pointer}") for found, _ in faults)


@pytest.mark.parametrize(
    ("step", "pointer"),
    [
        ({"clusters": 1}, "clusters"),
        ({"clusters": 257}, "clusters"),
        ({"clusters": 8.0}, "clusters"),
        ({"begin": 1.0}, "begin"),
        ({"begin": -0.1}, "begin"),
        ({"initialization": "random"}, "initialization"),
        ({"overrides": [{"layers": {}, "clusters": 0}]}, "overrides/0/clusters"),
        ({"preserve_sparsity": True}, "preserve_sparsity"),
    ],
)
def test_fault_of_a_cluster_step_is_refused_at_its_place(step: dict[str, Any], pointer: str) -> None:
    faults = _faults(_with_step(technique="cluster", **step))
    assert faults
    assert all(found.startswith(f"/steps/0/{pointer}") for found, _ in faults)


def test_spec_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        Finetune(technique="finetune").epochs = 3  # type: ignore[misc]


def test_json_schema_is_a_schema_and_takes_what_the_models_take() -> None:
    schema = CompressionSpec.model_json_schema()
    Draft202012Validator.check_schema(schema)
    assert schema == json.loads(json.dumps(schema))
    validator = Draft202012Validator(schema)
    full = CompressionSpec.model_validate({"steps": [PRUNE, FINETUNE, QUANTIZE]}).model_dump(mode="json")
    assert validator.is_valid(full)
    assert validator.is_valid({"steps": [PRUNE]})
    for bad in ({"steps": []}, {"steps": [{**FINETUNE, "epoch": 1}]}, {"steps": [PRUNE], "seed": -1}):
        assert not validator.is_valid(bad)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_keys = st.sampled_from(["technique", "schedule", "type", "layers", "epochs", "scheme", "prune", "steps"])


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(_keys, _json | st.sampled_from(["prune", "finetune", "quantize"]), max_size=4))
def test_whatever_comes_is_taken_or_its_faults_have_pointers(step: dict[str, Any]) -> None:
    body = {"steps": [step]}
    faults = []
    try:
        CompressionSpec.model_validate(body)
    except ValidationError as error:
        faults = field_errors(error, body)
    assert all(fault.pointer.startswith("/steps/0") for fault in faults)


def test_quantize_is_full_int8_unless_told_otherwise() -> None:
    assert Quantize(technique="quantize").scheme == "full_int8"


@pytest.mark.parametrize(
    ("field", "bad", "pointer", "code"),
    [
        ("loss", {"a": "hinge"}, "loss/a", "literal_error"),
        ("loss", {}, "loss", "too_short"),
        ("loss", ["mean_squared_error"], "loss", "literal_error"),
        ("metrics", {"a": []}, "metrics/a", "too_short"),
        ("metrics", {"a": "accuracy"}, "metrics/a", "tuple_type"),
        ("loss_weights", {"a/b": -1}, "loss_weights/a~1b", "greater_than_equal"),
        ("loss_weights", {"a": float("inf")}, "loss_weights/a", "finite_number"),
    ],
)
def test_fault_in_a_mapping_by_output_is_said_once_at_its_place(
    field: str, bad: Any, pointer: str, code: str
) -> None:
    assert _faults(_with_step(**FINETUNE, **{field: bad})) == [(f"/steps/0/{pointer}", code)]


def test_mappings_by_output_come_back_as_they_went() -> None:
    given = {"loss": {"a": "mean_squared_error"}, "metrics": {"a": ["accuracy"]}, "loss_weights": {"a": 2.0}}
    spec = CompressionSpec.model_validate(_with_step(**FINETUNE, **given))
    assert given.items() <= spec.model_dump(mode="json")["steps"][0].items()
    assert CompressionSpec.model_validate_json(spec.model_dump_json()) == spec


def test_plain_steps_say_nothing_of_loss_weights() -> None:
    assert "loss_weights" not in CompressionSpec.model_validate(_with_step(**FINETUNE)).model_dump_json()
