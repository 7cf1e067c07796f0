"""Uploads in parts, resumed and completed against the real object storage."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis

from featherweight.resources import Upload, UploadRequest
from service import multipart
from service.idempotency import Answer
from service.services import Services, make_services
from tasks.identifiers import new_id
from tasks.settings import Settings
from tasks.storage import Storage, StorageUnavailable
from tasks.strays import Strays
from tasks.uploads import EXPIRING, Uploads
from tests.service.helpers import KERAS, NPZ, PROJECT, Caller, assert_problem, sha256

MIB = 1024 * 1024
PART = 5 * MIB
BIG = KERAS + os.urandom(2 * PART)


@pytest.fixture
def caller(with_settings: Callable[..., Caller]) -> Caller:
    """One whose uploads have small parts."""
    return with_settings(upload_part_bytes=PART)


def begin(caller: Caller, data: bytes = BIG, **changes: Any) -> Upload:
    body = {"kind": "model", "filename": "m.keras", "size": len(data), "sha256": sha256(data), **changes}
    answer = caller.post("/v1/uploads", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"/v1/uploads/{answer.json['id']}"
    return Upload.model_validate(answer.json)


def send(upload: Upload, data: bytes = BIG, numbers: set[int] | None = None) -> None:
    for part in upload.parts:
        if numbers is None or part.number in numbers:
            body = data[part.offset : part.offset + part.size]
            answer = httpx.put(part.url, content=body, headers=part.headers)
            assert answer.status_code == 200, answer.text


def in_parts(data: bytes = BIG, part_size: int = PART) -> dict[str, Any]:
    """What announces the digest of every part."""
    starts = range(0, len(data), part_size)
    return {"part_size": part_size, "part_sha256": [sha256(data[at : at + part_size]) for at in starts]}


def show(caller: Caller, upload: Upload) -> Upload:
    return Upload.model_validate(caller.get(f"/v1/uploads/{upload.id}").json)


def complete(caller: Caller, upload: Upload) -> Any:
    return caller.post(f"/v1/uploads/{upload.id}/complete")


def test_parts_become_a_model(caller: Caller, parts: Services, storage: Storage) -> None:
    upload = begin(caller)
    assert [(part.number, part.offset, part.size) for part in upload.parts] == [
        (1, 0, PART),
        (2, PART, PART),
        (3, 2 * PART, len(KERAS)),
    ]
    send(upload)
    answer = complete(caller, upload)
    assert answer.status_code == 200, answer.text
    assert answer.json["state"] == "completed"
    model = caller.get(f"/v1/models/{answer.json['resource_id']}").json
    assert (model["bytes"], model["sha256"], model["format"]) == (len(BIG), sha256(BIG), "keras_zip")
    stored = b"".join(storage.stream(parts.models.get(PROJECT, model["id"]).key))
    assert hashlib.sha256(stored).hexdigest() == sha256(BIG)


def test_parts_of_announced_digests_become_a_model(caller: Caller, parts: Services) -> None:
    # The caller cuts the file: the service's own size of parts is another one.
    upload = begin(caller, **in_parts(part_size=6 * MIB))
    assert [part.size for part in upload.parts] == [6 * MIB, len(BIG) - 6 * MIB]
    assert [list(part.headers) for part in upload.parts] == [["x-amz-checksum-sha256"]] * 2
    send(upload)
    resource_id = complete(caller, upload).json["resource_id"]
    assert caller.get(f"/v1/models/{resource_id}").json["sha256"] == sha256(BIG)
    assert not parts.redis.exists(f"fw:upload-parts:{PROJECT}:{upload.id}")


def test_other_bytes_than_announced_are_refused_by_the_storage(caller: Caller) -> None:
    upload = begin(caller, **in_parts())
    send(upload, numbers={1, 3})
    part = upload.parts[1]
    other = os.urandom(part.size)
    theirs = {"x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(other).digest()).decode()}
    refusals = [httpx.put(part.url, content=other, headers=headers) for headers in (part.headers, theirs, {})]
    assert [answer.status_code for answer in refusals] == [400, 403, 403]
    assert "BadDigest" in refusals[0].text
    answer = complete(caller, upload)
    assert_problem(answer, "upload_incomplete")
    assert answer.json["detail"].endswith(": 2")
    send(show(caller, upload))
    assert complete(caller, upload).status_code == 200


def test_a_part_that_arrived_is_not_replaced_by_other_bytes(caller: Caller) -> None:
    upload = begin(caller, **in_parts())
    send(upload)
    part = upload.parts[0]
    assert not httpx.put(part.url, content=b"\xff" * part.size, headers=part.headers).is_success
    assert complete(caller, upload).status_code == 200


def test_parts_announced_without_digests_need_no_headers(caller: Caller) -> None:
    upload = begin(caller)
    assert [part.headers for part in upload.parts] == [{}] * 3
    assert "x-amz-checksum" not in upload.parts[0].url


def test_no_url_is_signed_over_less_than_was_announced(caller: Caller, parts: Services) -> None:
    upload = begin(caller, **in_parts())
    send(upload)
    assert parts.redis.delete(f"fw:upload-parts:{PROJECT}:{upload.id}") == 1
    assert_problem(caller.get(f"/v1/uploads/{upload.id}"), "upload_expired")
    assert_problem(complete(caller, upload), "upload_expired")
    assert caller("DELETE", f"/v1/uploads/{upload.id}").status_code == 204


def test_digests_take_little_memory_and_end_with_the_upload(caller: Caller, parts: Services) -> None:
    upload = begin(caller, **in_parts())
    name = f"fw:upload-parts:{PROJECT}:{upload.id}"
    assert parts.redis.strlen(name) == 3 * 32
    assert 0 < parts.redis.ttl(name) <= 2 * parts.settings.upload_expiry_s
    assert caller("DELETE", f"/v1/uploads/{upload.id}").status_code == 204
    assert not parts.redis.exists(name)


DIGEST = "0" * 64


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"part_size": PART}, "/part_sha256"),
        ({"part_sha256": [DIGEST]}, "/part_size"),
        ({"part_size": PART, "part_sha256": [DIGEST]}, "/part_sha256"),
        ({"part_size": PART, "part_sha256": [DIGEST] * 3}, "/part_sha256"),
        ({"part_size": PART, "part_sha256": []}, "/part_sha256"),
        ({"size": 10**400, "part_size": PART, "part_sha256": [DIGEST]}, "/part_sha256"),
        ({"part_size": PART, "part_sha256": [DIGEST, "A" * 64]}, "/part_sha256/1"),
        ({"part_size": PART, "part_sha256": DIGEST}, "/part_sha256"),
        ({"part_size": PART - 1, "part_sha256": [DIGEST] * 2}, "/part_size"),
        ({"part_size": 5 * 1024 * MIB + 1, "part_sha256": [DIGEST]}, "/part_size"),
        ({"part_size": "5", "part_sha256": [DIGEST] * 2}, "/part_size"),
    ],
)
def test_digests_that_do_not_fit_the_file_are_refused(
    caller: Caller, changes: dict[str, Any], pointer: str
) -> None:
    body = {"kind": "model", "filename": "m.keras", "size": 2 * PART, "sha256": DIGEST, **changes}
    assert_problem(caller.post("/v1/uploads", json=body), "invalid_request", pointers={pointer})


def test_a_broken_upload_is_resumed(caller: Caller) -> None:
    upload = begin(caller)
    send(upload, numbers={1, 3})
    assert_problem(complete(caller, upload), "upload_incomplete")
    upload = show(caller, upload)
    assert [part.number for part in upload.parts] == [2]
    assert [(part.number, part.size) for part in upload.received] == [(1, PART), (3, len(KERAS))]
    send(upload)
    assert show(caller, upload).parts == []
    assert complete(caller, upload).status_code == 200


def test_completing_twice_is_completing_once(caller: Caller) -> None:
    upload = begin(caller)
    send(upload)
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(complete(caller, upload))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.json["resource_id"] for answer in answers}) == 1
    assert len(caller.get("/v1/models").json["data"]) == 1


def test_a_file_of_many_blocks_is_read_in_their_order(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart, "_BLOCK", 1_000_003)
    upload = begin(caller)
    send(upload)
    assert complete(caller, upload).status_code == 200


def test_a_dataset_comes_in_parts_too(caller: Caller) -> None:
    upload = begin(caller, NPZ, kind="dataset", filename="d.npz")
    send(upload, NPZ)
    resource_id = complete(caller, upload).json["resource_id"]
    assert caller.get(f"/v1/datasets/{resource_id}").json["sha256"] == sha256(NPZ)


@pytest.mark.parametrize(
    ("data", "changes", "code"),
    [
        (BIG, {"sha256": "0" * 64}, "sha256_mismatch"),
        (b"no model " * 1000, {}, "unknown_file_type"),
        (NPZ, {}, "unknown_file_type"),
    ],
)
def test_a_refused_upload_leaves_nothing(
    caller: Caller, storage: Storage, parts: Services, data: bytes, changes: dict[str, Any], code: str
) -> None:
    upload = begin(caller, data, **changes)
    send(upload, data)
    assert_problem(complete(caller, upload), code)
    assert not storage.exists(parts.uploads.get(PROJECT, upload.id).key)
    assert show(caller, upload).state == "aborted"
    assert caller.get("/v1/models").json["data"] == []
    assert_problem(complete(caller, upload), "upload_expired")


def test_a_part_of_another_size_is_not_taken(caller: Caller) -> None:
    upload = begin(caller)
    answer = httpx.put(upload.parts[0].url, content=BIG[: PART - 1])
    send(upload, numbers={2, 3})
    if answer.is_success:
        assert_problem(complete(caller, upload), "upload_incomplete")
    assert 1 in {part.number for part in show(caller, upload).parts}


def test_a_part_sent_again_replaces_the_first(caller: Caller) -> None:
    upload = begin(caller)
    send(upload, b"\xff" * len(BIG))
    send(upload)
    assert complete(caller, upload).status_code == 200


@pytest.mark.parametrize("how", [("POST", "/abort"), ("DELETE", "")])
def test_an_upload_can_be_given_up(caller: Caller, how: tuple[str, str]) -> None:
    method, suffix = how
    upload = begin(caller)
    send(upload, numbers={1})
    for _ in range(2):
        assert caller(method, f"/v1/uploads/{upload.id}{suffix}").status_code in (200, 204)
    assert show(caller, upload).state == "aborted"
    assert not httpx.put(upload.parts[1].url, content=BIG[PART : 2 * PART]).is_success
    assert_problem(complete(caller, upload), "upload_expired")


def test_a_completed_upload_cannot_be_given_up(caller: Caller) -> None:
    upload = begin(caller, KERAS)
    send(upload, KERAS)
    resource_id = complete(caller, upload).json["resource_id"]
    assert_problem(caller("DELETE", f"/v1/uploads/{upload.id}"), "upload_completed")
    assert caller.get(f"/v1/models/{resource_id}").status_code == 200


def test_an_expired_upload_is_gone(caller: Caller, parts: Services) -> None:
    upload = begin(caller)
    record = parts.uploads.get(PROJECT, upload.id)
    parts.uploads.put(PROJECT, record.model_copy(update={"expires_at": record.created_at}))
    parts.redis.zadd("fw:uploads-expiring", {f"{PROJECT}/{upload.id}": record.created_at.timestamp()})
    assert_problem(complete(caller, upload), "upload_expired")
    assert_problem(caller.get(f"/v1/uploads/{upload.id}"), "upload_expired")
    begin(caller)
    assert not httpx.put(upload.parts[0].url, content=BIG[:PART]).is_success


def test_an_upload_is_completed_though_an_earlier_try_died_half_way(caller: Caller, parts: Services) -> None:
    upload = begin(caller)
    send(upload)
    record = parts.uploads.get(PROJECT, upload.id)
    received = parts.storage.list_parts(record.key, record.s3_upload_id)
    parts.storage.complete_multipart(record.key, record.s3_upload_id, received)
    assert complete(caller, upload).json["state"] == "completed"


def test_giving_up_waits_for_a_completion_under_way(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = begin(caller, KERAS)
    send(upload, KERAS)
    reading, verified = threading.Event(), multipart._verified

    def slowly(*args: Any) -> str:
        reading.set()
        time.sleep(0.5)
        return verified(*args)

    monkeypatch.setattr(multipart, "_verified", slowly)
    completion = threading.Thread(target=complete, args=(caller, upload))
    completion.start()
    assert reading.wait(10)
    assert_problem(caller("DELETE", f"/v1/uploads/{upload.id}"), "upload_completed")
    completion.join()
    assert len(caller.get("/v1/models").json["data"]) == 1


def test_forgotten_uploads_are_cleared_away_by_later_ones(
    with_settings: Callable[..., Caller], parts: Services
) -> None:
    caller = with_settings(upload_part_bytes=PART, upload_expiry_s=1)
    forgotten = begin(caller)
    send(forgotten, numbers={1})
    time.sleep(1.1)
    begin(caller)
    record = parts.uploads.get(PROJECT, forgotten.id)
    assert record.state == "aborted"
    with pytest.raises(FileNotFoundError):
        parts.storage.list_parts(record.key, record.s3_upload_id)


@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        ({"size": 0}, {"/size"}),
        ({"size": "10"}, {"/size"}),
        ({"size": 1.5}, {"/size"}),
        ({"kind": "virus"}, {"/kind"}),
        ({"sha256": "A" * 64}, {"/sha256"}),
        ({"filename": "../x"}, {"/filename"}),
        ({"extra": 1}, {"/extra"}),
    ],
)
def test_a_request_that_is_not_valid_is_refused(
    caller: Caller, changes: dict[str, Any], pointers: set[str]
) -> None:
    body = {"kind": "model", "filename": "m.keras", "size": 10, "sha256": "0" * 64, **changes}
    assert_problem(caller.post("/v1/uploads", json=body), "invalid_request", pointers=pointers)


def test_a_file_over_the_limit_is_refused_before_it_is_sent(caller: Caller) -> None:
    body = {"kind": "model", "filename": "m.keras", "size": 5 * 10**9, "sha256": "0" * 64}
    assert_problem(caller.post("/v1/uploads", json=body), "payload_too_large", pointers={"/size"})


def test_a_huge_file_has_no_more_parts_than_s3_counts(settings: Settings, redis_client: redis.Redis) -> None:
    app = make_services(settings.model_copy(update={"max_dataset_bytes": 10**15}))
    size = 10_001 * settings.upload_part_bytes
    wanted = UploadRequest(kind="dataset", filename="d.npz", size=size, sha256="0" * 64)
    record = multipart.begin(app, PROJECT, "upl_" + "a" * 26, wanted)
    assert size / 10_000 <= record.part_size < size / 9_999


@pytest.fixture
def strays(parts: Services) -> Strays:
    return Strays(parts.settings.model_copy(update={"stray_upload_s": 0}), parts.redis, parts.storage)


def open_uploads(parts: Services) -> list[str]:
    """The storage's ids of those of this project."""
    return [each.upload_id for each in parts.storage.list_uploads(f"projects/{PROJECT}/")]


def _away(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ((Storage, "presign_part"), StorageUnavailable("away")),
        ((Answer, "of"), redis.ConnectionError("away")),
    ],
    ids=["not-shown", "answer-not-kept"],
)
def test_begun_again_after_a_lost_answer_is_the_same_upload(
    caller: Caller,
    parts: Services,
    strays: Strays,
    monkeypatch: pytest.MonkeyPatch,
    where: tuple[type, str],
    error: Exception,
) -> None:
    """The record is there, and its id never reached the caller: storage went away, or the process died."""
    strays.sweep()
    body = {"kind": "model", "filename": "m.keras", "size": len(BIG), "sha256": sha256(BIG), **in_parts()}
    key = {"Idempotency-Key": "once"}
    with monkeypatch.context() as patched:
        patched.setattr(*where, _away(error))
        assert caller.post("/v1/uploads", json=body, headers=key).status_code == 503
    begun = open_uploads(parts)
    assert len(begun) == 1
    # As when it died between the record and the note of when it expires.
    parts.redis.delete(EXPIRING)
    answer = caller.post("/v1/uploads", json=body, headers=key)
    assert answer.status_code == 201, answer.text
    upload = Upload.model_validate(answer.json)
    assert open_uploads(parts) == begun == [parts.uploads.get(PROJECT, upload.id).s3_upload_id]
    assert parts.redis.zcard(EXPIRING) == 1
    strays.sweep()
    send(upload)
    assert complete(caller, upload).status_code == 200
    assert open_uploads(parts) == []


@pytest.mark.parametrize("state", ["open", "aborted"])
def test_begun_again_after_its_time_is_an_upload_of_its_own(
    caller: Caller, parts: Services, strays: Strays, state: str
) -> None:
    strays.sweep()
    wanted = UploadRequest(kind="model", filename="m.keras", size=len(BIG), sha256=sha256(BIG))
    upload_id = new_id("upload")
    multipart.begin(parts, PROJECT, upload_id, wanted)
    first = parts.uploads.get(PROJECT, upload_id)
    if state == "aborted":
        multipart.abort(parts, PROJECT, upload_id)
    else:
        parts.begun.save(first.model_copy(update={"expires_at": first.created_at}))
        parts.redis.delete(EXPIRING)
    multipart.begin(parts, PROJECT, upload_id, wanted)
    again = parts.uploads.get(PROJECT, upload_id)
    assert (again.id, again.state) == (upload_id, "open")
    assert again.key != first.key
    assert open_uploads(parts) == [again.s3_upload_id]
    assert parts.accounts.usage(PROJECT).stored_bytes == len(BIG)


def test_once_the_record_is_there_storage_that_goes_away_does_not_keep_the_answer_back(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Storage, "list_parts", _away(StorageUnavailable("away")))
        upload = begin(caller)
    send(upload)
    assert complete(caller, upload).status_code == 200


def test_upload_whose_record_could_not_be_written_is_a_stray(
    caller: Caller, parts: Services, strays: Strays, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the death of the process between the storage's answer and the record."""
    strays.sweep()
    body = {"kind": "model", "filename": "m.keras", "size": len(BIG), "sha256": sha256(BIG)}
    with monkeypatch.context() as patched:
        patched.setattr(Uploads, "save", _away(redis.ConnectionError("away")))
        assert caller.post("/v1/uploads", json=body).status_code == 503
    assert len(open_uploads(parts)) == 1
    strays.sweep()
    assert open_uploads(parts) == []


def test_completed_upload_leaves_no_second_one_that_began_with_a_lost_answer(
    caller: Caller, parts: Services, strays: Strays
) -> None:
    upload = begin(caller)
    key = parts.uploads.get(PROJECT, upload.id).key
    parts.storage.create_multipart(key)
    send(upload)
    assert complete(caller, upload).status_code == 200
    assert parts.storage.abort_uploads(key) == 0
    # One that the storage comes to only now.
    parts.storage.create_multipart(key)
    strays.sweep()
    assert parts.storage.abort_uploads(key) == 0
    assert parts.storage.exists(key)
