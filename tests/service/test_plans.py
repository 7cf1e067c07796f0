"""Plans: what a job would do, asked of the service."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import redis

from featherweight.plan import Plan
from service.services import Services
from tests.service.helpers import PROJECT, SPEC, Caller, assert_problem
from tests.service.models import dense_model, graph_archive, keras_archive, npz

ONE_SHOT = {
    "steps": [{"technique": "prune"}, {"technique": "quantize", "scheme": "dynamic_int8"}],
    "outputs": ["tflite"],
}


def data(samples: int = 500, width: int = 64) -> bytes:
    return npz(x=np.zeros((samples, width), np.float32), y=np.zeros(samples, np.int64))


def planned(caller: Caller, spec: dict[str, Any], **body: Any) -> Plan:
    body.setdefault("model_id", caller.model(dense_model()))
    answer = caller.post("/v1/plans", json={"spec": spec, **body})
    assert answer.status_code == 200, answer.text
    return Plan.model_validate(answer.json)


def test_plan_says_what_becomes_of_each_layer(caller: Caller, parts: Services) -> None:
    plan = planned(caller, ONE_SHOT)
    assert plan.feasible
    assert plan.model is not None
    assert (plan.model.parameters, plan.model.macs) == (64 * 32 + 32 + 32 * 4 + 4, 64 * 32 + 32 * 4)
    pruned, quantized = plan.steps
    assert [(layer.layer, layer.action, layer.target_sparsity) for layer in pruned.layers] == [
        ("hidden", "change", 0.8),
        ("out", "change", 0.8),
    ]
    assert [(layer.layer, layer.dtype) for layer in quantized.layers] == [
        ("hidden", "int8"),
        ("out", "float32"),
    ]
    assert "1,024 weights" in (quantized.layers[1].reason or "")
    before, after = plan.before[0], plan.after[0]
    assert after.gzip_bytes_estimate < before.gzip_bytes_estimate / 3
    assert parts.jobs.list(PROJECT)[0] == []
    assert parts.queue.hinted() == set()


def test_plan_counts_the_training(caller: Caller) -> None:
    plan = planned(caller, SPEC, dataset_id=caller.dataset(data()))
    assert plan.feasible, plan.problems
    assert plan.data is not None
    assert (plan.data.train, plan.data.validation, plan.data.test) == (360, 40, 100)
    cost = plan.steps[1].cost
    assert cost is not None
    macs = 64 * 32 + 32 * 4
    assert (cost.optimizer_steps, cost.backward_macs_estimate) == (3, 2 * 360 * macs)
    assert cost.forward_macs_estimate == 400 * macs
    assert plan.memory_peak_bytes_estimate is not None


def test_second_plan_reads_nothing(
    caller: Caller, parts: Services, redis_admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = {"model_id": caller.model(dense_model()), "dataset_id": caller.dataset(data())}
    first = planned(caller, SPEC, **ids)

    def refuse(*_: Any, **__: Any) -> str:
        raise AssertionError("the file was fetched again")

    monkeypatch.setattr(parts.planner._storage, "get_file", refuse)
    assert planned(caller, SPEC, **ids) == first
    kept = redis_admin.keys("fw:outline:*")
    assert len(kept) == 1
    assert 0 < parts.redis.ttl(kept[0]) <= 7 * 86_400


def test_what_a_job_would_refuse_is_in_the_plan(caller: Caller) -> None:
    spec = {"steps": [{"technique": "prune", "layers": {"include": ["hiden"]}}, *SPEC["steps"][1:]]}  # type: ignore[misc]
    plan = planned(caller, spec)
    assert not plan.feasible
    told = {(problem.code, problem.pointer) for problem in plan.problems}
    assert told == {
        ("dataset_required", "/spec/steps/1"),
        ("dataset_required", "/spec/steps/2"),
        ("layer_not_found", "/spec/steps/0/layers/include/0"),
    }
    hints = [problem.hint for problem in plan.problems if problem.code == "layer_not_found"]
    assert hints == ["did you mean hidden"]


def test_data_that_do_not_fit_the_model_are_a_problem(caller: Caller) -> None:
    plan = planned(caller, SPEC, dataset_id=caller.dataset(data(width=60)))
    assert [problem.code for problem in plan.problems] == ["shape_mismatch"]


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (keras_archive("{", {}), "bad_model"),
        (keras_archive('{"class_name": "Sequential"}', b"no hdf5"), "bad_model"),
        (keras_archive("[" * 100_000, {}), "bad_model"),
        (dense_model()[:-300], "bad_model"),
        (keras_archive({"class_name": "Sequential", "config": {"layers": []}}, {}), "unsupported_model"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 500, "bad_model"),
        (b"\x1c\0\0\0TFL3" + b"\xff" * 500, "bad_model"),
    ],
    ids=["json", "weights", "deep", "cut off", "no layers", "hdf5", "tflite"],
)
def test_damaged_model_is_a_problem_and_no_error(caller: Caller, model: bytes, code: str) -> None:
    plan = planned(caller, ONE_SHOT, model_id=caller.model(model))
    assert not plan.feasible
    assert code in {problem.code for problem in plan.problems}


def test_damaged_data_set_is_a_problem(caller: Caller) -> None:
    plan = planned(caller, SPEC, dataset_id=caller.dataset(data()[:-40]))
    assert [problem.code for problem in plan.problems] == ["bad_archive"]


def test_model_above_the_limit_is_not_planned(with_settings: Callable[..., Caller]) -> None:
    caller = with_settings(max_plan_bytes=1000)
    body = {"model_id": caller.model(dense_model()), "spec": ONE_SHOT}
    problem = assert_problem(caller.post("/v1/plans", json=body), "not_plannable")
    assert "up to 1000" in problem["detail"]


def test_data_set_above_the_limit_is_not_counted(with_settings: Callable[..., Caller]) -> None:
    caller = with_settings(max_plan_bytes=50_000)
    plan = planned(caller, SPEC, dataset_id=caller.dataset(data(2000)))
    assert plan.feasible
    assert plan.data is None
    assert "samples_not_counted" in {warning.code for warning in plan.warnings}
    assert plan.steps[1].cost is not None
    assert plan.steps[1].cost.optimizer_steps is None


def test_reading_that_takes_too_long_is_ended(with_settings: Callable[..., Caller]) -> None:
    caller = with_settings(plan_timeout_s=0.05)
    body = {"model_id": caller.model(dense_model()), "spec": ONE_SHOT}
    problem = assert_problem(caller.post("/v1/plans", json=body), "not_plannable")
    assert "within 0.05 s" in problem["detail"]


def test_nothing_is_left_in_the_scratch_folder(caller: Caller, parts: Services) -> None:
    planned(caller, ONE_SHOT)
    assert list(parts.settings.scratch_dir.glob("plan-*")) == []


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"spec": {"steps": []}}, {"/spec/steps"}),
        ({"model_id": "mdl_unknown"}, {"/model_id"}),
        ({"dataset_id": "ds_unknown"}, {"/dataset_id"}),
        ({"extra": 1}, {"/extra"}),
    ],
)
def test_what_is_not_valid_is_pointed_at(caller: Caller, change: dict[str, Any], pointers: set[str]) -> None:
    body = {"model_id": caller.model(), "spec": ONE_SHOT} | change
    assert_problem(caller.post("/v1/plans", json=body), "invalid_request", pointers=pointers)


def test_another_project_is_told_nothing(caller: Caller, stranger: Caller) -> None:
    body = {"model_id": caller.model(dense_model()), "spec": ONE_SHOT}
    assert_problem(stranger.post("/v1/plans", json=body), "invalid_request", pointers={"/model_id"})


def test_more_plans_than_may_be_made_at_once_are_put_off(
    caller: Caller, parts: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.plans._PATIENCE_S", 0.01)
    body = {"model_id": caller.model(dense_model()), "spec": ONE_SHOT}
    while parts.planner._free.acquire(blocking=False):
        pass
    problem = assert_problem(caller.post("/v1/plans", json=body), "overloaded")
    assert problem["retryable"]


def test_what_a_killed_process_left_is_swept(caller: Caller, parts: Services) -> None:

    left = parts.settings.scratch_dir / "plan-left"
    left.mkdir(parents=True)
    (left / "model.bin").write_bytes(b"x")
    os.utime(left, (0, 0))
    planned(caller, ONE_SHOT)
    assert not left.exists()


def test_saved_model_without_a_network_is_planned_as_a_graph(caller: Caller) -> None:
    model = caller.model(graph_archive())
    plan = planned(caller, {"steps": [{"technique": "quantize", "scheme": "float16"}]}, model_id=model)
    assert plan.feasible, plan.problems
    assert "taken_as_graph" in {warning.code for warning in plan.warnings}
    assert plan.model is not None
    assert (plan.model.format, plan.model.inputs, plan.model.outputs) == (
        "saved_model",
        [[None, 4]],
        [[None, 2]],
    )
    told = planned(caller, {**ONE_SHOT, "outputs": ["tflite", "keras"]}, model_id=model)
    assert [(problem.code, problem.pointer) for problem in told.problems] == [
        ("unsupported_technique", "/spec/steps/0/technique"),
        ("unsupported_output", "/spec/outputs/1"),
    ]
    assert all(problem.hint for problem in told.problems)


def test_graph_that_writes_files_is_a_problem_of_the_plan(with_settings: Callable[..., Caller]) -> None:
    caller = with_settings(max_gate_bytes=0)  # as a model too large to be judged when it comes
    plan = planned(caller, ONE_SHOT, model_id=caller.model(graph_archive("WriteFile")))
    (problem,) = plan.problems
    assert problem.code == "op_not_allowed"
    assert "WriteFile" in problem.detail
