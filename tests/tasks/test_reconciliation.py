"""What is wrong is found, both ways, and nothing else; it is put right when asked, and when old enough."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from tasks import keys
from tasks.identifiers import new_id
from tasks.reconciliation import Finding, Report, reconcile
from tasks.retention.removal import Removal
from tasks.storage import Storage, StorageUnavailable
from tests.tasks.conftest import PROJECT, Bench
from tests.tasks.test_retention import FILES, Shelf, shelf  # noqa: F401 - a fixture

OLD = 0.0


def found(shelf: Shelf, **options: Any) -> tuple[list[Finding], Report]:  # noqa: F811
    report = Report()
    options.setdefault("older_than_s", OLD)
    findings = reconcile(
        shelf.settings, shelf.client, shelf.storage, report, project=shelf.project, **options
    )
    return list(findings), report


def told(shelf: Shelf, **options: Any) -> set[tuple[str, str]]:  # noqa: F811
    """(what, subject), without what all subjects begin with."""
    prefix = f"projects/{shelf.project}/"
    return {(each.what, each.subject.removeprefix(prefix)) for each in found(shelf, **options)[0]}


def test_nothing_is_wrong_with_what_is_as_it_should_be(shelf: Shelf) -> None:  # noqa: F811
    for job in [shelf.ended(), shelf.ended()]:
        shelf.accounts.keep(shelf.project, job.model_id, 20)
    shelf.queued()
    expired = shelf.ended()
    assert shelf.removal.expire_artifacts(expired)
    findings, report = found(shelf, delete_orphans=True, recount=True)
    assert findings == []
    assert report.is_clean
    assert (report.objects, report.records) == (len(shelf.keys()), 8)


def test_orphans_and_lost_records_of_every_kind(shelf: Shelf) -> None:  # noqa: F811
    job, lost = shelf.ended(), shelf.ended()
    prefix = f"projects/{shelf.project}/"
    orphans = [
        f"jobs/{job.id}/a7/model.tflite",
        "jobs/job_gone/a1/model.tflite",
        "models/mdl_gone/mdl_gone.bin",
        f"models/{job.model_id}/other.bin",
        "datasets/ds_gone/dataset.json",
    ]
    for key in orphans:
        shelf.storage.put_bytes(prefix + key, b"12345")
    shelf.client.delete(f"fw:job:{lost.id}", f"fw:model:{shelf.project}:{lost.model_id}")
    shelf.client.zrem(f"fw:jobs:{shelf.project}", lost.id)
    shelf.client.zrem(f"fw:models:{shelf.project}", lost.model_id)
    shelf.storage.put_bytes(f"{prefix}batches/bat_1/batch.json", b"{}")
    wrong = {("orphan_object", key) for key in orphans} | {
        ("lost_record", lost.id),
        ("lost_record", lost.model_id),
        ("wrong_count", lost.id),
        ("wrong_count", lost.model_id),
    }
    assert told(shelf) == wrong
    # Too young, and not asked for.
    assert told(shelf, older_than_s=3600, delete_orphans=True) == {
        each for each in wrong if "orphan" not in each[0]
    }
    assert shelf.keys() >= set(orphans)
    _, report = found(shelf, delete_orphans=True)
    assert report.mended["orphan_object"] == len(orphans)
    assert report.orphaned_bytes == 5 * len(orphans)
    assert report.others == {"batches": 1}
    assert not report.is_clean
    assert shelf.keys().isdisjoint(orphans)
    # What can be restored stays.
    assert shelf.storage.exists(keys.result_key(shelf.project, lost.id))
    assert told(shelf) == {each for each in wrong if "orphan" not in each[0]}


def test_records_without_objects_and_objects_of_another_size(shelf: Shelf) -> None:  # noqa: F811
    job, empty = shelf.ended(), shelf.ended()
    artifact = keys.artifact_key(shelf.project, job.id, 1, "report.json")
    shelf.storage.delete(artifact)
    shelf.storage.put_bytes(keys.model_key(shelf.project, job.model_id), b"short")
    shelf.storage.delete_prefix(keys.job_prefix(shelf.project, empty.id))
    assert told(shelf) == {
        ("missing_object", f"jobs/{job.id}/a1/report.json"),
        ("wrong_size", f"models/{job.model_id}/{job.model_id}.bin"),
        ("missing_object", f"jobs/{empty.id}/"),
    }


def test_bytes_are_counted_anew(shelf: Shelf) -> None:  # noqa: F811
    job = shelf.ended()
    right = shelf.stored_bytes
    shelf.accounts.keep(shelf.project, job.model_id, 1000)
    shelf.accounts.keep(shelf.project, "upl_gone", 500)
    shelf.accounts.forget(shelf.project, job.id)
    wrong = {("wrong_count", name) for name in (job.model_id, "upl_gone", job.id)}
    assert told(shelf) == wrong
    assert found(shelf, recount=True)[1].is_clean
    assert shelf.stored_bytes == right == 20 + sum(map(len, FILES.values()))
    shelf.client.hincrby(f"fw:stored:{shelf.project}:sums", "mdl", 7)
    assert told(shelf) == {("wrong_count", shelf.project)}
    found(shelf, recount=True)
    assert shelf.stored_bytes == right
    assert told(shelf) == set()


def test_multipart_uploads_of_nobody_are_given_up(shelf: Shelf) -> None:  # noqa: F811
    key = keys.model_key(shelf.project, new_id("model"))
    upload_id = shelf.storage.create_multipart(key)
    elsewhere = shelf.storage.create_multipart(f"inbox/{shelf.project}/theirs")
    assert told(shelf) == {("orphan_upload", key.removeprefix(f"projects/{shelf.project}/"))}
    assert told(shelf, older_than_s=3600, delete_orphans=True) == set()
    assert found(shelf, delete_orphans=True)[1].mended["orphan_upload"] == 1
    assert told(shelf) == set()
    with pytest.raises(FileNotFoundError):
        shelf.storage.list_parts(key, upload_id)
    assert shelf.storage.list_parts(f"inbox/{shelf.project}/theirs", elsewhere) == []


def test_what_is_being_removed_or_is_running_is_no_orphan(
    shelf: Shelf, bench: Bench, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    job = shelf.ended()

    def away(*_: object) -> None:
        raise StorageUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete", away)
        Removal(shelf.settings, shelf.client, shelf.storage).remove_job(shelf.project, job.id)
    queued = shelf.queued()
    shelf.storage.put_bytes(keys.artifact_key(shelf.project, queued.id, 1, "half"), b"x")
    assert told(shelf, delete_orphans=True, recount=True) == set()
    assert bench.store.find(queued.id) is not None
    assert shelf.project != PROJECT


def test_an_orphan_that_becomes_somebodys_meanwhile_stays(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    key = f"projects/{shelf.project}/models/mdl_x/mdl_x.bin"
    shelf.storage.put_bytes(key, b"before")
    stat = Storage.stat

    def overwritten_first(storage: Storage, wanted: str) -> Any:
        storage.put_bytes(key, b"after")
        return stat(storage, wanted)

    monkeypatch.setattr(Storage, "stat", overwritten_first)
    findings, _ = found(shelf, delete_orphans=True)
    assert [each.mended for each in findings] == [False]
    assert shelf.storage.read(key) == b"after"


def test_memory_does_not_grow_with_what_there_is(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    """One page of the listing and one resource at a time: every page is fetched as it is needed."""
    for number in range(6):
        shelf.storage.put_bytes(f"projects/{shelf.project}/models/mdl_{number}/x", b"1")
    fetched = 0
    listing = Storage.list_objects

    def counted(storage: Storage, prefix: str, **options: Any) -> Any:
        nonlocal fetched
        for each in listing(storage, prefix, **{**options, "page_size": 2}):
            fetched += 1
            yield each

    monkeypatch.setattr(Storage, "list_objects", counted)
    findings = reconcile(
        shelf.settings, shelf.client, shelf.storage, Report(), project=shelf.project, older_than_s=OLD
    )
    next(findings)
    assert fetched <= 2


def test_a_project_that_cannot_be_one_is_refused(shelf: Shelf, redis_client: redis.Redis) -> None:  # noqa: F811
    with pytest.raises(ValueError, match="not a name"):
        next(reconcile(shelf.settings, redis_client, shelf.storage, Report(), project="../x"))
