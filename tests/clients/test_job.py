from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from featherweight.job import (
    TRANSITIONS,
    IllegalTransition,
    Job,
    JobLimits,
    JobRequest,
    JobState,
    check_transition,
)
from tests.clients.conftest import SPEC

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_every_state_has_its_transitions_and_every_job_can_end() -> None:
    assert set(TRANSITIONS) == set(JobState)
    for state in JobState:
        assert state.done or any(after.done for after in TRANSITIONS[state])


def test_nothing_leads_out_of_a_final_state() -> None:
    final = {state for state in JobState if state.done}
    assert final == {"succeeded", "failed", "cancelled", "expired"}
    for old in final:
        for new in JobState:
            with pytest.raises(IllegalTransition, match=f"{old} cannot become {new}"):
                check_transition(old, new)


def test_only_what_is_being_finalized_succeeds() -> None:
    assert [old for old, new in TRANSITIONS.items() if JobState.SUCCEEDED in new] == ["finalizing"]
    check_transition(JobState.QUEUED, JobState.RUNNING)
    check_transition(JobState.RUNNING, JobState.QUEUED)


def test_job_of_a_newer_service_is_understood() -> None:
    job = Job.model_validate(
        {
            "id": "job_1",
            "model_id": "mdl_1",
            "spec": {"version": 2, "steps": "all new"},
            "state": "dreaming",
            "verdict": "lovely",
            "created_at": "2026-01-02T03:04:05Z",
            "mood": "good",
            "progress": {"fraction": 0.5, "phase": "moon"},
            "artifacts": [{"name": "a", "format": "f", "bytes": 1, "sha256": "0", "extra": 1}],
        }
    )
    assert job.state == "dreaming"
    assert not isinstance(job.state, JobState)
    assert job.created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_known_state_is_the_enum_and_comes_back_as_its_word() -> None:
    job = Job(id="job_1", model_id="mdl_1", spec={}, state="running", created_at=NOW)
    assert job.state is JobState.RUNNING
    assert job.model_dump(mode="json")["state"] == "running"
    assert Job.model_validate_json(job.model_dump_json()) == job


def _request(**fields: Any) -> JobRequest:
    return JobRequest.model_validate({"model_id": "mdl_1", "spec": SPEC, **fields})


def test_request_has_defaults_for_all_but_model_and_spec() -> None:
    request = _request()
    assert request.limits == JobLimits(max_queue_s=86_400, max_run_s=14_400)
    assert request.metadata == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"model_id": ""},
        {"model_id": "x" * 65},
        {"model_id": None},
        {"name": "x" * 201},
        {"metadata": {str(number): "" for number in range(17)}},
        {"metadata": {"": "x"}},
        {"metadata": {"k" * 65: "x"}},
        {"metadata": {"k": "x" * 513}},
        {"metadata": {"k": 1}},
        {"limits": {"max_run_s": 0}},
        {"limits": {"max_run_s": 7 * 86_400 + 1}},
        {"limits": {"max_run_s": "60"}},
        {"limits": {"max_queue_s": 30 * 86_400 + 1}},
        {"limits": {"max_run": 60}},
        {"priority": 1},
    ],
)
def test_request_out_of_bounds_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _request(**fields)
