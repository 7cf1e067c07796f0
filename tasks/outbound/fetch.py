"""One GET of a caller's URL, to an address that was looked at first.

A host's name is resolved once. Every address it has must be public; the connection is made to one of those
very addresses, while the name stays in the Host header, in SNI and in what the certificate is checked
against. So a name that resolves to something else a moment later gains nothing. Redirects are answers like
any other that is not 200: nobody follows them. Proxies of the environment are not used.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from tasks.outbound.addresses import Address, is_never_allowed, is_public
from tasks.outbound.urls import Policy, Target, UrlNotAllowed

__all__ = ["Answer", "FetchFailed", "Fetcher", "Resolve", "resolve"]

Resolve = Callable[[str, int], Sequence[str]]
"""The addresses of a host, as text; OSError when it has none."""

_AT_MOST_ADDRESSES = 4
_NO_PUBLIC_ADDRESS = "the host has no address, or not only public ones"


class FetchFailed(Exception):
    """The URL was allowed, but there is no whole answer. The text is for the caller."""


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
        self._resolve = resolve or _system_resolve
        self._ssl_context = ssl_context

    @contextmanager
    def get(self, url: str, *, within_s: float) -> Iterator[Answer]:
        """The answer to GET `url`, which is open as long as the block runs and at most `within_s`.

        UrlNotAllowed before anything is sent. FetchFailed when the host cannot be reached, is silent or
        too slow, or answers with anything but a 200 that says how long it is and is not compressed.
        """
        target = self.policy.target(url)
        deadline = time.monotonic() + within_s
        backend = _PinnedBackend(target, self._resolve, deadline, self._timeout_s)
        with (
            _failures(),
            httpcore.ConnectionPool(
                ssl_context=self._ssl_context or httpx.create_ssl_context(), network_backend=backend
            ) as pool,
            pool.stream(
                "GET",
                httpcore.URL(
                    scheme=target.origin.scheme,
                    host=target.origin.host,
                    port=target.origin.port,
                    target=target.path,
                ),
                headers=self._headers(target),
                extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s)},
            ) as response,
        ):
            size = _checked_size(response)
            yield Answer(size, _translated(response.iter_stream()))

    def _headers(self, target: Target) -> dict[bytes | str, bytes | str]:
        return {
            "Host": target.host_header,
            "User-Agent": self._user_agent,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }


def resolve(find: Resolve, target: Target, timeout_s: float) -> list[str]:
    """The addresses of the target's host, all of which may be connected to; UrlNotAllowed.

    A host that is not there and one that is not public are told alike, so that nobody learns the names of
    our network.
    """
    try:
        found = _within(timeout_s, find, target.origin.host, target.origin.port)
        addresses = [ipaddress.ip_address(text) for text in dict.fromkeys(found)]
    except (OSError, ValueError, UnicodeError):
        raise UrlNotAllowed(_NO_PUBLIC_ADDRESS) from None
    if not addresses or not all(_allowed(address, target) for address in addresses):
        raise UrlNotAllowed(_NO_PUBLIC_ADDRESS)
    return [str(address) for address in addresses[:_AT_MOST_ADDRESSES]]


def _allowed(address: Address, target: Target) -> bool:
    return not is_never_allowed(address) if target.trusted else is_public(address)


def _within(timeout_s: float, find: Resolve, host: str, port: int) -> Sequence[str]:
    """getaddrinfo knows no deadline, so it is waited for from outside; TimeoutError is an OSError."""
    answer: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(find(host, port))
        except Exception as error:  # noqa: BLE001 - handed to the one who waits
            answer.put(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        found = answer.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    return found


def _system_resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(address[0]) for *_, address in found]


class _PinnedBackend(httpcore.NetworkBackend):
    """Connects to what `resolve` allows for the one target, whatever it is asked for."""

    def __init__(self, target: Target, find: Resolve, deadline: float, timeout_s: float) -> None:
        self._target = target
        self._find = find
        self._deadline = deadline
        self._timeout_s = timeout_s
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = resolve(self._find, self._target, min(self._timeout_s, self._left()))
        error: Exception = httpcore.ConnectError()
        for address in addresses:
            try:
                stream = self._sockets.connect_tcp(
                    address, port, min(timeout or self._timeout_s, self._left())
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
            else:
                return _UntilDeadline(stream, self._deadline)
        raise error

    def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        raise UrlNotAllowed(_NO_PUBLIC_ADDRESS)

    def _left(self) -> float:
        return max(0.001, self._deadline - time.monotonic())


class _UntilDeadline(httpcore.NetworkStream):
    """A connection that no trickle of bytes keeps open: no wait goes beyond the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._bounded(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._bounded(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        bounded = self._bounded(timeout, httpcore.ConnectTimeout)
        return _UntilDeadline(self._stream.start_tls(ssl_context, server_hostname, bounded), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _bounded(self, timeout: float | None, over: type[Exception]) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise over("the deadline has passed")
        return left if timeout is None else min(timeout, left)


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
    with _failures():
        yield from chunks


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except httpcore.TimeoutException:
        raise FetchFailed("the host was silent or too slow") from None
    except httpcore.ProtocolError:
        raise FetchFailed("the host broke off, or speaks no HTTP/1.1") from None
    except (httpcore.NetworkError, ssl.SSLError) as error:
        raise FetchFailed(_network_failure(error)) from None


def _network_failure(error: Exception) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "the host's certificate is not to be trusted"
    return "the host cannot be reached, or broke off"
