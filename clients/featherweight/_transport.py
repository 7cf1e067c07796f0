"""Requests to the API: authentication, retries, and answers turned into values or typed errors.

Two connections are kept apart on purpose. `Session` talks to the API and carries the key; `Storage`
talks to the hosts of presigned URLs and never does.
"""

from __future__ import annotations

import logging
import platform
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from featherweight._retry import Clock, Deadline, RetryPolicy, retry_after
from featherweight._version import version
from featherweight.errors import (
    APIError,
    ConfigurationError,
    ConnectionFailed,
    FeatherweightError,
    RequestTimeout,
    UnexpectedResponse,
    api_error,
)
from featherweight.problem import Problem

__all__ = ["DEFAULT_TIMEOUT", "Session", "Storage", "connection_error", "decode"]

log = logging.getLogger("featherweight")

DEFAULT_TIMEOUT = httpx.Timeout(60.0, connect=10.0)

# GET, HEAD and DELETE may be sent twice by definition; a POST only under an Idempotency-Key, or
# where the caller says that sending it twice does no harm.
# A PATCH of this API says what is to be, so once or twice is the same.
_REPEATABLE_METHODS = frozenset({"GET", "HEAD", "DELETE", "PUT", "PATCH"})
_RETRIED_STATUSES = frozenset({429, 502, 503, 504})
# The connection was never made, so nothing was sent: any request may be tried again.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_QUOTED_FROM_A_STRANGE_ANSWER = 200

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
Body = Callable[[], Iterable[bytes]]
"""Makes the stream of a body anew for every attempt."""


class Session:
    """The connection to the API. Safe to share between threads."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        *,
        timeout: float | httpx.Timeout = DEFAULT_TIMEOUT,
        policy: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.base_url = _checked_url(base_url)
        self.policy = policy or RetryPolicy()
        self.clock = clock or Clock()
        self.has_key = bool(api_key)
        headers = {"User-Agent": _user_agent(), "Accept": "application/json"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        try:
            self._http = httpx.Client(headers=headers, timeout=timeout, transport=transport)
        except UnicodeEncodeError:
            raise ConfigurationError("the API key contains characters that no key has") from None

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, type_: type[M], *, params: Mapping[str, Any] | None = None) -> M:
        return decode(self.request("GET", path, params=params), type_)

    def post(
        self,
        path: str,
        *,
        json: Any = None,
        body: Body | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        idempotency_key: str | None = None,
    ) -> httpx.Response:
        """A POST that may be repeated: all its attempts carry the same Idempotency-Key."""
        key = idempotency_key or str(uuid.uuid4())
        sent = {**(headers or {}), "Idempotency-Key": key}
        return self.request("POST", path, json=json, body=body, params=params, headers=sent, timeout=timeout)

    def probe(self, path: str) -> httpx.Response:
        """One GET without a retry, answered whatever its status. Raises ConnectionFailed."""
        request = self._build("GET", path, None, None, None, None, None)
        try:
            return self._http.send(request)
        except httpx.HTTPError as error:
            raise connection_error(error, str(request.url)) from error

    def delete(self, path: str) -> None:
        self.request("DELETE", path)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        body: Body | None = None,
        timeout: float | None = None,
        deadline: Deadline | None = None,
    ) -> httpx.Response:
        """The answer, read to its end; its status is below 300 or 304.

        Raises APIError, ConnectionFailed or UnexpectedResponse once the retries are used up. No
        retry is begun that would have to wait past `deadline`.
        """
        with self.stream(
            method,
            path,
            params=params,
            headers=headers,
            json=json,
            body=body,
            timeout=timeout,
            deadline=deadline,
        ) as response:
            try:
                response.read()
            except httpx.HTTPError as error:
                raise connection_error(error, str(response.url)) from error
        if response.has_redirect_location:
            raise UnexpectedResponse(
                f"{response.url} redirects to {response.headers['Location']}: is the service's URL right?"
            )
        return response

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        body: Body | None = None,
        timeout: float | None = None,
        deadline: Deadline | None = None,
    ) -> Iterator[httpx.Response]:
        """As `request`, with the body still to be read, and redirects handed to the caller."""
        response = self._send(
            lambda: self._build(method, path, params, headers, json, body, timeout),
            deadline or Deadline(self.clock, None),
        )
        try:
            yield response
        finally:
            response.close()

    def _build(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        json: Any,
        body: Body | None,
        timeout: float | None,
    ) -> httpx.Request:
        return self._http.build_request(
            method,
            f"{self.base_url}{path}",
            params={name: value for name, value in (params or {}).items() if value is not None},
            headers=headers,
            json=json,
            content=body() if body else None,
            timeout=httpx.USE_CLIENT_DEFAULT if timeout is None else httpx.Timeout(timeout, connect=10.0),
        )

    def _send(self, build: Callable[[], httpx.Request], deadline: Deadline) -> httpx.Response:
        attempt, began = 0, self.clock.now()
        while True:
            request = build()
            repeatable = request.method in _REPEATABLE_METHODS or "Idempotency-Key" in request.headers
            try:
                response = self._http.send(request, stream=True)
            except httpx.HTTPError as error:
                failure: FeatherweightError = connection_error(error, str(request.url))
                failure.__cause__ = error
                again, after = repeatable or isinstance(error, _NEVER_SENT), None
            else:
                if response.status_code < 400:
                    return response
                failure = self._failure(response)
                again = repeatable and _is_passing(failure)
                after = failure.retry_after if isinstance(failure, APIError) else None
            if again and _is_in_flight(failure):
                pause = self.policy.pause_in_flight(self.clock.now() - began, attempt, after)
            else:
                pause = self.policy.pause(attempt, after) if again else None
            if pause is None or pause >= deadline.remaining:
                raise failure
            log.info("%s %s: %s; trying again in %.1f s", request.method, request.url, failure, pause)
            self.clock.sleep(pause)
            attempt += 1

    def _failure(self, response: httpx.Response) -> FeatherweightError:
        """The error of an answer of status 400 and above. Closes it."""
        try:
            response.read()
        except httpx.HTTPError as error:
            return connection_error(error, str(response.url))
        finally:
            response.close()
        problem = _problem(response)
        if response.status_code == 401 and not self.has_key and problem.hint is None:
            hint = "no API key was given; pass api_key or set FEATHERWEIGHT_API_KEY"
            problem = problem.model_copy(update={"hint": hint})
        return api_error(
            problem,
            status=response.status_code,
            retry_after=retry_after(response.headers.get("Retry-After")),
        )


class Storage:
    """The connection to the hosts of presigned URLs: no key, no retries, no cookies."""

    def __init__(self, *, transport: httpx.BaseTransport | None = None) -> None:
        # A host that cannot be reached shall be found out soon: the API is the way round it.
        timeout = httpx.Timeout(120.0, connect=5.0)
        self._http = httpx.Client(headers={"User-Agent": _user_agent()}, timeout=timeout, transport=transport)

    def close(self) -> None:
        self._http.close()

    def put(self, url: str, body: Iterable[bytes], size: int, headers: Mapping[str, str]) -> httpx.Response:
        """Send exactly `size` bytes. Raises httpx.HTTPError; any status is answered."""
        # S3 refuses chunked bodies, so the length is said beforehand.
        return self._http.put(url, content=body, headers={**headers, "Content-Length": str(size)})

    @contextmanager
    def get(self, url: str, *, start: int = 0) -> Iterator[httpx.Response]:
        """The object from byte `start` on, undecoded. Raises httpx.HTTPError; any status is answered."""
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with self._http.stream("GET", url, headers=headers) as response:
            yield response


def decode(response: httpx.Response, type_: type[T]) -> T:
    """The body as `type_`. Raises UnexpectedResponse when it is something else."""
    try:
        return TypeAdapter(type_).validate_json(response.content)
    except ValidationError as error:
        raise UnexpectedResponse(
            f"{response.url} answered {response.status_code} with something that is not a "
            f"{getattr(type_, '__name__', type_)}: {_start_of(response)!r}"
        ) from error


def connection_error(error: httpx.HTTPError, url: str) -> ConnectionFailed:
    """What httpx says, in this library's terms."""
    address = url.split("?", 1)[0]  # the query of a presigned URL is a secret
    if isinstance(error, httpx.TimeoutException):
        return RequestTimeout(f"no answer from {address} in time ({type(error).__name__})", url=address)
    return ConnectionFailed(f"cannot reach {address}: {error or type(error).__name__}", url=address)


def _is_passing(failure: FeatherweightError) -> bool:
    """The same request may well succeed a little later."""
    if not isinstance(failure, APIError):
        return True
    return failure.status in _RETRIED_STATUSES or _is_in_flight(failure)


def _is_in_flight(failure: FeatherweightError) -> bool:
    """Sent again after a lost answer, a request can meet its own first attempt still at work; or the place of
    one that died with the service's process, which is kept for it for a minute."""
    return isinstance(failure, APIError) and failure.code == "idempotency_key_in_flight"


def _problem(response: httpx.Response) -> Problem:
    """The problem in the body, or one made up for an answer that came from something in between."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        problem = Problem(
            type="about:blank",
            title=response.reason_phrase,
            status=response.status_code,
            code=f"http_{response.status_code}",
            detail=_start_of(response) or response.reason_phrase or "no explanation given",
        )
    if problem.request_id is None:
        problem = problem.model_copy(update={"request_id": response.headers.get("X-Request-Id")})
    return problem


def _start_of(response: httpx.Response) -> str:
    text = " ".join(response.content[: 4 * _QUOTED_FROM_A_STRANGE_ANSWER].decode("utf-8", "replace").split())
    return text[:_QUOTED_FROM_A_STRANGE_ANSWER]


def _checked_url(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise ConfigurationError(f"{url!r} is not a URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigurationError(
            f"{url!r} is not the URL of a service: it must begin with http:// or https://"
        )
    return str(parsed.copy_with(query=None, fragment=None)).rstrip("/")


def _user_agent() -> str:
    return (
        f"featherweight-python/{version()} "
        f"(Python {platform.python_version()}; {platform.system()}; httpx {httpx.__version__})"
    )
