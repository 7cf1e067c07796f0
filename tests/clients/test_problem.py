from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from featherweight.job import JobRequest
from featherweight.problem import CODES, FieldError, Problem, field_errors, problem


@pytest.mark.parametrize("code", CODES)
def test_every_code_makes_a_problem(code: str) -> None:
    made = problem(code, "so it is", stage="load")
    assert re.fullmatch(r"[a-z0-9_]+", code)
    assert made.type == f"/problems/{code}"
    assert 400 <= made.status < 600
    assert made.title
    assert Problem.model_validate_json(made.model_dump_json()) == made


def test_unknown_code_is_a_mistake_of_the_program() -> None:
    with pytest.raises(KeyError):
        problem("no_such_code", "so it is")


def test_problem_of_a_newer_service_is_understood() -> None:
    body = {"type": "/problems/new", "title": "t", "status": 499, "code": "new", "detail": "d", "extra": 1}
    assert Problem.model_validate(body).code == "new"


def test_pointers_lead_into_the_body_that_was_sent() -> None:
    body = {
        "model_id": "",
        "spec": {"steps": [{"technique": "prune", "schedule": {"type": "constant_sparsity", "x": 1}}]},
        "limits": {"max_run_s": 0},
        "metadata": {"a/b": 1},
    }
    with pytest.raises(ValidationError) as raised:
        JobRequest.model_validate(body)
    assert [fault.pointer for fault in field_errors(raised.value, body)] == [
        "/model_id",
        "/spec/steps/0/schedule/x",
        "/metadata/a~1b",
        "/limits/max_run_s",
    ]


def test_prefix_stands_before_every_pointer() -> None:
    with pytest.raises(ValidationError) as raised:
        FieldError.model_validate({})
    pointers = [fault.pointer for fault in field_errors(raised.value, {}, prefix=["jobs", 3])]
    assert pointers == ["/jobs/3/pointer", "/jobs/3/code", "/jobs/3/detail"]


def test_body_that_is_no_object_has_one_fault_at_the_root() -> None:
    with pytest.raises(ValidationError) as raised:
        JobRequest.model_validate([1])
    assert [fault.pointer for fault in field_errors(raised.value, [1])] == [""]


def test_missing_field_is_named_where_it_should_be() -> None:
    with pytest.raises(ValidationError) as raised:
        JobRequest.model_validate({"model_id": "m"})
    assert [(f.pointer, f.code) for f in field_errors(raised.value, {"model_id": "m"})] == [
        ("/spec", "missing")
    ]
