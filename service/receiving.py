"""Files that arrive as the body of one request: streamed to storage, hashed on the way, then recorded."""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

from flask import Response, request
from pydantic import TypeAdapter, ValidationError

from featherweight.resources import FileName
from service.auth import project
from service.bodies import stream_body
from service.errors import ProblemError
from service.filekinds import GATE_PROBLEMS, adopt, sniff
from service.idempotency import Answer, Attempt, json_fingerprint
from service.openapi import IDEMPOTENCY_KEY, Parameter
from service.quotas import check_room
from service.rendering import json_answer
from service.services import services
from tasks.filekinds import FileKind, R
from tasks.sniffing import HEAD_BYTES

__all__ = ["PARAMETERS", "PROBLEMS", "receive", "store"]

PARAMETERS = (
    Parameter("filename", "What to call it."),
    Parameter(
        "sha256", "In hex; another digest is refused.", {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}
    ),
    Parameter("Content-Digest", "RFC 9530: the sha-256 in base64, instead of sha256.", place="header"),
    IDEMPOTENCY_KEY,
)
PROBLEMS = (
    "bad_request",
    "payload_too_large",
    "unsupported_media_type",
    "unknown_file_type",
    "invalid_request",
    "size_mismatch",
    "sha256_mismatch",
    "storage_quota_exceeded",
    *GATE_PROBLEMS,
    "overloaded",
    "idempotency_key_reused",
    "idempotency_key_in_flight",
    "storage_unavailable",
)

_FILE_NAME: TypeAdapter[str] = TypeAdapter(FileName)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DIGEST_ITEM = re.compile(r"\s*sha-256=:([A-Za-z0-9+/]+={0,2}):\s*")


def receive(kind: FileKind[R]) -> Response:
    """Store the request's body as a new model or data set: 201 with its record.

    Query: ``filename``, and ``sha256`` in hex; the digest may also come as Content-Digest or
    Repr-Digest. Nothing is kept of a body that is cut off, too large, of another type or of
    another digest.
    """
    filename, announced = _filename(kind.name), _announced_sha256()
    # Refused before an id is made or a lock taken.
    body = stream_body(kind.max_bytes(services().settings))
    return services().ledger.once(
        project(),
        kind.name,
        json_fingerprint([request.content_length, announced]),
        lambda attempt: _received(kind, attempt, filename, announced, body),
        lambda answer: _same_bytes(answer, body),
    )


def _received(
    kind: FileKind[R], attempt: Attempt, filename: str, announced: str | None, body: Iterator[bytes]
) -> Response:
    record = store(kind, attempt, filename, announced, body)
    return json_answer(record.public(), 201, Location=f"/v1/{kind.name}s/{record.id}")


def store(
    kind: FileKind[R], attempt: Attempt, filename: str, announced: str | None, body: Iterator[bytes]
) -> R:
    """The record of `body`, stored under the attempt's id; nothing is kept of what is refused.

    bad_request when it is empty, unknown_file_type, sha256_mismatch with `announced`; storage's TooLarge.
    """
    app = services()
    head, chunks = _peek(body)
    if not head:
        raise ProblemError("bad_request", "the body is empty", hint="curl -X POST -T FILE sends a file")
    sniff(kind.name, head)
    # Of how many bytes they are may not be known yet; whether there is room for them is asked again then.
    check_room(app, project(), request.content_length or len(head))
    app.intake.leftovers.sweep()
    key = kind.key(project(), attempt.resource_id)
    app.intake.leftovers.reclaim(key)
    with app.intake.leftovers.sending(key, app.settings.upload_expiry_s):
        size, sha256 = app.storage.put_stream(
            _watched(chunks, attempt.keep_alive), key, max_bytes=kind.max_bytes(app.settings)
        )
    try:
        _check_digest(sha256, announced)
        return adopt(
            app,
            kind,
            project(),
            attempt.resource_id,
            filename=filename,
            head=head,
            size=size,
            sha256=sha256,
        )
    except Exception:
        # Whatever went wrong, also with storage or Redis: no record was made that says what lies there.
        app.intake.leftovers.discard(key)
        raise


def _check_digest(sha256: str, announced: str | None) -> None:
    if announced is not None and sha256 != announced:
        raise ProblemError(
            "sha256_mismatch",
            f"the sha256 of the bytes received is {sha256}, announced was {announced}",
            hint="nothing was kept; send it again",
        )


def _peek(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, and an iterator that still yields all of them."""
    head = b""
    while len(head) < HEAD_BYTES and (chunk := next(chunks, b"")):
        head += chunk
    return head[:HEAD_BYTES], itertools.chain([head], chunks)


def _watched(chunks: Iterator[bytes], keep_alive: Callable[[], None]) -> Iterator[bytes]:
    for chunk in chunks:
        keep_alive()
        yield chunk


def _same_bytes(answer: Answer, body: Iterator[bytes]) -> bool:
    digest = hashlib.sha256()
    for chunk in body:
        digest.update(chunk)
    return f'"sha256":"{digest.hexdigest()}"' in answer.body


def _filename(default: str) -> str:
    name = request.args.get("filename", default)
    try:
        return _FILE_NAME.validate_python(name)
    except ValidationError:
        raise ProblemError(
            "invalid_request",
            "the query parameter filename must be a plain file name of 1 to 255 characters",
            hint="leave the folders out",
        ) from None


def _announced_sha256() -> str | None:
    """In hex; None when it was not announced. invalid_request when it is none, or there are two."""
    found: set[str] = set()
    if (given := request.args.get("sha256")) is not None:
        found.add(_hex(given.lower()))
    for name in ("Content-Digest", "Repr-Digest"):
        for item in request.headers.get(name, "").split(","):
            if match := _DIGEST_ITEM.fullmatch(item):
                found.add(_hex(_decoded(match[1])))
    if len(found) > 1:
        raise ProblemError("invalid_request", "two different sha256 were announced")
    return found.pop() if found else None


def _hex(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise ProblemError("invalid_request", "the announced sha256 is no sha256")
    return text


def _decoded(text: Any) -> str:
    try:
        return base64.b64decode(text, validate=True).hex()
    except binascii.Error:
        return ""
