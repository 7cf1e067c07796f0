"""Uploads in parts: everything that can break on the way, and what is picked up afterwards."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from pathlib import Path

import httpx
import pytest

from featherweight import errors
from featherweight._files import SourceFile
from featherweight._uploads import UploadState
from featherweight.client import Client
from tests.clients.fake_service import API, FakeService, problem_answer


def _puts(service: FakeService) -> list[str]:
    return sorted(request.url.path for request in service.requests if request.method == "PUT")


def test_file_arrives_whole_in_parts(service: FakeService, client: Client, model_file: Path) -> None:
    model = client.models.upload(model_file)
    assert service.bodies[model.id] == model_file.read_bytes()
    assert model.filename == "model.keras"
    assert _puts(service) == [f"/upl_0/{number}" for number in range(1, 6)]


def test_data_set_is_announced_as_one(service: FakeService, client: Client, model_file: Path) -> None:
    assert client.datasets.upload(str(model_file)).id.startswith("ds_")
    assert service.uploads["upl_0"]["kind"] == "dataset"


def test_progress_counts_every_byte_once_though_a_part_was_sent_twice(
    service: FakeService, client: Client, model_file: Path
) -> None:
    service.script("PUT", "/upl_0/2", httpx.WriteError("reset"), httpx.Response(500))
    seen: list[tuple[int, int]] = []
    client.models.upload(model_file, on_progress=lambda sent, total: seen.append((sent, total)))
    size = model_file.stat().st_size
    assert seen[-1] == (size, size)
    assert all(0 <= sent <= size for sent, _ in seen)
    assert service.bodies["mdl_0"] == model_file.read_bytes()


def test_expired_url_is_replaced_by_a_fresh_one(
    service: FakeService, client: Client, model_file: Path
) -> None:
    service.script("PUT", "/upl_0/3", httpx.Response(403))
    client.models.upload(model_file)
    assert len(service.asked("GET", "/v1/uploads/upl_0")) == 1
    assert service.bodies["mdl_0"] == model_file.read_bytes()


def test_urls_may_expire_any_number_of_times_while_parts_arrive(
    service: FakeService, client: Client, model_file: Path
) -> None:
    service.part_size = 100  # 44 parts, of which each round lets four through
    rounds = 0

    def expired(request: httpx.Request) -> httpx.Response:
        nonlocal rounds
        rounds += 1
        return httpx.Response(403)

    for number in range(5, 45, 4):
        service.script("PUT", f"/upl_0/{number}", expired)
    client.models.upload(model_file)
    assert rounds == 10
    assert service.bodies["mdl_0"] == model_file.read_bytes()


def test_urls_that_never_work_are_given_up(service: FakeService, client: Client, model_file: Path) -> None:
    service.script("PUT", "/upl_0/3", *[httpx.Response(403) for _ in range(99)])
    with pytest.raises(errors.StorageError):
        client.models.upload(model_file)
    assert len(_puts(service)) < 20


def test_parts_that_arrived_are_not_sent_again(
    service: FakeService, client: Client, model_file: Path
) -> None:
    service.script("PUT", "/upl_0/5", *[httpx.WriteError("reset") for _ in range(5)])
    client.models.upload(model_file)
    assert _puts(service).count("/upl_0/5") == 6
    assert service.bodies["mdl_0"] == model_file.read_bytes()


def test_part_the_service_misses_is_sent_again(
    service: FakeService, client: Client, model_file: Path
) -> None:
    def lose_a_part(request: httpx.Request) -> httpx.Response:
        del service.parts["upl_0"][4]
        return problem_answer("upload_incomplete")

    service.script("POST", "/v1/uploads/upl_0/complete", lose_a_part)
    client.models.upload(model_file)
    assert _puts(service).count("/upl_0/4") == 2


def test_completion_whose_answer_was_lost_is_found_out(
    service: FakeService, client: Client, model_file: Path
) -> None:
    def complete_and_hang_up(request: httpx.Request) -> Exception:
        service._complete("upl_0")
        return httpx.ReadError("reset")

    service.script("POST", "/v1/uploads/upl_0/complete", complete_and_hang_up)
    assert client.models.upload(model_file).id == "mdl_0"


def test_refusal_of_the_storage_is_a_storage_error(
    service: FakeService, client: Client, model_file: Path
) -> None:
    service.script("PUT", "/upl_0/1", httpx.Response(400))
    with pytest.raises(errors.StorageError, match=r"storage\.test answered 400"):
        client.models.upload(model_file)


def test_broken_off_upload_is_resumed_by_another_client(service: FakeService, model_file: Path) -> None:
    service.script("PUT", "/upl_0/4", httpx.Response(400))
    with service.client() as first, pytest.raises(errors.StorageError):
        first.models.upload(model_file)
    arrived = set(service.parts["upl_0"])
    before = len(service.requests)
    with service.client() as second:
        second.models.upload(model_file)
    sent_again = {int(r.url.path[-1]) for r in service.requests[before:] if r.method == "PUT"}
    assert sent_again == {1, 2, 3, 4, 5} - arrived
    assert list(service.uploads) == ["upl_0"]
    assert service.bodies["mdl_0"] == model_file.read_bytes()


def test_changed_file_is_not_taken_for_the_one_before(service: FakeService, model_file: Path) -> None:
    service.script("PUT", "/upl_0/4", httpx.Response(400))
    with service.client() as client:
        with pytest.raises(errors.StorageError):
            client.models.upload(model_file)
        model_file.write_bytes(b"other" * 900)
        client.models.upload(model_file)
    assert list(service.uploads) == ["upl_0", "upl_1"]
    assert service.bodies["mdl_0"] == b"other" * 900


@pytest.mark.parametrize("code", ["not_found", "upload_expired"])
def test_upload_that_is_gone_is_begun_anew(service: FakeService, model_file: Path, code: str) -> None:
    service.script("PUT", "/upl_0/1", httpx.Response(400))
    with service.client() as client:
        with pytest.raises(errors.StorageError):
            client.models.upload(model_file)
        service.script("GET", "/v1/uploads/upl_0", problem_answer(code))
        assert client.models.upload(model_file).id == "mdl_0"
    assert list(service.uploads) == ["upl_0", "upl_1"]


def test_refused_completion_is_not_resumed(service: FakeService, model_file: Path) -> None:
    service.script("POST", "/v1/uploads/upl_0/complete", problem_answer("unknown_file_type"))
    with service.client() as client:
        with pytest.raises(errors.UnsupportedMediaType):
            client.models.upload(model_file)
        client.models.upload(model_file)
    assert list(service.uploads) == ["upl_0", "upl_1"]


def test_cache_that_cannot_be_written_only_costs_the_resume(
    service: FakeService, client: Client, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = model_file.parent / "cache"
    blocked.write_text("a file where the folder should be")
    assert client.models.upload(model_file).id == "mdl_0"


def test_damaged_state_file_is_ignored(model_file: Path, tmp_path: Path) -> None:
    file = SourceFile.open(model_file)
    state = UploadState(API, tmp_path / "state")
    state.remember("model", file, "upl_7")
    assert state.recall("model", file) == "upl_7"
    assert state.recall("dataset", file) is None
    assert UploadState("http://elsewhere.test", tmp_path / "state").recall("model", file) is None
    (place,) = (tmp_path / "state").iterdir()
    for damage in ("", "[]", '{"upload_id": 3}', '{"upload_id": "../x"}'):
        place.write_text(damage)
        assert state.recall("model", file) is None


def test_storage_out_of_reach_is_gone_round_through_the_api(
    service: FakeService, model_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    sent: list[int] = []
    with service.client(storage_transport=httpx.MockTransport(refuse)) as client:
        model = client.models.upload(model_file, on_progress=lambda done, total: sent.append(done))
    (request,) = service.asked("POST", "/v1/models")
    assert request.headers["Content-Length"] == str(model_file.stat().st_size)
    assert request.url.params["sha256"] == model.sha256
    assert service.bodies[model.id] == model_file.read_bytes()
    assert sent[-1] == model_file.stat().st_size
    assert "sending model.keras through the API instead" in caplog.text


def test_way_round_is_taken_when_the_storage_is_out_of_reach_only_at_the_resume(
    service: FakeService, model_file: Path
) -> None:
    service.script("PUT", "/upl_0/5", httpx.Response(400))
    with service.client() as client, pytest.raises(errors.StorageError):
        client.models.upload(model_file)

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with service.client(storage_transport=httpx.MockTransport(refuse)) as client:
        client.models.upload(model_file)
    assert service.bodies["mdl_0"] == model_file.read_bytes()


def test_streamed_upload_is_sent_again_from_its_beginning(service: FakeService, model_file: Path) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("unreachable", request=request)

    service.script("POST", "/v1/models", problem_answer("overloaded"), httpx.WriteError("reset"))
    with service.client(storage_transport=httpx.MockTransport(refuse)) as client:
        client.models.upload(model_file)
    keys = {request.headers["Idempotency-Key"] for request in service.asked("POST", "/v1/models")}
    assert len(keys) == 1
    assert service.bodies["mdl_0"] == model_file.read_bytes()


def test_file_cut_short_meanwhile_is_an_os_error(
    service: FakeService, client: Client, model_file: Path
) -> None:
    def cut(request: httpx.Request) -> httpx.Response:
        os.truncate(model_file, 10)
        return service._routed(request)

    service.script("POST", "/v1/uploads", cut)
    with pytest.raises(OSError, match="became shorter"):
        client.models.upload(model_file)


@pytest.mark.parametrize("kind", ["missing", "empty", "folder", "device"])
def test_what_cannot_be_sent_is_refused_before_anything_is(
    service: FakeService, client: Client, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "thing"
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/null")
    with pytest.raises((OSError, ValueError)):
        client.models.upload(path)
    assert service.requests == []


def test_error_of_the_progress_callback_ends_the_upload(client: Client, model_file: Path) -> None:
    def stop(sent: int, total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        client.models.upload(model_file, on_progress=stop)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    class Discarding(FakeService):
        part_size = 16 * 1024 * 1024

    def swallow(request: httpx.Request) -> httpx.Response:
        for _ in request.stream:  # type: ignore[union-attr]
            pass
        number = int(request.url.path.rpartition("/")[2])
        service.parts["upl_0"][number] = b""
        return httpx.Response(200)

    path = tmp_path / "large.keras"
    with path.open("wb") as file:
        file.truncate(96 * 1024 * 1024)
    service = Discarding()
    service.script("POST", "/v1/uploads/upl_0/complete", httpx.Response(201, json={"id": "mdl_9"}))
    service.files["mdl_9"] = service._store("model", "large.keras", b"x")
    with service.client(storage_transport=_Streaming(swallow)) as client:
        tracemalloc.start()
        client.models.upload(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(service.parts["upl_0"]) == 6
    assert peak < 16 * 1024 * 1024


class _Streaming(httpx.MockTransport):
    """A mock that does not read the request before it hands it on."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self.handler(request)
        assert isinstance(answer, httpx.Response)
        return answer


def test_digests_of_parts_are_those_of_the_slices_sent(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(2_500_000))
    file = SourceFile.open(path, part_bytes=1_100_000)
    slices = [
        b"".join(file.slice(start, min(1_100_000, file.size - start))) for start in (0, 1_100_000, 2_200_000)
    ]
    assert list(file.part_sha256) == [hashlib.sha256(data).hexdigest() for data in slices]
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert SourceFile.open(path, part_bytes=1).part_size == 250


def test_service_that_signs_no_digests_is_sent_none(
    service: FakeService, client: Client, model_file: Path
) -> None:
    client.models.upload(model_file)
    puts = [request for request in service.requests if request.method == "PUT"]
    assert puts
    assert not any("x-amz-checksum-sha256" in request.headers for request in puts)
