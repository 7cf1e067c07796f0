"""One GET of a caller's URL.

Redirects are answers like any other that is not 200: nobody follows them.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpcore

from tasks.outbound.pinned import Deadline, FetchFailed, Resolve, failures, opened, system_resolve
from tasks.outbound.urls import Policy

__all__ = ["Answer", "Fetcher"]


@dataclass(frozen=True)
class Answer:
    """`size` is in bytes, None when it was not announced. `chunks` raises FetchFailed."""

    size: int | None
    chunks: Iterator[bytes]


class Fetcher:
    """Fetches by `policy`. `timeout_s` is for the resolver, for connecting, and for every silence.

    `resolve` and `ssl_context` are what the system has, unless given.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        user_agent: str = "featherweight",
        timeout_s: float = 5,
        resolve: Resolve | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.policy = policy
        self._user_agent = user_agent
        self._timeout_s = timeout_s
        self._resolve = resolve or system_resolve
        self._ssl_context = ssl_context

    @contextmanager
    def get(self, url: str, *, within_s: float) -> Iterator[Answer]:
        """The answer to GET `url`, which is open as long as the block runs and at most `within_s`.

        UrlNotAllowed before anything is sent. FetchFailed when the host cannot be reached, is silent or
        too slow, or answers with anything but a 200 that says how long it is and is not compressed.
        """
        with opened(
            "GET",
            self.policy.target(url),
            headers={"User-Agent": self._user_agent, "Accept": "*/*"},
            find=self._resolve,
            deadline=Deadline(within_s),
            timeout_s=self._timeout_s,
            ssl_context=self._ssl_context,
        ) as response:
            size = _checked_size(response)
            yield Answer(size, _translated(response.iter_stream()))


def _checked_size(response: httpcore.Response) -> int | None:
    """The size announced; FetchFailed for what is no whole, plain file."""
    headers = {name.lower(): value.decode("latin-1").strip() for name, value in response.headers}
    if 300 <= response.status < 400:
        raise FetchFailed(f"the host answered {response.status}: redirects are not followed")
    if response.status != 200:
        raise FetchFailed(f"the host answered {response.status}")
    if headers.get(b"content-encoding", "identity").lower() != "identity":
        raise FetchFailed("the host sent it compressed, although it was asked not to")
    length = headers.get(b"content-length")
    if length is None and "chunked" not in headers.get(b"transfer-encoding", "").lower():
        raise FetchFailed("the host does not say how long it is, so that a part could pass for the whole")
    return None if length is None else int(length)


def _translated(chunks: Iterable[bytes]) -> Iterator[bytes]:
    with failures():
        yield from chunks
