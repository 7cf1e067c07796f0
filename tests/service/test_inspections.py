"""Inspections: what is in a model and what can be done to it, asked of the service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from featherweight.inspection import InspectedTechnique, Inspection
from featherweight.problem import CODES
from service.services import Services
from tests.service.helpers import Caller, assert_problem
from tests.service.models import dense_model, keras_archive


def inspected(caller: Caller, model: bytes) -> Inspection:
    answer = caller.post(f"/v1/models/{caller.model(model)}/inspection")
    assert answer.status_code == 200, answer.text
    return Inspection.model_validate(answer.json)


def technique(found: Inspection, name: str) -> InspectedTechnique:
    return next(each for each in found.techniques if each.technique == name)


def test_inspection_tells_layers_totals_and_what_can_be_done(caller: Caller) -> None:
    found = inspected(caller, dense_model())
    assert (found.format, found.written_by, found.usable) == ("keras_zip", "Keras 2.21.0", True)
    assert found.model_id is not None
    assert found.sha256 is not None
    assert [tensor.shape for tensor in (*found.inputs, *found.outputs)] == [[None, 64], [None, 4]]
    hidden, out = (layer for layer in found.layers if layer.parameters)
    assert (hidden.layer, hidden.kind, hidden.output_shape) == ("hidden", "Dense", [None, 32])
    assert (hidden.parameters, hidden.macs, hidden.weight_bytes) == (
        64 * 32 + 32,
        64 * 32,
        4 * (64 * 32 + 32),
    )
    assert hidden.dtype == "float32"
    assert out.macs == 32 * 4
    assert found.totals is not None
    assert found.totals.macs == 64 * 32 + 32 * 4
    assert found.totals.activation_bytes_peak_estimate == 4 * (64 + 32)
    channels = technique(found, "prune_channels")
    assert channels.possible
    assert [(each.layer, each.code) for each in channels.left_alone] == [("out", "layer_not_supported")]
    assert "output of the model" in channels.left_alone[0].detail
    assert {each.output for each in found.formats if each.possible} == {
        *("tflite", "keras", "saved_model", "c_array", "onnx")
    }


def test_second_inspection_is_the_same_and_reads_nothing(
    caller: Caller, parts: Services, redis_admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = inspected(caller, dense_model())

    def refuse(*_: Any, **__: Any) -> str:
        raise AssertionError("the file was read again")

    monkeypatch.setattr(parts.planner._storage, "get_file", refuse)
    monkeypatch.setattr(parts.planner, "_run", refuse)
    again = caller.post(f"/v1/models/{first.model_id}/inspection")
    assert Inspection.model_validate(again.json) == first
    kept = redis_admin.keys("fw:inspection:*")
    assert len(kept) == 1
    assert 0 < parts.redis.ttl(kept[0]) <= 7 * 86_400
    assert parts.queue.hinted() == set()


def test_what_a_plan_read_is_not_read_again(
    caller: Caller, parts: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_id = caller.model(dense_model())
    body = {"model_id": model_id, "spec": {"steps": [{"technique": "prune"}]}}
    assert caller.post("/v1/plans", json=body).status_code == 200
    monkeypatch.setattr(parts.planner._storage, "get_file", None)
    assert caller.post(f"/v1/models/{model_id}/inspection").status_code == 200


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (keras_archive("{", {}), "bad_model"),
        (dense_model()[:-300], "bad_model"),
        (keras_archive({"class_name": "Sequential", "config": {"layers": []}}, {}), "unsupported_model"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 500, "bad_model"),
        (b"\x1c\0\0\0TFL3" + b"\xff" * 500, "bad_model"),
    ],
    ids=["json", "cut off", "no layers", "hdf5", "tflite"],
)
def test_damaged_model_is_told_and_no_error(caller: Caller, model: bytes, code: str) -> None:
    found = inspected(caller, model)
    assert not found.usable
    assert found.problem is not None
    assert found.problem.code == code
    assert found.problem.code in CODES
    assert found.problem.hint
    assert not any(each.possible for each in (*found.techniques, *found.formats))
    assert {each.why and each.why.code for each in found.techniques} == {code}


def test_layer_that_is_not_keras_own_is_named_and_the_rest_told(with_settings: Callable[..., Caller]) -> None:
    caller = with_settings(max_gate_bytes=0)  # as a model too large to be judged when it comes
    swirl = {"class_name": "Mine>Swirl", "config": {"name": "swirl"}}
    given = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "given"}}
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": [given, swirl]}}
    found = inspected(caller, keras_archive(config, {}))
    assert found.problem is not None
    assert (found.problem.code, found.problem.layer) == ("layer_not_allowed", "swirl")
    assert [layer.layer for layer in found.layers] == ["swirl"]


def test_model_above_the_limit_is_not_inspected(with_settings: Callable[..., Caller]) -> None:
    caller = with_settings(max_plan_bytes=1000)
    answer = caller.post(f"/v1/models/{caller.model(dense_model())}/inspection")
    assert "up to 1000" in assert_problem(answer, "not_plannable")["detail"]


def test_another_project_is_told_nothing(caller: Caller, stranger: Caller) -> None:
    model_id = caller.model(dense_model())
    assert_problem(stranger.post(f"/v1/models/{model_id}/inspection"), "not_found")


def test_busy_planner_puts_inspections_off(
    caller: Caller, parts: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.plans._PATIENCE_S", 0.01)
    model_id = caller.model(dense_model())
    while parts.planner._free.acquire(blocking=False):
        pass
    assert assert_problem(caller.post(f"/v1/models/{model_id}/inspection"), "overloaded")["retryable"]
