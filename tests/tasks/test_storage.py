"""The verbs of storage on a real S3 server."""

from __future__ import annotations

import hashlib
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from featherweight.resources import ReceivedPart
from tasks.identifiers import new_id
from tasks.settings import Settings
from tasks.storage import Storage, StorageUnavailable, TooLarge, part_headers

MIB = 1024 * 1024


@pytest.fixture
def key() -> str:
    return f"tests/{new_id('model')}/file.bin"


def chunks(count: int, size: int = MIB) -> Iterator[bytes]:
    for number in range(count):
        yield bytes([number % 251]) * size


def digest_of(parts: Iterator[bytes]) -> str:
    sha256 = hashlib.sha256()
    for part in parts:
        sha256.update(part)
    return sha256.hexdigest()


def test_storage_says_that_it_is_ready(storage: Storage) -> None:
    storage.ready()


def test_missing_object_is_file_not_found(storage: Storage, key: str, tmp_path: Path) -> None:
    assert not storage.exists(key)
    for call in (storage.read, storage.size, storage.digest, storage.get_json):
        with pytest.raises(FileNotFoundError):
            call(key)
    with pytest.raises(FileNotFoundError):
        storage.get_file(key, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
    storage.delete(key)


def test_conditional_put_refuses_a_key_that_is_taken(storage: Storage, key: str) -> None:
    storage.put_json(key, {"first": "ä"}, if_none_match=True)
    with pytest.raises(FileExistsError):
        storage.put_json(key, {"second": 2}, if_none_match=True)
    assert storage.get_json(key) == {"first": "ä"}


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 33])
def test_stream_is_stored_whole_whatever_its_length(storage: Storage, key: str, count: int) -> None:
    size, sha256 = storage.put_stream(chunks(count), key)
    assert (size, sha256) == (count * MIB, digest_of(chunks(count)))
    assert storage.digest(key) == (size, sha256)


def test_stream_is_stored_in_bounded_memory(storage: Storage, key: str) -> None:
    storage.ready()
    tracemalloc.start()
    try:
        storage.put_stream(chunks(200), key)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert storage.size(key) == 200 * MIB
    # A part of 16 MiB in pieces and the same joined, and change.
    assert peak < 40 * MIB


@pytest.mark.parametrize("count", [3, 40])
def test_stream_that_is_too_large_leaves_nothing(storage: Storage, key: str, count: int) -> None:
    with pytest.raises(TooLarge):
        storage.put_stream(chunks(count), key, max_bytes=count * MIB - 1)
    assert not storage.exists(key)
    assert uploads_in_flight(storage, key) == []
    assert storage.put_stream(chunks(count), key, max_bytes=count * MIB)[0] == count * MIB


@pytest.mark.parametrize("before", [1, 20])
def test_stream_that_breaks_leaves_nothing(storage: Storage, key: str, before: int) -> None:
    def breaking() -> Iterator[bytes]:
        yield from chunks(before)
        raise ConnectionResetError("the caller went away")

    with pytest.raises(ConnectionResetError):
        storage.put_stream(breaking(), key)
    assert not storage.exists(key)
    assert uploads_in_flight(storage, key) == []


def uploads_in_flight(storage: Storage, key: str) -> list[str]:
    answer = storage._client.list_multipart_uploads(Bucket=storage._bucket, Prefix=key)
    return [upload["UploadId"] for upload in answer.get("Uploads", [])]


def test_file_goes_out_and_comes_back(storage: Storage, key: str, tmp_path: Path) -> None:
    whole = b"".join(chunks(3))
    size, sha256 = storage.put_stream(chunks(3), key)
    assert storage.get_file(key, tmp_path / "back") == sha256
    assert (tmp_path / "back").stat().st_size == size
    assert b"".join(storage.stream(key)) == (tmp_path / "back").read_bytes() == whole


def test_download_that_is_stopped_leaves_no_file(storage: Storage, key: str, tmp_path: Path) -> None:
    storage.put_stream(chunks(3), key)

    def check() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        storage.get_file(key, tmp_path / "file", check=check)
    assert list(tmp_path.iterdir()) == []


def test_ranges_are_read(storage: Storage, key: str) -> None:
    storage.put_bytes(key, b"0123456789")
    assert storage.read(key, start=2, length=3) == b"234"
    assert storage.read(key, start=8, length=9) == b"89"
    assert storage.read(key, start=8) == b"89"
    assert storage.read(key, start=10) == b""
    assert storage.read(key, length=0) == b""


def test_empty_object_is_read(storage: Storage, key: str) -> None:
    storage.put_bytes(key, b"")
    assert storage.read(key) == b""
    assert storage.size(key) == 0


def test_upload_in_parts_by_presigned_urls(storage: Storage, key: str) -> None:
    upload_id = storage.create_multipart(key)
    parts = [b"a" * 5 * MIB, b"b" * 7]
    for number, data in enumerate(parts, start=1):
        url = storage.presign_part(key, upload_id, number, len(data), 60)
        assert httpx.put(url, content=data).status_code == 200
    received = storage.list_parts(key, upload_id)
    assert [(part.number, part.size) for part in received] == [(1, 5 * MIB), (2, 7)]
    storage.complete_multipart(key, upload_id, received)
    assert storage.size(key) == 5 * MIB + 7
    with pytest.raises(FileNotFoundError):
        storage.list_parts(key, upload_id)
    storage.abort_multipart(key, upload_id)
    assert storage.size(key) == 5 * MIB + 7


def test_presigned_part_takes_no_other_size_and_no_other_part(storage: Storage, key: str) -> None:
    upload_id = storage.create_multipart(key)
    url = storage.presign_part(key, upload_id, 1, 4, 60)
    assert httpx.put(url, content=b"12345").status_code == 403
    assert httpx.put(url.replace("partNumber=1", "partNumber=2"), content=b"1234").status_code == 403
    assert storage.list_parts(key, upload_id) == []


def test_aborted_upload_is_gone(storage: Storage, key: str) -> None:
    upload_id = storage.create_multipart(key)
    storage.abort_multipart(key, upload_id)
    with pytest.raises((FileNotFoundError, StorageUnavailable)):
        storage.complete_multipart(key, upload_id, [ReceivedPart(number=1, size=1, etag='"0"')])
    assert not storage.exists(key)


def test_presigned_part_signs_its_length_and_ends_soon(
    storage: Storage, settings: Settings, key: str
) -> None:
    upload_id = storage.create_multipart(key)
    url = storage.presign_part(key, upload_id, 2, 4, settings.presign_expiry_s)
    query = dict(parse_qsl(urlsplit(url).query))
    assert set(query["X-Amz-SignedHeaders"].split(";")) == {"content-length", "host"}
    assert (query["partNumber"], query["X-Amz-Expires"]) == ("2", "300")
    storage.abort_multipart(key, upload_id)


def test_presigned_part_of_a_digest_takes_no_other_bytes(storage: Storage, key: str) -> None:
    upload_id = storage.create_multipart(key, checksums=True)
    digest = hashlib.sha256(b"1234").digest()
    url = storage.presign_part(key, upload_id, 1, 4, 60, sha256=digest)
    signed = dict(parse_qsl(urlsplit(url).query))["X-Amz-SignedHeaders"].split(";")
    assert set(signed) == {"content-length", "host", "x-amz-checksum-sha256"}
    assert httpx.put(url, content=b"1234").status_code == 403
    assert httpx.put(url, content=b"4321", headers=part_headers(digest)).status_code == 400
    assert storage.list_parts(key, upload_id) == []
    assert httpx.put(url, content=b"1234", headers=part_headers(digest)).status_code == 200
    storage.complete_multipart(key, upload_id, storage.list_parts(key, upload_id), {1: digest})
    assert storage.read(key) == b"1234"


def test_presigned_url_is_refused_when_it_has_ended(storage: Storage, key: str) -> None:
    upload_id = storage.create_multipart(key)
    storage.put_bytes(key, b"x")
    part, get = (
        storage.presign_part(key, upload_id, 1, 4, 1),
        storage.presign_get(key, filename="f", expires_s=1),
    )
    time.sleep(2.1)
    assert httpx.put(part, content=b"1234").status_code == 403
    assert httpx.get(get).status_code == 403
    assert storage.list_parts(key, upload_id) == []
    storage.abort_multipart(key, upload_id)


def test_presigned_download_is_an_attachment_under_its_name(storage: Storage, key: str) -> None:
    storage.put_bytes(key, b"<html>", media_type="text/html")
    answer = httpx.get(storage.presign_get(key, filename='naïve "model".tflite', expires_s=60))
    assert answer.content == b"<html>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''na%C3%AFve%20%22")


def test_presigned_url_names_the_public_endpoint(settings: Settings, key: str) -> None:
    public = settings.model_copy(update={"s3_public_endpoint_url": "https://files.example"})
    assert Storage(public).presign_get(key, filename="f", expires_s=60).startswith("https://files.example/")


def test_prefix_is_deleted_with_all_in_it_and_nothing_else(storage: Storage) -> None:
    folder = f"tests/{new_id('job')}"
    for name in ("a1/x", "a1/y/z", "a10/x"):
        storage.put_bytes(f"{folder}/{name}", b"x")
    storage.delete_prefix(f"{folder}/a1/")
    assert storage.list_keys(f"{folder}/") == [f"{folder}/a10/x"]
    for prefix in ("", "/", f"{folder}/a1"):
        with pytest.raises(ValueError, match="folder"):
            storage.delete_prefix(prefix)


def test_unreachable_storage_is_unavailable(settings: Settings, key: str) -> None:
    away = Storage(settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"}))
    with pytest.raises(StorageUnavailable):
        away.read(key)


def test_refused_credentials_are_unavailable(settings: Settings, key: str) -> None:
    from pydantic import SecretStr

    wrong = settings.model_copy(update={"s3_secret_access_key": SecretStr("wrong")})
    with pytest.raises(StorageUnavailable):
        Storage(wrong).put_bytes(key, b"x")


def test_uploads_in_parts_that_nobody_ends_are_forgotten_by_their_prefix(storage: Storage, key: str) -> None:
    folder = key.rpartition("/")[0] + "/"
    begun = [storage.create_multipart(f"{folder}{name}") for name in ("a", "b")]
    other = storage.create_multipart("tests-beside/a")
    assert storage.abort_uploads(folder) == 2
    assert storage.abort_uploads(folder) == 0
    with pytest.raises(FileNotFoundError):
        storage.list_parts(f"{folder}a", begun[0])
    assert storage.list_parts("tests-beside/a", other) == []
    storage.abort_multipart("tests-beside/a", other)
