"""``/v1/inbox``: what the API, the client and the command show and make of it."""

from __future__ import annotations

import pytest

from featherweight.resources import Import, InboxObject, Model, Page
from service.services import Services
from tasks import keys
from tasks.identifiers import new_id
from tests.service.helpers import KERAS, NPZ, PROJECT, Caller, assert_problem, sha256


@pytest.fixture
def folder(parts: Services) -> str:
    """A folder of this test alone, with three objects in it."""
    folder = new_id("key")
    for name, data in (("a.keras", KERAS), ("b/ü.npz", NPZ), ("c.txt", b"no model")):
        parts.storage.put_bytes(f"{keys.inbox_prefix(PROJECT)}{folder}/{name}", data)
    return folder


def test_a_page_at_a_time(caller: Caller, stranger: Caller, folder: str) -> None:
    names, cursor = [], ""
    for _ in range(3):
        answer = caller.get(f"/v1/inbox?prefix={folder}/&limit=1&cursor={cursor}")
        found = Page[InboxObject].model_validate(answer.json)
        names += [item.name.removeprefix(f"{folder}/") for item in found.data]
        cursor = found.next_cursor or ""
    assert names == ["a.keras", "b/ü.npz", "c.txt"]
    assert (found.has_more, cursor) == (False, "")
    assert stranger.get(f"/v1/inbox?prefix={folder}/").json["data"] == []


def test_a_longer_name_than_other_cursors_hold(caller: Caller, parts: Services, folder: str) -> None:
    for number in (1, 2):
        name = f"{folder}/{'ü' * 100}/{'ü' * 100}/{number}"
        parts.storage.put_bytes(keys.inbox_prefix(PROJECT) + name, b"x")
    first = caller.get(f"/v1/inbox?prefix={folder}/ü&limit=1").json
    assert len(first["next_cursor"]) > 200
    second = caller.get(f"/v1/inbox?prefix={folder}/ü&limit=1&cursor={first['next_cursor']}").json
    assert [item["name"][-1] for item in first["data"] + second["data"]] == ["1", "2"]


@pytest.mark.parametrize("cursor", ["!", "MS4", "Mi5h", "MS4v", "_w", "x" * 1300])
def test_cursors_of_other_lists_are_refused(caller: Caller, cursor: str) -> None:
    answer = caller.get(f"/v1/inbox?cursor={cursor}")
    assert answer.status_code in (400, 422), answer.text


def test_prefixes_out_of_the_inbox_are_refused(caller: Caller) -> None:
    assert_problem(caller.get("/v1/inbox?prefix=../other/"), "invalid_request", pointers={"/prefix"})


def test_an_object_becomes_a_model_like_one_that_was_sent(
    caller: Caller, parts: Services, folder: str
) -> None:
    body = {"name": f"{folder}/a.keras", "kind": "model"}
    answer = caller.post("/v1/inbox/adopt", json=body, headers={"Idempotency-Key": folder})
    assert answer.status_code == 201, answer.text
    made = Import.model_validate(answer.json)
    assert (made.kind, made.filename, made.bytes) == ("model", "a.keras", len(KERAS))
    model = Model.model_validate(caller.get(answer.headers["Location"]).json)
    assert (model.id, model.sha256) == (made.resource_id, sha256(KERAS))
    again = caller.post("/v1/inbox/adopt", json=body)
    assert again.json["resource_id"] == made.resource_id
    replayed = caller.post("/v1/inbox/adopt", json=body, headers={"Idempotency-Key": folder})
    assert replayed.headers["Idempotency-Replayed"] == "true"
    assert caller.post("/v1/jobs", json={"model_id": model.id, "spec": {"steps": []}}).status_code == 422


def test_what_is_refused_says_why(caller: Caller, stranger: Caller, folder: str) -> None:
    def adopted(name: str, who: Caller = caller) -> object:
        return who.post("/v1/inbox/adopt", json={"name": name, "kind": "model"})

    assert_problem(adopted(f"{folder}/none"), "object_not_found", pointers={"/name"})
    assert_problem(adopted(f"{folder}/a.keras", stranger), "object_not_found")
    assert_problem(adopted("../other/a.keras"), "invalid_request", pointers={"/name"})
    assert_problem(adopted(f"{folder}/c.txt"), "unknown_file_type")
    assert_problem(caller.post("/v1/inbox/adopt", json={"name": "a"}), "invalid_request", pointers={"/kind"})
