from __future__ import annotations

import os
import stat
from pathlib import Path

import httpx
import pytest

from featherweight import errors
from featherweight._files import safe_names
from featherweight.client import Client
from tests.clients.fake_service import Breaking, FakeService

MODEL = b"tflite" * 1000


@pytest.fixture
def job(service: FakeService) -> str:
    id_ = str(service.add_job(state="succeeded", done=True)["id"])
    service.add_artifacts(id_, model__tflite=MODEL, report__json=b"{}", empty__txt=b"")
    return id_


def test_artifacts_come_with_their_names_and_contents(client: Client, job: str, tmp_path: Path) -> None:
    paths = client.jobs.download(job, tmp_path / "new" / "out")
    assert [path.name for path in paths] == ["model.tflite", "report.json", "empty.txt"]
    assert paths[0].read_bytes() == MODEL
    assert sorted(os.listdir(tmp_path / "new" / "out")) == ["empty.txt", "model.tflite", "report.json"]


def test_key_is_not_shown_to_the_storage(
    service: FakeService, client: Client, job: str, tmp_path: Path
) -> None:
    client.jobs.download(job, tmp_path)
    at_storage = [request for request in service.requests if request.url.host == "storage.test"]
    assert len(at_storage) == 2  # nothing is asked for where there is nothing to fetch
    assert not any("Authorization" in request.headers for request in at_storage)
    assert all(request.headers["Accept-Encoding"] == "identity" for request in at_storage)


def test_only_the_named_artifacts_come(client: Client, job: str, tmp_path: Path) -> None:
    assert client.jobs.download(job, tmp_path, names=["report.json"]) == [tmp_path / "report.json"]
    with pytest.raises(KeyError):
        client.jobs.download(job, tmp_path, names=["other"])


def test_broken_download_goes_on_where_it_broke(
    service: FakeService, client: Client, job: str, tmp_path: Path
) -> None:
    service.script("GET", f"/{job}/model.tflite", httpx.Response(200, stream=Breaking(MODEL[:1500])))
    seen: list[int] = []
    client.jobs.download(job, tmp_path, on_progress=lambda done, total: seen.append(done))
    assert (tmp_path / "model.tflite").read_bytes() == MODEL
    assert service.asked("GET", f"/{job}/model.tflite")[1].headers["Range"] == "bytes=1500-"
    assert seen == sorted(seen)


def test_storage_that_knows_no_ranges_sends_it_all_again(
    service: FakeService, client: Client, job: str, tmp_path: Path
) -> None:
    service.script(
        "GET",
        f"/{job}/model.tflite",
        httpx.Response(200, stream=Breaking(MODEL[:1500])),
        httpx.Response(200, content=MODEL),
    )
    client.jobs.download(job, tmp_path, names=["model.tflite"])
    assert (tmp_path / "model.tflite").read_bytes() == MODEL


def test_expired_url_is_replaced_by_a_fresh_one(
    service: FakeService, client: Client, job: str, tmp_path: Path
) -> None:
    service.script("GET", f"/{job}/model.tflite", httpx.Response(403), httpx.Response(503))
    client.jobs.download(job, tmp_path)
    assert len(service.asked("GET", f"/v1/jobs/{job}/artifacts/model.tflite")) == 3


def test_file_served_by_the_api_itself_is_taken_too(
    service: FakeService, client: Client, job: str, tmp_path: Path
) -> None:
    path = f"/v1/jobs/{job}/artifacts/model.tflite"
    service.script("GET", path, httpx.Response(200, content=MODEL))
    client.jobs.download(job, tmp_path, names=["model.tflite"])
    assert (tmp_path / "model.tflite").read_bytes() == MODEL


def test_storage_out_of_reach_is_gone_round_through_the_api(
    service: FakeService, client: Client, job: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    service.script("GET", f"/{job}/model.tflite", refuse)
    client.jobs.download(job, tmp_path, names=["model.tflite"])
    assert (tmp_path / "model.tflite").read_bytes() == MODEL
    assert "storage.test" in caplog.text
    assert "signature" not in caplog.text


@pytest.mark.parametrize("came", [b"evil" * 1500, MODEL[:100], MODEL + b"more", b""])
def test_wrong_bytes_leave_no_file(
    service: FakeService, client: Client, job: str, tmp_path: Path, came: bytes
) -> None:
    service.script("GET", f"/{job}/model.tflite", httpx.Response(200, content=came))
    with pytest.raises(errors.ChecksumMismatch, match=r"model\.tflite"):
        client.jobs.download(job, tmp_path)
    assert os.listdir(tmp_path) == []


def test_wrong_bytes_leave_the_file_that_was_there(
    service: FakeService, client: Client, job: str, tmp_path: Path
) -> None:
    (tmp_path / "model.tflite").write_bytes(b"the old one")
    service.script("GET", f"/{job}/model.tflite", httpx.Response(200, content=b"evil"))
    with pytest.raises(errors.ChecksumMismatch):
        client.jobs.download(job, tmp_path)
    assert (tmp_path / "model.tflite").read_bytes() == b"the old one"


def test_file_already_there_is_not_fetched_again(
    service: FakeService, client: Client, job: str, tmp_path: Path
) -> None:
    client.jobs.download(job, tmp_path)
    before = len(service.requests)
    client.jobs.download(job, tmp_path)
    assert len(service.requests) == before + 1  # the list


def test_symbolic_link_is_replaced_and_not_followed(client: Client, job: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "model.tflite").symlink_to(outside)
    client.jobs.download(job, folder)
    assert outside.read_bytes() == b"precious"
    assert not (folder / "model.tflite").is_symlink()
    assert stat.S_IMODE((folder / "model.tflite").stat().st_mode) == 0o666 & ~_umask()


def test_name_from_the_service_cannot_leave_the_folder(
    service: FakeService, client: Client, tmp_path: Path
) -> None:
    id_ = str(service.add_job(state="succeeded", done=True)["id"])
    service.add_artifacts(id_, **{"../../evil.sh": b"#!", "evil.sh": b"#?"})
    service.script("GET", f"/v1/jobs/{id_}/artifacts/../../evil.sh", httpx.Response(200, content=b"#!"))
    paths = client.jobs.download(id_, tmp_path / "out")
    assert [path.name for path in paths] == ["evil.sh", "2-evil.sh"]
    assert os.listdir(tmp_path) == ["out"]


def test_names_are_made_plain_and_different() -> None:
    names = ["a.b", "../a.b", "C:\\A.B", ".bashrc", "-rf", "..", "", "x\n\0y", "é ü.txt", "n" * 300]
    made = safe_names(names)
    assert made[:8] == ["a.b", "2-a.b", "3-A.B", "bashrc", "rf", "artifact", "2-artifact", "x__y"]
    assert made[8] == "é ü.txt"
    assert len(made[9]) == 200


def test_job_that_is_not_done_is_a_conflict(service: FakeService, client: Client, tmp_path: Path) -> None:
    id_ = str(service.add_job()["id"])
    with pytest.raises(errors.Conflict) as raised:
        client.jobs.download(id_, tmp_path)
    assert raised.value.code == "job_not_done"


def test_job_that_failed_hands_over_what_it_kept(
    service: FakeService, client: Client, tmp_path: Path
) -> None:
    id_ = str(service.add_job(state="failed", done=True)["id"])
    service.add_artifacts(id_, checkpoint__keras=b"weights")
    (path,) = client.jobs.download(id_, tmp_path)
    assert (path.name, path.read_bytes()) == ("checkpoint.keras", b"weights")
    with pytest.raises(errors.JobFailed, match=r"kept: checkpoint\.keras"):
        client.jobs.wait(id_)


def test_job_that_failed_has_nothing_to_download_and_says_so(
    service: FakeService, client: Client, tmp_path: Path
) -> None:
    id_ = str(service.add_job(state="failed", done=True)["id"])
    with pytest.raises(errors.JobFailed):
        client.jobs.download(id_, tmp_path)


def test_refusal_of_the_storage_is_raised(
    service: FakeService, client: Client, job: str, tmp_path: Path
) -> None:
    service.script("GET", f"/{job}/model.tflite", httpx.Response(404))
    with pytest.raises(errors.StorageError, match="404"):
        client.jobs.download(job, tmp_path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
