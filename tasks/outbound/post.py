"""One POST to a caller's URL, of which the status counts and a little of the body is kept."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import httpcore
import httpx

from tasks.outbound.pinned import Deadline, FetchFailed, Resolve, failures, opened, resolve, system_resolve
from tasks.outbound.urls import Policy

__all__ = ["Poster", "Reply"]

_READ_AT_MOST = 64 * 1024
# Once the status is known, the body is for people: nobody waits long for it.
_BODY_WITHIN_S = 2.0


@dataclass(frozen=True)
class Reply:
    """`headers` have lower-case names; `body` is its beginning, at most 64 KiB, undecoded."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@cache
def _system_trust() -> ssl.SSLContext:
    """The authorities of the system; to read them takes longer than most requests do."""
    return httpx.create_ssl_context()


class Poster:
    """Posts by `policy`. `timeout_s` is for a whole request, from resolving the name to the last byte.

    `resolve` and `ssl_context` are what the system has, unless given.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        user_agent: str,
        timeout_s: float = 10,
        resolve: Resolve | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.policy = policy
        self._user_agent = user_agent
        self._timeout_s = timeout_s
        self._resolve = resolve or system_resolve
        self._ssl_context = ssl_context or _system_trust()

    def check(self, url: str) -> None:
        """UrlNotAllowed for a URL that nothing would be sent to as things are. Asks the resolver."""
        resolve(self._resolve, self.policy.target(url), self._timeout_s)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """What the host answers, whatever its status: redirects are not followed.

        A body that does not come, ends early or never ends changes nothing: the status was said.
        UrlNotAllowed before anything is sent; FetchFailed when there is no status within the time.
        """
        deadline = Deadline(self._timeout_s)
        with opened(
            "POST",
            self.policy.target(url),
            headers={"User-Agent": self._user_agent, "Accept": "*/*", **headers},
            body=body,
            find=self._resolve,
            deadline=deadline,
            timeout_s=self._timeout_s,
            ssl_context=self._ssl_context,
        ) as response:
            deadline.at_most(_BODY_WITHIN_S)
            return Reply(response.status, _headers(response), _beginning(response))


def _headers(response: httpcore.Response) -> dict[str, str]:
    return {
        name.decode("latin-1").lower(): value.decode("latin-1").strip() for name, value in response.headers
    }


def _beginning(response: httpcore.Response) -> bytes:
    read = b""
    try:
        with failures():
            for chunk in response.iter_stream():
                read += chunk
                if len(read) >= _READ_AT_MOST:
                    break
    except FetchFailed:
        pass
    return read[:_READ_AT_MOST]
