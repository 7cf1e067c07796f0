from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from featherweight.events import (
    EVENT,
    LogEvent,
    ProgressEvent,
    ResumedEvent,
    StageEvent,
    StateEvent,
    WarningEvent,
)
from featherweight.resources import Model, Page, Technique, Upload, UploadRequest

UPLOAD: dict[str, Any] = {"kind": "model", "filename": "model.keras", "size": 1, "sha256": "a" * 64}


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "picture"},
        {"filename": ""},
        {"filename": "../model.keras"},
        {"filename": "a\\b"},
        {"filename": "a\nb"},
        {"filename": "x" * 256},
        {"size": 0},
        {"size": -1},
        {"size": 1.5},
        {"size": "1"},
        {"sha256": "A" * 64},
        {"sha256": "a" * 63},
        {"sha256": "g" * 64},
        {"extra": 1},
    ],
)
def test_upload_request_out_of_bounds_is_refused(fields: dict[str, Any]) -> None:
    assert UploadRequest.model_validate(UPLOAD).size == 1
    with pytest.raises(ValidationError):
        UploadRequest.model_validate({**UPLOAD, **fields})


def test_answers_ignore_what_they_do_not_know() -> None:
    upload = Upload.model_validate(
        {
            **UPLOAD,
            "id": "upl_1",
            "state": "open",
            "part_size": 5,
            "created_at": "2026-01-02T03:04:05Z",
            "expires_at": "2026-01-03T03:04:05Z",
            "mood": "good",
        }
    )
    assert upload.parts == []


def test_technique_shows_its_schema_under_that_name() -> None:
    fields: dict[str, Any] = {"technique": "prune", "title": "t", "summary": "s", "frameworks": []}
    fields |= {"outputs": [], "needs_data": "never", "schema": {"type": "object"}}
    technique = Technique.model_validate(fields)
    assert technique.model_dump(by_alias=True)["schema"] == {"type": "object"}


def test_page_holds_what_it_lists() -> None:
    model = {"id": "mdl_1", "filename": "m", "format": "hdf5", "framework": "tensorflow", "bytes": 1}
    model |= {"sha256": "a", "created_at": "2026-01-02T03:04:05Z"}
    page = Page[Model].model_validate({"data": [model], "has_more": False})
    assert page.data[0].id == "mdl_1"
    assert page.next_cursor is None


@pytest.mark.parametrize(
    "event",
    [
        StateEvent(state="running", attempt=1),
        StageEvent(stage="load", index=1, total=7),
        ResumedEvent(step=2, epoch=3),
        ProgressEvent(stage="step 1", fraction=0.5, metrics={"loss": 0.1}),
        LogEvent(message="hello"),
        WarningEvent(code="slower", message="it is"),
    ],
)
def test_event_comes_back_from_json_as_what_it_was(event: Any) -> None:
    assert EVENT.validate_json(event.model_dump_json()) == event
