"""An entry of a source becomes an item with a job request, or an invalid item that says everything that is
wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from featherweight.batch import BatchDefaults, BatchItem, BatchItemRequest, BatchItemState, CustomId
from featherweight.job import JobRequest
from featherweight.problem import FieldError, Problem, field_errors, problem
from tasks.batches.records import Entry, StoredItem
from tasks.submission import faulty

__all__ = ["checked_item", "duplicate", "refused"]

_CUSTOM_ID: TypeAdapter[str] = TypeAdapter(CustomId)


def checked_item(index: int, entry: Entry, defaults: BatchDefaults) -> StoredItem:
    """By its shape alone: whether model and data set are there is not asked."""
    if entry.problem is not None:
        return _invalid(index, entry, entry.problem)
    try:
        wanted = _wanted(entry)
        request = _request(wanted, defaults)
    except ValidationError as error:
        # Of the item itself, or of what the defaults made of it.
        value = entry.value if isinstance(entry.value, Mapping) else {}
        return _invalid(index, entry, faulty(field_errors(error, value)))
    except _NoSpec:
        detail = "the item has no spec, and the batch's defaults have none"
        return _invalid(index, entry, faulty([FieldError(pointer="/spec", code="missing", detail=detail)]))
    item = BatchItem(
        index=index,
        line=entry.line,
        custom_id=wanted.custom_id,
        state=BatchItemState.QUEUED,
        model_id=request.model_id,
        dataset_id=request.dataset_id,
        name=request.name,
        metadata=request.metadata,
    )
    return StoredItem(item=item, request=request)


def refused(stored: StoredItem, error: Problem) -> StoredItem:
    """The item, invalid for this reason."""
    told = {"state": BatchItemState.INVALID, "error": error, "ended_at": datetime.now(UTC)}
    return StoredItem(item=stored.item.model_copy(update=told))


class _NoSpec(Exception):
    pass


def _wanted(entry: Entry) -> BatchItemRequest:
    value = entry.value
    return value if isinstance(value, BatchItemRequest) else BatchItemRequest.model_validate(value)


def _request(wanted: BatchItemRequest, defaults: BatchDefaults) -> JobRequest:
    spec = wanted.spec or defaults.spec
    if spec is None:
        raise _NoSpec
    return JobRequest(
        model_id=wanted.model_id,
        dataset_id=wanted.dataset_id or defaults.dataset_id,
        spec=spec,
        name=wanted.name,
        metadata={**defaults.metadata, **(wanted.metadata or {})},
        limits=wanted.limits or defaults.limits,
    )


def _invalid(index: int, entry: Entry, error: Problem) -> StoredItem:
    item = BatchItem(index=index, line=entry.line, state=BatchItemState.QUEUED, **_known(entry))
    return refused(StoredItem(item=item), error)


def _known(entry: Entry) -> dict[str, Any]:
    """What can be read of an item that is not valid, so that its owner finds it again."""
    if isinstance(entry.value, BatchItemRequest):
        return {"custom_id": entry.value.custom_id, "model_id": entry.value.model_id}
    try:
        return {"custom_id": _CUSTOM_ID.validate_python(entry.value.get("custom_id"), strict=True)}
    except ValidationError:
        return {}


def duplicate(stored: StoredItem) -> StoredItem:
    """The item, whose custom_id another one had before."""
    custom_id = stored.item.custom_id or ""
    detail = f"an item before it has the custom_id {custom_id[:100]!r} too"
    fault = FieldError(pointer="/custom_id", code="duplicate", detail=detail)
    return refused(stored, problem("duplicate_custom_id", detail, errors=[fault]))
