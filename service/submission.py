"""A job on its way in: checked against what is stored and what the framework can do, then queued."""

from __future__ import annotations

import logging

from kombu.exceptions import OperationalError

from featherweight.job import JobRequest
from featherweight.problem import CODES, FieldError
from service.errors import invalid
from service.services import Services
from tasks import keys
from tasks.compression import catalogue
from tasks.compression.abilities import kind_of_format, unable
from tasks.records import DatasetRecord, JobRecord, ModelRecord
from tasks.storage import StorageUnavailable
from tasks.store import NotFound

__all__ = ["find_inputs", "submit"]

log = logging.getLogger(__name__)


def submit(
    app: Services, project: str, wanted: JobRequest, *, job_id: str, request_id: str | None
) -> JobRecord:
    """Write the record, then its durable copy, then announce the job. May be repeated with the same id.

    Raises invalid_request, unsupported_technique, unsupported_output or dataset_required with
    pointers, and storage_unavailable, after which no job is left.
    """
    _check(app, project, wanted)
    record = app.jobs.create(project, wanted, job_id=job_id, request_id=request_id)
    try:
        app.storage.put_json(
            keys.job_key(project, job_id), record.model_dump(mode="json"), if_none_match=True
        )
    except FileExistsError:
        pass  # an earlier try came this far
    except StorageUnavailable:
        app.jobs.discard(project, job_id)
        raise
    _announce(app, record)
    return record


def _announce(app: Services, record: JobRecord) -> None:
    """A message that cannot be sent is no loss: the reaper announces queued jobs without one."""
    try:
        app.queue.enqueue(record.id, queue=record.queue)
    except (OperationalError, OSError) as error:
        log.warning("job %s was not announced: %s", record.id, type(error).__name__)


def _check(app: Services, project: str, wanted: JobRequest) -> None:
    model, _ = find_inputs(app, project, wanted)
    faults = catalogue.support(wanted.spec, model.framework)
    if wanted.dataset_id is None:
        faults += catalogue.missing_dataset(wanted.spec)
    kind = kind_of_format(model.format)
    unfit = [] if kind is None else unable(wanted.spec, kind, framework=model.framework)
    faults += [fault.fault() for fault in unfit]
    if faults:
        code = faults[0].code if faults[0].code in CODES else "invalid_request"
        raise invalid([_in_body(fault) for fault in faults], code, hint=unfit[0].hint if unfit else None)


def _in_body(fault: FieldError) -> FieldError:
    return fault.model_copy(update={"pointer": f"/spec{fault.pointer}"})


def find_inputs(app: Services, project: str, wanted: JobRequest) -> tuple[ModelRecord, DatasetRecord | None]:
    """The model and the data set; invalid_request naming each of them that the project does not have."""
    missing = []
    model, dataset = None, None
    try:
        model = app.models.get(project, wanted.model_id)
    except NotFound:
        missing.append(_unknown("model", wanted.model_id))
    if wanted.dataset_id is not None:
        try:
            dataset = app.datasets.get(project, wanted.dataset_id)
        except NotFound:
            missing.append(_unknown("dataset", wanted.dataset_id))
    if missing or model is None:
        raise invalid(missing)
    return model, dataset


def _unknown(kind: str, resource_id: str) -> FieldError:
    return FieldError(
        pointer=f"/{kind}_id", code="not_found", detail=f"there is no {kind} {resource_id!r} in this project"
    )
