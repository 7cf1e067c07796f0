"""Reading what callers send: JSON within bounds, files as streams that are never held in memory.

A body that is refused stays unread until the answer is out; then a little of it is swallowed
(`linger`), because a connection closed over unread bytes is reset and the answer lost with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from flask import Flask, Response, request

from service.errors import ProblemError
from tasks import strict_json
from tasks.storage import TooLarge

__all__ = ["CHUNK", "init_app", "json_body", "stream_body"]

CHUNK = 1024 * 1024

# A client that sends nothing for this long has gone away.
_SILENCE_S = 60.0
_LINGER_S = 3.0
_LINGER_BYTES = 64 * CHUNK

_NOT_A_FILE = ("multipart/", "application/json", "application/x-www-form-urlencoded", "text/")


def init_app(app: Flask) -> None:
    app.after_request(linger)


def json_body(max_bytes: int) -> Any:
    """The request's JSON value; payload_too_large, unsupported_media_type, bad_json."""
    if request.mimetype != "application/json":
        raise ProblemError(
            "unsupported_media_type",
            f"the body is {_called(request.mimetype)}, and must be application/json",
            hint="set the header Content-Type: application/json",
        )
    try:
        return strict_json.loads(b"".join(_chunks(max_bytes)))
    except TooLarge:
        raise _too_large(max_bytes) from None
    except strict_json.BadJSON as error:
        raise ProblemError("bad_json", str(error)) from None


def stream_body(max_bytes: int) -> Iterator[bytes]:
    """The body in chunks of at most 1 MiB, still to be read.

    Raises payload_too_large and unsupported_media_type at once. The iterator raises size_mismatch
    when the client stops before the end, and payload_too_large when it does not stop.
    """
    if request.mimetype.startswith(_NOT_A_FILE):
        raise ProblemError(
            "unsupported_media_type",
            f"the body is {_called(request.mimetype)}, and must be the file itself",
            hint="curl -X POST -T FILE sends a file as it is, or set Content-Type: application/octet-stream",
        )
    return _bounded(_chunks(max_bytes), max_bytes)


def _bounded(chunks: Iterator[bytes], max_bytes: int) -> Iterator[bytes]:
    try:
        yield from chunks
    except TooLarge:
        raise _too_large(max_bytes) from None


def _chunks(max_bytes: int) -> Iterator[bytes]:
    """Not a generator itself, so that what is announced is checked before anything is read."""
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise ProblemError("unsupported_media_type", "a Content-Encoding is not supported: send plain bytes")
    # Negative or not a number, it would be taken for absent.
    announced = request.headers.get("Content-Length")
    if announced is not None and not announced.isdecimal():
        raise ProblemError("bad_request", "the Content-Length is not a number")
    length = request.content_length
    if length is not None and length > max_bytes:
        raise _too_large(max_bytes)
    return _read(length, max_bytes)


def _read(length: int | None, max_bytes: int) -> Iterator[bytes]:
    """What arrives, counted; TooLarge, and size_mismatch when less than `length` does."""
    # Counted here, with the caller's own limit.
    request.max_content_length = None
    received = 0
    with _deadline_on_silence():
        while chunk := _receive():
            received += len(chunk)
            if received > max_bytes:
                raise TooLarge(max_bytes)
            yield chunk
    if length is not None and received < length:
        raise _cut_off(f"{received} of {length} bytes arrived")


def _receive() -> bytes:
    try:
        return request.stream.read(CHUNK)
    except Exception as error:
        # Each server has its own errors for a broken body.
        raise _cut_off("the body ended before it was complete") from error


def _cut_off(detail: str) -> ProblemError:
    return ProblemError("size_mismatch", detail, hint="nothing was kept; send it again")


def _too_large(max_bytes: int) -> ProblemError:
    return ProblemError("payload_too_large", f"the body may have at most {max_bytes} bytes")


def _called(mimetype: str) -> str:
    return mimetype[:100] or "of no stated type"


@contextmanager
def _deadline_on_silence(seconds: float = _SILENCE_S) -> Iterator[None]:
    """While reading, a connection that stays silent for `seconds` counts as broken.

    Under gunicorn, which hands out its socket and would wait for ever.
    """
    sock = request.environ.get("gunicorn.socket")
    if sock is None:
        yield
        return
    before = sock.gettimeout()
    sock.settimeout(seconds)
    try:
        yield
    finally:
        with suppress(OSError):
            sock.settimeout(before)


def linger(response: Response) -> Response:
    """Once a refusal has been sent, swallow what the client is still sending, within bounds."""
    if response.status_code >= 400 and (request.content_length or "Transfer-Encoding" in request.headers):
        environ = request.environ
        response.call_on_close(lambda: _swallow(environ))
    return response


def _swallow(environ: dict[str, Any]) -> None:
    sock = environ.get("gunicorn.socket")
    if sock is None:
        return  # another server, with ways of its own
    deadline = time.monotonic() + _LINGER_S
    left = _LINGER_BYTES
    before = sock.gettimeout()
    # Whatever breaks here, the connection is done with and the answer is out.
    with suppress(Exception):
        while left > 0 and (remaining := deadline - time.monotonic()) > 0:
            sock.settimeout(remaining)
            data = environ["wsgi.input"].read(min(left, CHUNK))
            if not data:
                break
            left -= len(data)
    with suppress(OSError):
        sock.settimeout(before)
