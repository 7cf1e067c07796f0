"""The error body of every answer, and of every failed job: RFC 9457 problem details.

`code` is stable and is what programs test; `CODES` holds every one with its HTTP status, title and
whether the same request can succeed later. The same shape stands in ``job.error`` with the stage
and, where one is to blame, the layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = ["CODES", "MEDIA_TYPE", "Code", "FieldError", "Problem", "field_errors", "problem"]

MEDIA_TYPE = "application/problem+json"


class Code(NamedTuple):
    status: int
    title: str
    retryable: bool = False


CODES: dict[str, Code] = {
    # the request
    "bad_json": Code(400, "The body is not strict JSON"),
    "bad_request": Code(400, "The request is malformed"),
    "bad_cursor": Code(400, "The cursor was not given out by this list"),
    "unauthenticated": Code(401, "A valid API key is needed"),
    "forbidden": Code(403, "The API key may not do this"),
    "imports_disabled": Code(403, "This service fetches no files from elsewhere"),
    "scope_missing": Code(403, "The API key's scope does not include this"),
    "storage_quota_exceeded": Code(403, "The project has no room left for this"),
    "object_not_found": Code(404, "There is no such object in the inbox"),
    "too_many_schedules": Code(403, "The project has as many schedules as it may have"),
    "not_found": Code(404, "There is no such thing here"),
    "method_not_allowed": Code(405, "The method is not allowed here"),
    "not_acceptable": Code(406, "None of the accepted media types can be served"),
    "job_not_done": Code(409, "The job has not ended yet"),
    "job_done": Code(409, "The job has already ended"),
    "job_succeeded": Code(409, "The job has succeeded"),
    "batch_not_done": Code(409, "The batch has not ended yet"),
    "resource_in_use": Code(409, "Something still needs it"),
    "upload_completed": Code(409, "The upload is already complete"),
    "upload_incomplete": Code(409, "Parts of the upload are missing"),
    "object_changed": Code(409, "The object changed while it was copied", True),
    "idempotency_key_in_flight": Code(409, "A request with this Idempotency-Key is still running", True),
    "schedule_ended": Code(409, "The schedule has ended"),
    "too_many_endpoints": Code(409, "The project has as many webhook endpoints as it may have"),
    "endpoint_disabled": Code(409, "The webhook endpoint is disabled"),
    "event_expired": Code(410, "The event is no longer kept"),
    "upload_expired": Code(410, "The upload has expired"),
    "artifact_gone": Code(410, "The file is no longer stored"),
    "artifacts_expired": Code(410, "The files of the job were removed when their time was over"),
    "payload_too_large": Code(413, "The body is too large"),
    "import_too_large": Code(413, "The file at the URL is too large"),
    "object_too_large": Code(413, "The object in the inbox is too large"),
    "unsupported_media_type": Code(415, "The media type is not supported"),
    "unknown_file_type": Code(415, "The file is of no known type"),
    "invalid_request": Code(422, "A value of the request is not valid"),
    "idempotency_key_reused": Code(422, "The Idempotency-Key was used with another body"),
    "size_mismatch": Code(422, "The bytes received are not as many as announced"),
    "sha256_mismatch": Code(422, "The sha256 of the bytes received is not the one announced"),
    "url_not_allowed": Code(422, "The URL is not one that requests are sent to"),
    "uri_not_allowed": Code(422, "The s3:// URI is not of an object of this project"),
    "import_failed": Code(422, "The file could not be fetched from its URL"),
    "unsupported_technique": Code(422, "The technique is not available for this kind of model"),
    "unsupported_output": Code(422, "The output format is not available for this kind of model"),
    "too_many_objects": Code(422, "The inbox holds more objects than are looked at"),
    "dataset_required": Code(422, "The spec needs a data set"),
    "not_plannable": Code(422, "No plan can be made of these files"),
    "rate_limited": Code(429, "Too many requests", True),
    "too_many_queued_jobs": Code(429, "The project has as many jobs queued as it may have", True),
    "too_many_open_batches": Code(429, "The project has as many batches open as it may have", True),
    "cpu_quota_exceeded": Code(429, "The project's jobs used as many CPU seconds as they may in a day", True),
    "internal_error": Code(500, "The service failed", True),
    "storage_unavailable": Code(503, "The object storage cannot be reached", True),
    "queue_unavailable": Code(503, "The job queue cannot be reached", True),
    "overloaded": Code(503, "The service is at its limit", True),
    # batches and their items
    "bad_batch_input": Code(422, "The input of the batch cannot be read"),
    "duplicate_custom_id": Code(422, "Another item of the batch has the same custom_id"),
    "all_items_failed": Code(422, "No item of the batch succeeded"),
    "batch_stopped": Code(409, "The batch was stopped by the first failure"),
    "batch_cancelled": Code(409, "The batch was cancelled"),
    "batch_expired": Code(422, "The batch ran longer than it may"),
    # the model
    "bad_model": Code(422, "The model file is damaged or incomplete"),
    "bad_config": Code(422, "The configuration in the model file cannot be used"),
    "bad_h5": Code(422, "The HDF5 file is damaged or incomplete"),
    "bad_tflite": Code(422, "The TFLite file is damaged or incomplete"),
    "layer_not_allowed": Code(422, "A layer or function in the model is not allowed"),
    "op_not_allowed": Code(422, "An operation in the model is not allowed"),
    "asset_path_not_allowed": Code(422, "An asset of the model has a name that is not allowed"),
    "pickle_not_allowed": Code(422, "The model carries pickled code"),
    "h5_external_reference": Code(422, "The HDF5 file refers to what lies outside of it"),
    "h5_too_large": Code(422, "An HDF5 array claims far more than is stored of it"),
    "model_too_large": Code(422, "The model asks for more than a model may have"),
    "unsupported_model": Code(422, "This kind of model cannot be compressed yet"),
    "already_quantized": Code(422, "The model is quantised already"),
    "layer_not_found": Code(422, "A layer pattern matches no layer of the model"),
    "layer_not_supported": Code(422, "A selected layer cannot be compressed this way"),
    "loss_not_inferable": Code(422, "The loss cannot be inferred; name it in the spec"),
    "conversion_failed": Code(422, "The model cannot be converted to the output format"),
    "verification_failed": Code(422, "An output does not do what the model it came from does"),
    "training_diverged": Code(422, "The loss became NaN or infinite while fine-tuning"),
    "nothing_to_do": Code(422, "The recipe would change nothing in this model"),
    # the data
    "bad_data": Code(422, "The data set is damaged or incomplete"),
    "bad_archive": Code(422, "The archive is damaged or incomplete"),
    "archive_bomb": Code(413, "The archive unpacks to far more than its size"),
    "archive_path_not_allowed": Code(422, "A name in the archive is not allowed"),
    "archive_link_not_allowed": Code(422, "The archive holds a link"),
    "archive_special_file": Code(422, "The archive holds a device, a pipe or a sparse file"),
    "archive_duplicate_member": Code(422, "The archive holds a file twice"),
    "archive_member_not_allowed": Code(422, "The archive holds a file that does not belong there"),
    "archive_nested": Code(422, "The archive holds another archive"),
    "archive_encrypted": Code(422, "The archive is encrypted"),
    "too_many_files": Code(422, "The archive holds too many files"),
    "bad_npz": Code(422, "The NumPy archive is damaged or incomplete"),
    "csv_too_wide": Code(422, "The table has too many columns"),
    "csv_bad_encoding": Code(422, "The table is no UTF-8 text"),
    "csv_ragged": Code(422, "The rows of the table are not of one length"),
    "csv_field_too_large": Code(422, "A field of the table is too large"),
    "bad_image": Code(422, "An image is damaged or of no known format"),
    "image_too_large": Code(422, "An image has too many pixels"),
    "column_missing": Code(422, "The data set lacks a column"),
    "value_missing": Code(422, "The data set lacks a value"),
    "pickled_array": Code(422, "The data set contains pickled objects"),
    "array_missing": Code(422, "The data set lacks an array"),
    "array_too_large": Code(422, "An array of the data set is too large"),
    "dtype_not_allowed": Code(422, "An array of the data set has a type that cannot be used"),
    "not_finite": Code(422, "The data set contains NaN or infinity"),
    "shape_mismatch": Code(422, "The data set does not fit the model"),
    "input_out_of_range": Code(422, "A sample holds a value that the model's input cannot have"),
    "label_out_of_range": Code(422, "A label lies outside the model's classes"),
    "too_few_samples": Code(422, "The data set has too few samples"),
    # the run
    "time_limit": Code(422, "The job ran longer than it may"),
    "out_of_memory": Code(422, "The job needed more memory than it may use"),
    "disk_limit": Code(422, "The job wrote more than it may"),
    "sandbox_violation": Code(422, "The job tried what no job may do"),
    "output_refused": Code(422, "A file the job made was refused"),
    "runner_crashed": Code(500, "The process that ran the job crashed"),
    "runner_killed": Code(503, "The process that ran the job was killed", True),
    "worker_lost": Code(503, "The worker that ran the job was lost", True),
    "disk_full": Code(503, "The worker's disk is full", True),
    "worker_failed": Code(503, "The worker could not go on with the job", True),
    "worker_stopped": Code(503, "The worker that ran the job was shut down", True),
    "too_many_attempts": Code(503, "Every attempt at the job was lost"),
    "queue_timeout": Code(503, "The job waited longer than it may", True),
    "total_timeout": Code(503, "The job was not done within the time it had", True),
}


class FieldError(BaseModel):
    """One fault. `pointer` is the RFC 6901 JSON pointer of the value in the request's body."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    pointer: str
    code: str
    detail: str


class Problem(BaseModel):
    """An RFC 9457 problem. `type` is a URI reference into the service's own documentation."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: str | None = None
    retryable: bool = False
    errors: list[FieldError] = Field(default_factory=list)
    request_id: str | None = None
    stage: str | None = None
    layer: str | None = None


def problem(
    code: str,
    detail: str,
    *,
    hint: str | None = None,
    errors: Iterable[FieldError] = (),
    request_id: str | None = None,
    stage: str | None = None,
    layer: str | None = None,
) -> Problem:
    """The problem of a known code; KeyError for an unknown one."""
    known = CODES[code]
    return Problem(
        type=f"/problems/{code}",
        title=known.title,
        status=known.status,
        code=code,
        detail=detail,
        hint=hint,
        retryable=known.retryable,
        errors=list(errors),
        request_id=request_id,
        stage=stage,
        layer=layer,
    )


def field_errors(error: ValidationError, body: Any, *, prefix: Sequence[str | int] = ()) -> list[FieldError]:
    """Pydantic's errors with pointers into `body`, the JSON value that was validated.

    Pydantic names the branch of a union in the location (``steps, 0, prune, schedule``); the branch
    is not part of the document, so it is left out of the pointer.
    """
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    locations = [fault["loc"] for fault in faults]
    return [
        FieldError(
            pointer=_pointer([*prefix, *_in_document(fault["loc"], body)]),
            code=fault["type"],
            detail=fault["msg"],
        )
        for fault in faults
        if not (fault["type"] == "too_short" and _has_faults_inside(fault["loc"], locations))
    ]


def _has_faults_inside(location: tuple[str | int, ...], others: Iterable[tuple[str | int, ...]]) -> bool:
    # Pydantic counts the valid items of a tuple only: one bad item makes it "too short" as well.
    return any(len(other) > len(location) and other[: len(location)] == location for other in others)


def _in_document(location: Sequence[str | int], body: Any) -> list[str | int]:
    path: list[str | int] = []
    here = body
    for position, name in enumerate(location):
        is_item = isinstance(name, int) and isinstance(here, list | tuple) and name < len(here)
        if is_item or (isinstance(here, Mapping) and name in here):
            path.append(name)
            here = here[name]
        elif isinstance(here, Mapping) and position == len(location) - 1 and not _is_tag(name, here):
            path.append(name)
    return path


def _is_tag(name: str | int, value: Mapping[str, Any]) -> bool:
    return name in (value.get("technique"), value.get("type")) or str(name).startswith("<")


def _pointer(path: Iterable[str | int]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
