"""From records to answers, and the query parameters that all lists share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from flask import Response, g, request
from pydantic import BaseModel

from featherweight.resources import Page
from service.errors import ProblemError

__all__ = ["JSON", "Window", "json_answer", "page", "query_number", "streamed", "window"]

JSON = "application/json"

_MAX_LIMIT = 100
_DEFAULT_LIMIT = 20
_MAX_CURSOR = 200


class Record(Protocol):
    """What is stored has a side that callers may see."""

    def public(self) -> BaseModel: ...


class Window(NamedTuple):
    """Which part of a list is wanted."""

    limit: int
    cursor: str | None


def streamed(chunks: Iterator[bytes], *, media_type: str, size: int, filename: str) -> Response:
    """A file of `size` bytes, to be saved as `filename`. StorageUnavailable, FileNotFoundError."""
    # The first chunk is asked for at once: a storage that is away is still an answer of its own.
    first = next(chunks, b"")
    response = Response(itertools.chain((first,), chunks), content_type=media_type)
    response.content_length = size
    response.headers.set("Content-Disposition", "attachment", filename=filename)
    return response


def json_answer(model: BaseModel, status: int = 200, **headers: str) -> Response:
    """`headers` are spelt with underscores: ``Retry_After="1"``."""
    response = Response(model.model_dump_json(by_alias=True), status=status, content_type=JSON)
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    if "rest_s" in g:  # a poll that could not be held (`waiting`)
        response.headers.setdefault("Retry-After", str(g.rest_s))
    return response


def window() -> Window:
    """The ``limit`` and ``cursor`` of a list; invalid_request."""
    cursor = request.args.get("cursor")
    if cursor is not None and len(cursor) > _MAX_CURSOR:
        raise bad_cursor()
    return Window(int(query_number("limit", 1, _MAX_LIMIT, _DEFAULT_LIMIT, whole=True)), cursor or None)


def page(fetch: Callable[[Window], tuple[Sequence[Record], str | None]]) -> Response:
    """The wanted part of a list of records; bad_cursor."""
    wanted = window()
    try:
        records, following = fetch(wanted)
    except ValueError:
        raise bad_cursor() from None
    data = [record.public() for record in records]
    return json_answer(Page(data=data, has_more=following is not None, next_cursor=following))


def bad_cursor() -> ProblemError:
    return ProblemError(
        "bad_cursor",
        "the cursor was not given out by this list",
        hint="leave it out to begin with the newest, then use next_cursor as it is",
    )


def query_number(name: str, lowest: float, highest: float, default: float, *, whole: bool = False) -> float:
    """A number in the query string within its bounds, `default` when it is left out; invalid_request."""
    text = request.args.get(name)
    if text is None:
        return default
    kind = "a whole number" if whole else "a number"
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        raise ProblemError("invalid_request", f"the query parameter {name} must be {kind}") from None
    # Also refuses NaN, which compares with nothing.
    if not lowest <= value <= highest:
        raise ProblemError(
            "invalid_request", f"the query parameter {name} must be {kind} from {lowest:g} to {highest:g}"
        )
    return value
