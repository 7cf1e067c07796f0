"""``/v1/imports``: files that are fetched from a URL instead of being sent.

Off unless FEATHERWEIGHT_IMPORTS is set: to send requests for strangers is a power that an operator gives
knowingly. Objects of the caller's own project, s3://, need no such power.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn
from urllib.parse import unquote, urlsplit

from flask import Blueprint, Response
from pydantic import TypeAdapter, ValidationError

from featherweight.problem import FieldError
from featherweight.resources import FileName, Import, ImportRequest
from service.auth import project
from service.bodies import json_body
from service.errors import ProblemError, validated
from service.idempotency import Attempt, json_fingerprint
from service.importslots import NoSlot
from service.openapi import IDEMPOTENCY_KEY, Body, Shape, operation
from service.receiving import store
from service.rendering import json_answer
from service.services import Services, services
from tasks.filekinds import KINDS
from tasks.outbound import FetchFailed, UrlNotAllowed
from tasks.storage import TooLarge

__all__ = ["bp"]

bp = Blueprint("imports", __name__, url_prefix="/v1/imports")
log = logging.getLogger(__name__)

_EXAMPLE = {"kind": "model", "url": "https://models.example/model.keras", "sha256": "0" * 64}
_S3 = re.compile(r"s3://(?P<bucket>[^/]+)/(?P<key>.+)", re.DOTALL)
# As our own keys are spelt: no segment that a server might take for another folder.
_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._+=@-]*"
_FILE_NAME: TypeAdapter[str] = TypeAdapter(FileName)


@bp.post("")
@operation(
    summary="Fetch a model or data set from a URL",
    body=Body(ImportRequest, _EXAMPLE),
    answers={201: Shape(Import, "It is stored.", {"Location": "The model or data set."})},
    parameters=[IDEMPOTENCY_KEY],
    problems=[
        "bad_json",
        "bad_request",
        "imports_disabled",
        "payload_too_large",
        "import_too_large",
        "unsupported_media_type",
        "unknown_file_type",
        "invalid_request",
        "url_not_allowed",
        "uri_not_allowed",
        "import_failed",
        "sha256_mismatch",
        "storage_quota_exceeded",
        "idempotency_key_reused",
        "idempotency_key_in_flight",
        "storage_unavailable",
        "overloaded",
    ],
)
def create() -> Response:
    """Answered when the whole file is there. Only https:// URLs of public hosts are fetched, without
    following redirects; s3:// URIs are those of the project's own objects in the service's bucket."""
    body = json_body(services().settings.max_json_bytes)
    wanted = validated(ImportRequest, body)
    return services().ledger.once(
        project(), wanted.kind, json_fingerprint(body), lambda attempt: _imported(attempt, wanted)
    )


def _imported(attempt: Attempt, wanted: ImportRequest) -> Response:
    app = services()
    kind = KINDS[wanted.kind]
    limit = kind.max_bytes(app.settings)
    try:
        with app.imports.taken(project()), _opened(app, wanted.url, limit) as chunks:
            record = store(kind, attempt, _filename(wanted), wanted.sha256, _some(chunks))
    except NoSlot:
        raise ProblemError("overloaded", "as many files as may be are being fetched; try again") from None
    except TooLarge:
        raise _too_large(limit) from None
    except UrlNotAllowed as error:
        raise _refused("url_not_allowed", str(error)) from None
    except FetchFailed as error:
        raise _refused("import_failed", str(error)) from None
    made = {**record.public().model_dump(), "object": "import"}
    answer = Import.model_validate({**made, "kind": kind.name, "resource_id": record.id})
    return json_answer(answer, 201, Location=f"/v1/{kind.name}s/{record.id}")


@contextmanager
def _opened(app: Services, url: str, limit: int) -> Iterator[Iterator[bytes]]:
    """The bytes at `url`."""
    if url.lower().startswith("s3:"):
        yield _read(app, _own_key(app, url))
        return
    if not app.settings.imports:
        raise ProblemError(
            "imports_disabled", "this service fetches nothing", hint="send the file: POST /v1/uploads"
        )
    with app.fetcher.get(url, within_s=app.settings.import_timeout_s) as answer:
        log.info("fetching from %s", urlsplit(url).hostname)
        if answer.size is not None and answer.size > limit:
            raise _too_large(limit)
        yield answer.chunks


def _own_key(app: Services, uri: str) -> str:
    """The key of one of the project's own objects; uri_not_allowed for all others, there or not."""
    match = _S3.fullmatch(uri)
    own = rf"projects/{re.escape(project())}/(?:models|datasets|jobs)/{_SEGMENT}(?:/{_SEGMENT})+"
    if match is None or match["bucket"] != app.settings.s3_bucket or not re.fullmatch(own, match["key"]):
        _refuse_uri(app)
    return match["key"]


def _refuse_uri(app: Services) -> NoReturn:
    raise _refused(
        "uri_not_allowed",
        "only objects of this project can be taken from S3: "
        f"s3://{app.settings.s3_bucket}/projects/{project()}/jobs/...",
    )


def _read(app: Services, key: str) -> Iterator[bytes]:
    try:
        yield from app.storage.stream(key)
    except FileNotFoundError:
        raise FetchFailed("there is no such object") from None


def _some(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """`chunks`; FetchFailed when there is not a byte in them."""
    empty = True
    for chunk in chunks:
        empty = empty and not chunk
        yield chunk
    if empty:
        raise FetchFailed("the file is empty")


def _filename(wanted: ImportRequest) -> str:
    """The one asked for, else the last part of the URL's path where that can be one, else the kind."""
    if wanted.filename is not None:
        return wanted.filename
    try:
        return _FILE_NAME.validate_python(unquote(urlsplit(wanted.url).path).rpartition("/")[2])
    except (ValidationError, ValueError):
        return wanted.kind


def _too_large(limit: int) -> ProblemError:
    return _refused("import_too_large", f"the file may have at most {limit} bytes")


def _refused(code: str, detail: str) -> ProblemError:
    return ProblemError(code, detail, errors=[FieldError(pointer="/url", code=code, detail=detail)])
