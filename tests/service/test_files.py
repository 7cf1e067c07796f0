"""Models and data sets sent as the body of one request."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from typing import Any

import pytest

from featherweight.resources import Dataset, Model
from service.services import Services
from tasks.storage import Storage
from tests.service.helpers import KERAS, NPZ, PROJECT, Caller, assert_problem, sha256, zip_of

OCTETS = "application/octet-stream"
HDF5 = b"\x89HDF\r\n\x1a\n" + b"\0" * 100
TFLITE = b"\x1c\0\0\0TFL3" + b"\0" * 100


def kept(storage: Storage) -> list[str]:
    return storage.list_keys(f"projects/{PROJECT}/")


@pytest.fixture
def nothing_kept(storage: Storage, parts: Services) -> Callable[[], bool]:
    """Whether neither objects nor records are there that were not there before."""
    before = kept(storage)

    def check() -> bool:
        records = parts.models.list(PROJECT)[0] or parts.datasets.list(PROJECT)[0]
        return kept(storage) == before and not records

    return check


@pytest.mark.parametrize(
    ("data", "format_"), [(KERAS, "keras_zip"), (HDF5, "hdf5"), (TFLITE, "tflite"), (zip_of("a/b"), "zip")]
)
def test_a_model_is_stored_and_described(
    caller: Caller, parts: Services, storage: Storage, data: bytes, format_: str
) -> None:
    answer = caller.post("/v1/models?filename=m%20%C3%BC.keras", data=data, content_type=OCTETS)
    assert answer.status_code == 201
    model = Model.model_validate(answer.json)
    assert (model.filename, model.format, model.framework) == ("m ü.keras", format_, "tensorflow")
    assert (model.bytes, model.sha256) == (len(data), sha256(data))
    assert set(answer.json) == set(Model.model_fields)
    assert answer.headers["Location"] == f"/v1/models/{model.id}"
    assert caller.get(answer.headers["Location"]).json == answer.json
    record = parts.models.get(PROJECT, model.id)
    assert storage.read(record.key) == data
    assert storage.get_json(f"projects/{PROJECT}/models/{model.id}/model.json")["sha256"] == model.sha256


def test_a_dataset_is_stored_and_described(caller: Caller) -> None:
    answer = caller.post("/v1/datasets", data=NPZ, content_type=OCTETS)
    assert answer.status_code == 201
    dataset = Dataset.model_validate(answer.json)
    assert (dataset.filename, dataset.format, dataset.bytes) == ("dataset", "npz", len(NPZ))
    assert caller.get(f"/v1/datasets/{dataset.id}").json == answer.json


def tar_head() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("dog/1.png"))
    return stream.getvalue()


RECORD = bytes.fromhex("0500000000000000eab2043e") + b"12345" + bytes(4)  # a length and its masked checksum


@pytest.mark.parametrize(
    ("data", "format_"),
    [
        (b"a,b,label\n1,2,cat\n", "csv"),
        (b"PAR1" + bytes(100), "parquet"),
        (zip_of("dog/1.png"), "zip"),
        (tar_head(), "tar"),
        (gzip.compress(tar_head()), "tar_gz"),
        (RECORD, "tfrecord"),
        (gzip.compress(RECORD), "tfrecord_gz"),
    ],
)
def test_datasets_of_every_format_are_known_by_their_first_bytes(
    caller: Caller, data: bytes, format_: str
) -> None:
    answer = caller.post("/v1/datasets?filename=d.npz", data=data, content_type=OCTETS)
    assert answer.status_code == 201
    assert Dataset.model_validate(answer.json).format == format_
    if format_ not in ("zip", "tar", "tar_gz"):  # which a SavedModel may be in
        assert_problem(caller.post("/v1/models", data=data, content_type=OCTETS), "unknown_file_type")


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/v1/models", b"hello, world " * 100),
        ("/v1/models", b"P"),
        ("/v1/models", KERAS[:3]),
        ("/v1/models", NPZ),
        ("/v1/datasets", KERAS),
        ("/v1/datasets", HDF5),
        ("/v1/datasets", TFLITE),
        ("/v1/datasets", b"\x93NUMPY" + b"\0" * 100),
    ],
)
def test_a_file_of_another_type_is_refused(
    caller: Caller, nothing_kept: Callable[[], bool], path: str, data: bytes
) -> None:
    assert_problem(caller.post(path, data=data, content_type=OCTETS), "unknown_file_type")
    assert nothing_kept()


def test_the_name_does_not_make_the_type(caller: Caller) -> None:
    answer = caller.post("/v1/models?filename=m.keras", data=b"#!/bin/sh\n", content_type=OCTETS)
    assert_problem(answer, "unknown_file_type")


def test_an_empty_body_is_refused(caller: Caller, nothing_kept: Callable[[], bool]) -> None:
    assert_problem(caller.post("/v1/models", data=b"", content_type=OCTETS), "bad_request")
    assert nothing_kept()


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data; boundary=x", "application/json", "application/x-www-form-urlencoded", "text/csv"],
)
def test_what_is_not_the_file_itself_is_refused(caller: Caller, content_type: str) -> None:
    answer = caller.post("/v1/models", data=KERAS, content_type=content_type)
    assert "curl" in assert_problem(answer, "unsupported_media_type")["hint"]


def test_a_compressed_body_is_refused(caller: Caller) -> None:
    answer = caller.post("/v1/models", data=KERAS, headers={"Content-Encoding": "gzip"})
    assert_problem(answer, "unsupported_media_type")


@pytest.mark.parametrize(
    "name", ["", "a/b", "..%2Fb", "a%5Cb", "a%00b", "a%0Ab", "x" * 256, "%7F"], ids=lambda name: name[:8]
)
def test_a_name_that_is_none_is_refused(caller: Caller, name: str) -> None:
    answer = caller.post(f"/v1/models?filename={name}", data=KERAS, content_type=OCTETS)
    assert_problem(answer, "invalid_request")


def digest_field(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def announced(data: bytes) -> list[dict[str, Any]]:
    return [
        {"query_string": {"sha256": sha256(data)}},
        {"query_string": {"sha256": sha256(data).upper()}},
        {"headers": {"Content-Digest": digest_field(data)}},
        {"headers": {"Repr-Digest": f"sha-512=:AAAA:, {digest_field(data)}"}},
    ]


@pytest.mark.parametrize("how", range(4))
def test_the_announced_sha256_is_checked(caller: Caller, nothing_kept: Callable[[], bool], how: int) -> None:
    wrong = caller.post("/v1/models", data=KERAS, content_type=OCTETS, **announced(KERAS + b"x")[how])
    assert_problem(wrong, "sha256_mismatch")
    assert nothing_kept()
    right = caller.post("/v1/models", data=KERAS, content_type=OCTETS, **announced(KERAS)[how])
    assert right.status_code == 201


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("sha256=abc", {}),
        ("sha256=", {}),
        ("", {"Content-Digest": "sha-256=:AAAA:"}),
        (f"sha256={'0' * 64}", {"Content-Digest": digest_field(KERAS)}),
    ],
)
def test_what_is_no_sha256_is_refused(caller: Caller, query: str, headers: dict[str, str]) -> None:
    answer = caller.post(f"/v1/models?{query}", data=KERAS, content_type=OCTETS, headers=headers)
    assert_problem(answer, "invalid_request")


def test_a_length_over_the_limit_is_refused_before_anything_is_read(caller: Caller) -> None:
    class Untouchable(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise AssertionError("the body was read")

    lie = {"CONTENT_LENGTH": str(5 * 10**9), "wsgi.input": Untouchable()}
    answer = caller.post("/v1/datasets", environ_overrides=lie, content_type=OCTETS)
    assert_problem(answer, "payload_too_large")


def test_a_body_that_goes_on_is_refused(
    with_settings: Callable[..., Caller], nothing_kept: Callable[[], bool]
) -> None:
    caller = with_settings(max_model_bytes=len(KERAS) + 10)
    endless = {"wsgi.input_terminated": True, "wsgi.input": io.BytesIO(KERAS + b"\0" * 1000)}
    answer = caller.post("/v1/models", environ_overrides=endless, content_type=OCTETS)
    assert_problem(answer, "payload_too_large")
    assert nothing_kept()
    assert caller.post("/v1/models", data=KERAS + b"\0" * 10, content_type=OCTETS).status_code == 201
    answer = caller.post("/v1/models", data=KERAS + b"\0" * 11, content_type=OCTETS)
    assert_problem(answer, "payload_too_large")


@pytest.mark.parametrize("parts_sent", [0, 2])
def test_a_body_that_breaks_off_leaves_nothing(
    caller: Caller, nothing_kept: Callable[[], bool], settings: Any, parts_sent: int
) -> None:
    data = KERAS + b"\0" * (parts_sent * settings.upload_part_bytes)
    cut = {"CONTENT_LENGTH": str(len(data) + 1), "wsgi.input": io.BytesIO(data)}
    answer = caller.post("/v1/models", environ_overrides=cut, content_type=OCTETS)
    assert_problem(answer, "size_mismatch")
    assert nothing_kept()


@pytest.mark.parametrize("length", ["-1", "abc", "1e3"])
def test_a_length_that_is_none_is_refused(caller: Caller, length: str) -> None:
    answer = caller.post("/v1/models", environ_overrides={"CONTENT_LENGTH": length})
    assert_problem(answer, "bad_request")


def test_files_are_listed_page_by_page_newest_first(caller: Caller) -> None:
    ids = [caller.model() for _ in range(5)]
    first = caller.get("/v1/models?limit=2").json
    assert (first["object"], first["has_more"]) == ("list", True)
    second = caller.get(f"/v1/models?limit=2&cursor={first['next_cursor']}").json
    third = caller.get(f"/v1/models?limit=2&cursor={second['next_cursor']}").json
    found = [model["id"] for page in (first, second, third) for model in page["data"]]
    assert found == ids[::-1]
    assert (third["has_more"], third["next_cursor"]) == (False, None)


def test_a_removed_file_is_gone(caller: Caller, nothing_kept: Callable[[], bool]) -> None:
    for path in (f"/v1/models/{caller.model()}", f"/v1/datasets/{caller.dataset()}"):
        assert caller("DELETE", path).status_code == 204
        assert_problem(caller.get(path), "not_found")
        assert_problem(caller("DELETE", path), "not_found")
    assert nothing_kept()
