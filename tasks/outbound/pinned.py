"""Connections to an address that was looked at first.

A host's name is resolved once. Every address it has must be public; the connection is made to one of those
very addresses, while the name stays in the Host header, in SNI and in what the certificate is checked
against. So a name that resolves to something else a moment later gains nothing. Proxies of the environment
are not used.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

from tasks.outbound.addresses import Address, is_never_allowed, is_public
from tasks.outbound.urls import Target, UrlNotAllowed

__all__ = ["Deadline", "FetchFailed", "Resolve", "failures", "opened", "resolve", "system_resolve"]

Resolve = Callable[[str, int], Sequence[str]]
"""The addresses of a host, as text; OSError when it has none."""

_AT_MOST_ADDRESSES = 4
_NO_PUBLIC_ADDRESS = "the host has no address, or not only public ones"


class FetchFailed(Exception):
    """The URL was allowed, but there is no whole answer. The text is for the caller, `code` for programs:
    timeout, connection_failed, tls_failed, protocol_error or, where an answer came that is not wanted,
    bad_answer."""

    def __init__(self, detail: str, code: str = "bad_answer") -> None:
        super().__init__(detail)
        self.code = code


class Deadline:
    """A moment `seconds` from now, which may be moved forward."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds; negative once it has passed."""
        return self._at - time.monotonic()

    def at_most(self, seconds: float) -> None:
        """No later than `seconds` from now."""
        self._at = min(self._at, time.monotonic() + seconds)


@contextmanager
def opened(
    method: str,
    target: Target,
    *,
    headers: Mapping[str, str],
    body: bytes | None = None,
    find: Resolve,
    deadline: Deadline,
    timeout_s: float,
    ssl_context: ssl.SSLContext | None,
) -> Iterator[httpcore.Response]:
    """The answer to one request, its body still to be read, as long as the block runs.

    No wait goes beyond `deadline`; `timeout_s` is for the resolver, for connecting, and for every silence.
    UrlNotAllowed for a host with an address that is not allowed. FetchFailed when the host cannot be reached,
    is silent or too slow, or speaks no HTTP.
    """
    backend = _PinnedBackend(target, find, deadline, timeout_s)
    url = httpcore.URL(
        scheme=target.origin.scheme, host=target.origin.host, port=target.origin.port, target=target.path
    )
    always = {"Host": target.host_header, "Accept-Encoding": "identity", "Connection": "close"}
    sent = [(name.encode("ascii"), value.encode("ascii")) for name, value in {**always, **headers}.items()]
    with (
        failures(),
        httpcore.ConnectionPool(
            ssl_context=ssl_context or httpx.create_ssl_context(), network_backend=backend
        ) as pool,
        pool.stream(
            method,
            url,
            headers=sent,
            content=body,
            extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)},
        ) as response,
    ):
        yield response


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


def system_resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(address[0]) for *_, address in found]


class _PinnedBackend(httpcore.NetworkBackend):
    """Connects to what `resolve` allows for the one target, whatever it is asked for."""

    def __init__(self, target: Target, find: Resolve, deadline: Deadline, timeout_s: float) -> None:
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
        return max(0.001, self._deadline.left)


class _UntilDeadline(httpcore.NetworkStream):
    """A connection that no trickle of bytes keeps open: no wait goes beyond the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
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
        left = self._deadline.left
        if left <= 0:
            raise over("the deadline has passed")
        return left if timeout is None else min(timeout, left)


@contextmanager
def failures() -> Iterator[None]:
    """httpcore's errors as FetchFailed."""
    try:
        yield
    except httpcore.TimeoutException:
        raise FetchFailed("the host was silent or too slow", "timeout") from None
    except httpcore.ProtocolError:
        raise FetchFailed("the host broke off, or speaks no HTTP/1.1", "protocol_error") from None
    except (httpcore.NetworkError, ssl.SSLError) as error:
        raise _network_failure(error) from None


def _network_failure(error: Exception) -> FetchFailed:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return FetchFailed("the host's certificate is not to be trusted", "tls_failed")
    if isinstance(error, ssl.SSLError) or "[SSL" in str(error):
        return FetchFailed("no TLS connection could be made with the host", "tls_failed")
    return FetchFailed("the host cannot be reached, or broke off", "connection_failed")
