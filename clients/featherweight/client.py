"""The client: one object, with the API's resources as its attributes.

with featherweight.Client("https://featherweight.example", api_key="fw_…") as client:
    job = client.compress("model.keras", spec="spec.yaml", dataset="digits.npz")
    job.wait(timeout=3600).download("out")
    print(job.report().verdict)
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import httpx

from featherweight._downloads import Downloader
from featherweight._imports import Imports
from featherweight._jobs import Jobs
from featherweight._models import Models
from featherweight._plans import Plans
from featherweight._retry import Clock, RetryPolicy
from featherweight._stored import StoredFiles
from featherweight._transport import DEFAULT_TIMEOUT, Session, Storage, decode
from featherweight._uploads import OnProgress, Uploader
from featherweight.errors import ConfigurationError
from featherweight.handle import JobHandle
from featherweight.inspection import Inspection
from featherweight.job import Job, JobLimits
from featherweight.plan import Plan
from featherweight.receipt import ReceiptKey
from featherweight.resources import Dataset, Health, Model, Page, Project, Technique, Usage
from featherweight.specfile import SpecSource, load_spec

__all__ = ["Client"]

_ID = re.compile(r"(mdl|ds)_[a-z0-9]+")


class Client:
    """A connection to a Featherweight service. Safe to share between threads; close it when done.

    `base_url` and `api_key` left out are taken from FEATHERWEIGHT_URL and FEATHERWEIGHT_API_KEY.
    `timeout` is in seconds, for each wait on the network and not for whole calls. `max_retries`
    counts the attempts after the first. `transport` carries the requests to the API (give an
    ``httpx.WSGITransport`` to test against an application in process), `storage_transport` those
    to presigned URLs. Raises ConfigurationError when there is no URL.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float | httpx.Timeout = DEFAULT_TIMEOUT,
        max_retries: int = 4,
        transport: httpx.BaseTransport | None = None,
        storage_transport: httpx.BaseTransport | None = None,
        clock: Clock | None = None,
    ) -> None:
        url = base_url or os.environ.get("FEATHERWEIGHT_URL")
        if not url:
            raise ConfigurationError("no service: give base_url or set FEATHERWEIGHT_URL")
        self._session = Session(
            url,
            api_key or os.environ.get("FEATHERWEIGHT_API_KEY"),
            timeout=timeout,
            policy=RetryPolicy(max_retries=max_retries),
            transport=transport,
            clock=clock,
        )
        self._storage = Storage(transport=storage_transport)
        uploader = Uploader(self._session, self._storage)
        self.models = Models(self._session, uploader)
        self.datasets: StoredFiles[Dataset] = StoredFiles(self._session, uploader, "dataset", Dataset)
        self.jobs = Jobs(self._session, Downloader(self._session, self._storage))
        self.plans = Plans(self._session)
        self.imports = Imports(self._session)

    def __repr__(self) -> str:
        return f"<Client {self.base_url}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
        self._storage.close()

    @property
    def base_url(self) -> str:
        return self._session.base_url

    def compress(
        self,
        model: str | os.PathLike[str] | Model,
        spec: SpecSource,
        *,
        dataset: str | os.PathLike[str] | Dataset | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        limits: JobLimits | Mapping[str, int] | None = None,
        idempotency_key: str | None = None,
        on_upload: OnProgress | None = None,
    ) -> JobHandle:
        """Upload what is not there yet, queue the job, and give back a handle to it.

        `model` and `dataset` are paths, ids (``mdl_…``, ``ds_…``) or what an upload gave back;
        `spec` is a CompressionSpec, its fields as a mapping, inline JSON, or the path of a YAML or
        JSON file. It is checked before anything is sent. `on_upload(sent, total)` is called with
        bytes, for one file after the other.

        Raises InvalidSpec, OSError and ValueError for the files, and APIError.
        """
        checked = load_spec(spec)
        model_id = self._model_id(model, on_upload)
        dataset_id = None if dataset is None else self._dataset_id(dataset, on_upload)
        job = self.jobs.create(
            model_id=model_id,
            dataset_id=dataset_id,
            spec=checked,
            name=name,
            metadata=metadata,
            limits=limits,
            idempotency_key=idempotency_key,
        )
        return JobHandle(self.jobs, job)

    def plan(
        self,
        model: str | os.PathLike[str] | Model,
        spec: SpecSource,
        *,
        dataset: str | os.PathLike[str] | Dataset | None = None,
        on_upload: OnProgress | None = None,
    ) -> Plan:
        """What `compress` with the same arguments would do, without doing it: `Plans.create` after uploading
        what is not there yet."""
        checked = load_spec(spec)
        model_id = self._model_id(model, on_upload)
        dataset_id = None if dataset is None else self._dataset_id(dataset, on_upload)
        return self.plans.create(model_id=model_id, dataset_id=dataset_id, spec=checked)

    def inspect(
        self, model: str | os.PathLike[str] | Model, *, on_upload: OnProgress | None = None
    ) -> Inspection:
        """What is in a model and what can be done to it: `Models.inspect` after uploading what is not there
        yet."""
        return self.models.inspect(self._model_id(model, on_upload))

    def job(self, job: str | Job) -> JobHandle:
        """The handle of a job that exists already."""
        return JobHandle(self.jobs, job if isinstance(job, Job) else self.jobs.get(job))

    def techniques(self) -> list[Technique]:
        """What the service can do, for which frameworks, with the JSON Schema of every step."""
        return self._session.get("/v1/techniques", Page[Technique]).data

    def receipt_keys(self) -> list[ReceiptKey]:
        """The public keys that the service's receipts are checked with: see `featherweight.verify`."""
        return self._session.get("/.well-known/receipt_keys", Page[ReceiptKey]).data

    def usage(self) -> Usage:
        """What the project of the API key uses, and what it may use."""
        return self._session.get("/v1/usage", Usage)

    def project(self) -> Project:
        """The project of the API key, and whether it is paused."""
        return self._session.get("/v1/project", Project)

    def pause_project(self) -> Project:
        """Start no more jobs of the project: they wait, and those that run go on. Needs the scope admin."""
        return decode(self._session.post("/v1/project/pause"), Project)

    def resume_project(self) -> Project:
        """Start jobs of the project again. Needs the scope admin."""
        return decode(self._session.post("/v1/project/resume"), Project)

    def health(self) -> Health:
        """Whether the service can do its work, and if not, what is missing. Asked once: no retries."""
        return decode(self._session.probe("/readyz"), Health)

    def _model_id(self, model: str | os.PathLike[str] | Model, on_upload: OnProgress | None) -> str:
        if isinstance(model, Model):
            return model.id
        if _is_id(model, "mdl"):
            return str(model)
        return self.models.upload(model, on_progress=on_upload).id

    def _dataset_id(self, dataset: str | os.PathLike[str] | Dataset, on_upload: OnProgress | None) -> str:
        if isinstance(dataset, Dataset):
            return dataset.id
        if _is_id(dataset, "ds"):
            return str(dataset)
        return self.datasets.upload(dataset, on_progress=on_upload).id


def _is_id(value: str | os.PathLike[str], prefix: str) -> bool:
    """An id rather than a path: a file of that very name would win."""
    if not isinstance(value, str):
        return False
    match = _ID.fullmatch(value)
    return match is not None and match[1] == prefix and not Path(value).exists()
