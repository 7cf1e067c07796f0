"""``client.batches``: many jobs asked for at once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

import httpx
from pydantic import BaseModel, TypeAdapter

from featherweight._listing import Listing
from featherweight._manifests import INLINE_BYTES, INLINE_ITEMS, FileIds, items_of, written
from featherweight._retry import Deadline
from featherweight._stored import StoredFiles
from featherweight._transport import Session, connection_error, decode
from featherweight._uploads import OnProgress, Uploader
from featherweight._waiting import watch_until_done
from featherweight.batch import Batch, BatchFile, BatchItem, BatchLimits
from featherweight.errors import BatchFailed, BatchWaitTimeout
from featherweight.job import JobLimits
from featherweight.manifest import Manifest, load_manifest
from featherweight.resources import Dataset, Model
from featherweight.specfile import SpecSource, load_spec

__all__ = ["Batches"]

_ITEM: TypeAdapter[BatchItem] = TypeAdapter(BatchItem)

Items = Listing[BatchItem]


class Batches:
    """`files` are the input files of batches that the service keeps."""

    def __init__(
        self,
        session: Session,
        uploader: Uploader,
        models: StoredFiles[Model],
        datasets: StoredFiles[Dataset],
    ) -> None:
        self._session = session
        self._models = models
        self._datasets = datasets
        self.files: StoredFiles[BatchFile] = StoredFiles(session, uploader, "batch", BatchFile, "batch_files")

    def create(
        self,
        *,
        items: Sequence[Mapping[str, Any] | BaseModel] | None = None,
        input_file: str | os.PathLike[str] | BatchFile | None = None,
        prefix: str | None = None,
        models: Sequence[str] | None = None,
        specs: Mapping[str, SpecSource] | None = None,
        spec: SpecSource | None = None,
        dataset_id: str | None = None,
        job_metadata: Mapping[str, str] | None = None,
        job_limits: JobLimits | Mapping[str, int] | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        max_concurrent: int | None = None,
        on_failure: Literal["continue", "stop"] | None = None,
        reuse: bool | None = None,
        limits: BatchLimits | Mapping[str, int] | None = None,
        idempotency_key: str | None = None,
        on_upload: OnProgress | None = None,
    ) -> Batch:
        """Make a batch of exactly one of `items` (fields of a `BatchItemRequest` each), `input_file` (a JSONL
        file, uploaded here unless it is a `BatchFile` or the id of one), `prefix` (of the project's inbox)
        and `models` (ids). `models` and `prefix` are given each of `specs`, by their names, or `spec`.

        `spec`, `dataset_id`, `job_metadata` and `job_limits` are what items that have none get. What is left
        out is as the service has it. Lost answers are safe, as with `Jobs.create`. Raises InvalidSpec before
        anything is sent, OSError and ValueError for the file, and APIError.
        """
        defaults = {
            "spec": None if spec is None else load_spec(spec).model_dump(mode="json"),
            "dataset_id": dataset_id,
            "metadata": None if job_metadata is None else dict(job_metadata),
            "limits": _plain(job_limits),
        }
        named = [
            {"name": title, "spec": load_spec(each).model_dump(mode="json")}
            for title, each in (specs or {}).items()
        ]
        body = {
            "name": name,
            "metadata": None if metadata is None else dict(metadata),
            "items": None if items is None else [_item(item) for item in items],
            "prefix": prefix,
            "models": None if models is None else list(models),
            "specs": named or None,
            "defaults": _given(defaults) or None,
            "max_concurrent": max_concurrent,
            "on_failure": on_failure,
            "reuse": reuse,
            "limits": _plain(limits),
            "input_file_id": None if input_file is None else self._file_id(input_file, on_upload),
        }
        answer = self._session.post("/v1/batches", json=_given(body), idempotency_key=idempotency_key)
        return decode(answer, Batch)

    def run(
        self,
        manifest: Manifest | Mapping[str, Any] | str | os.PathLike[str],
        *,
        idempotency_key: str | None = None,
        on_upload: OnProgress | None = None,
    ) -> Batch:
        """Make the batch that a manifest (`featherweight.manifest`) describes: its fields, or the path of a
        YAML or JSON file. Model files and data sets are uploaded, each content once.

        Raises InvalidManifest and InvalidSpec before anything is sent, OSError and ValueError for the
        files, and APIError.
        """
        wanted = load_manifest(manifest)
        ids = FileIds(self._models, self._datasets, on_upload)
        items = items_of(wanted, wanted.planned(), ids)
        options: dict[str, Any] = {
            "name": wanted.name,
            "metadata": wanted.metadata or None,
            "job_metadata": wanted.job_metadata or None,
            "job_limits": wanted.job_limits,
            "max_concurrent": wanted.max_concurrent,
            "on_failure": wanted.on_failure,
            "reuse": wanted.reuse,
            "limits": wanted.limits,
            "idempotency_key": idempotency_key,
        }
        if len(items) <= INLINE_ITEMS and len(json.dumps(items)) <= INLINE_BYTES:
            return self.create(items=items, **options)
        path = written(items)
        try:
            return self.create(input_file=path, on_upload=on_upload, **options)
        finally:
            path.unlink()

    def get(self, id: str) -> Batch:
        return self._session.get(_one(id), Batch)

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Listing[Batch]:
        """Newest first; `limit` to a page. Iterating goes through all pages."""
        return Listing(self._session, "/v1/batches", Batch, {"limit": limit, "cursor": cursor})

    def items(self, id: str, *, limit: int | None = None, cursor: str | None = None) -> Items:
        """The items as they are now, in the order of the input; `limit` to a page."""
        return Listing(self._session, f"{_one(id)}/items", BatchItem, {"limit": limit, "cursor": cursor})

    def results(self, id: str) -> Iterator[BatchItem]:
        """The items that succeeded, one after the other as they arrive. Raises Conflict
        (``batch_not_done``)."""
        return self._lines(f"{_one(id)}/results")

    def errors(self, id: str) -> Iterator[BatchItem]:
        """The items that did not succeed, as `results`; ``error`` of each says why."""
        return self._lines(f"{_one(id)}/errors")

    def cancel(self, id: str) -> Batch:
        """Ask for the batch to be stopped. What has ended keeps its result."""
        return decode(self._session.post(f"{_one(id)}/cancel"), Batch)

    def delete(self, id: str) -> None:
        """Remove a batch that has ended; its jobs stay. Raises Conflict (``batch_not_done``)."""
        self._session.delete(_one(id))

    def wait(
        self, id: str, *, timeout: float | None = None, on_change: Callable[[Batch], None] | None = None
    ) -> Batch:
        """Wait until the batch is done, at most `timeout` seconds. One that is completed is given back, with
        whatever of its items failed: see ``outcome``.

        `on_change` is called with the batch whenever it has changed. Raises BatchFailed when it failed,
        expired or was cancelled, and BatchWaitTimeout when it is not done in time.
        """
        batch = watch_until_done(
            self._session, _one(id), Batch, Deadline(self._session.clock, timeout), on_change
        )
        if not batch.done:
            raise BatchWaitTimeout(batch, timeout or 0.0)
        if batch.state != "completed":
            raise BatchFailed(batch)
        return batch

    def _lines(self, path: str) -> Iterator[BatchItem]:
        with self._session.stream("GET", path, headers={"Accept": "application/x-ndjson"}) as response:
            try:
                for line in response.iter_lines():
                    if line:
                        yield _ITEM.validate_json(line)
            except httpx.HTTPError as error:
                raise connection_error(error, str(response.url)) from error

    def _file_id(self, file: str | os.PathLike[str] | BatchFile, on_upload: OnProgress | None) -> str:
        if isinstance(file, BatchFile):
            return file.id
        if isinstance(file, str) and file.startswith("bfl_") and not os.path.exists(file):
            return file
        return self.files.upload(file, on_progress=on_upload).id


def _item(item: Mapping[str, Any] | BaseModel) -> dict[str, Any]:
    fields = item.model_dump(mode="json", exclude_none=True) if isinstance(item, BaseModel) else dict(item)
    if fields.get("spec") is not None:
        fields["spec"] = load_spec(fields["spec"]).model_dump(mode="json")
    return fields


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _plain(limits: BaseModel | Mapping[str, int] | None) -> dict[str, Any] | None:
    if limits is None:
        return None
    return limits.model_dump() if isinstance(limits, BaseModel) else dict(limits)


def _one(id_: str) -> str:
    return f"/v1/batches/{quote(id_, safe='')}"
