from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from featherweight import errors
from featherweight.job import Job, JobState
from featherweight.problem import CODES, FieldError, problem


@pytest.mark.parametrize("code", CODES)
def test_every_problem_code_has_a_class_of_its_own_status(code: str) -> None:
    known = CODES[code]
    error = errors.api_error(problem(code, "so it is"), status=known.status)
    assert type(error) is errors.STATUS_ERRORS[known.status]
    assert error.code == code
    assert code in str(error)


@pytest.mark.parametrize(("status", "kind"), [(418, errors.BadRequest), (507, errors.InternalError)])
def test_unlisted_status_falls_back_by_its_hundred(status: int, kind: type) -> None:
    assert type(errors.api_error(problem("bad_request", "so it is"), status=status)) is kind


def test_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    drawn = re.findall(r"(?:├──|└──) (\w+)", errors.__doc__ or "")
    classes = [name for name in errors.__all__ if isinstance(getattr(errors, name), type)]
    assert sorted([*drawn, "FeatherweightError"]) == sorted(classes)


def test_message_holds_pointers_hint_and_request_id() -> None:
    fault = FieldError(pointer="/spec/seed", code="int_type", detail="Input should be a valid integer")
    shown = problem("invalid_request", "One value", hint="look there", errors=[fault], request_id="req_1")
    assert str(errors.api_error(shown, status=422)).splitlines() == [
        "One value (422 invalid_request)",
        "  /spec/seed: Input should be a valid integer",
        "  hint: look there",
        "  request id: req_1",
    ]


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("failed", errors.JobFailed),
        ("cancelled", errors.JobCancelled),
        ("expired", errors.JobExpired),
        ("melted", errors.JobError),
    ],
)
def test_done_job_becomes_the_error_of_its_state(state: str, kind: type) -> None:
    error = errors.job_error(_job(state))
    assert type(error) is kind
    assert state in str(error)


def test_job_that_succeeded_is_no_error() -> None:
    assert errors.job_error(_job(JobState.SUCCEEDED)) is None


def test_failed_job_says_stage_layer_and_hint() -> None:
    why = problem(
        "layer_not_found", "No layer matches 'dens*'", stage="load", layer="dens*", hint="see layers"
    )
    error = errors.job_error(_job("failed").model_copy(update={"error": why}))
    assert error is not None
    assert error.problem == why
    assert "No layer matches 'dens*' (layer_not_found)" in str(error)
    assert "stage: load" in str(error)
    assert "hint: see layers" in str(error)


def _job(state: str) -> Job:
    return Job(id="job_1", model_id="mdl_1", spec={}, state=state, done=True, created_at=datetime.now(UTC))
