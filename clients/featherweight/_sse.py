"""Server-sent events, as the HTML standard describes their stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from featherweight.errors import UnexpectedResponse

__all__ = ["ServerSentEvent", "parse"]

_MAX_LINE = 4 * 1024 * 1024


@dataclass(frozen=True)
class ServerSentEvent:
    """`id` is the last one seen so far, which is not necessarily this event's own."""

    id: str
    event: str
    data: str


def parse(chunks: Iterable[bytes]) -> Iterator[ServerSentEvent | None]:
    """Events as they are completed; None for every line in between, so that a reader can look at the time."""
    last_id, kind, data = "", "", list[str]()
    for line in _lines(chunks):
        if line == "":
            if data:
                yield ServerSentEvent(last_id, kind or "message", "\n".join(data))
            kind, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            last_id = value
        yield None


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    # Not str.splitlines: it would cut at U+2028 and others, which may stand inside the JSON.
    rest = b""
    for chunk in chunks:
        # A CR at the end waits for the next chunk: it may be the first half of CR LF.
        held = b"\r" if chunk.endswith(b"\r") else b""
        text = (rest + chunk[: len(chunk) - len(held)]).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *whole, rest = text.split(b"\n")
        rest += held
        if len(rest) > _MAX_LINE:
            raise UnexpectedResponse("a line of the event stream is too long")
        for line in whole:
            yield line.decode("utf-8", "replace")
