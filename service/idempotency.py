"""``Idempotency-Key``: a creating POST sent twice creates once.

For every key of a project a ledger entry holds a fingerprint of the request, the id that what is
created shall have, and, once there is one, the answer. So

- the same key and request again: the first answer again, with ``Idempotency-Replayed: true``
- the same key, another request: 422 idempotency_key_reused
- while the first is still at work: 409 idempotency_key_in_flight
- the first was refused: nothing was created, the entry is dropped, and the key is free
- the first broke off (5xx, a dead process): the entry stays without an answer, and the next try
  makes what was half made under the same id

The fingerprint of a JSON request covers its value, not its spelling. A file that is streamed cannot
be known before it has been read: its fingerprint covers length and announced sha256, and on a replay
the bytes are read once more and compared with the sha256 of what was stored.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
from flask import Response, request
from pydantic import BaseModel

from service.errors import ProblemError
from service.locks import Busy, KeepAlive, held
from tasks.identifiers import Kind, new_id
from tasks.submission import SubmissionRefused

__all__ = ["Attempt", "Ledger", "json_fingerprint"]

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_KEPT_HEADERS = ("Content-Type", "Location", "Retry-After")


class Answer(BaseModel):
    """An answer as it is remembered."""

    status: int
    headers: dict[str, str]
    body: str

    @classmethod
    def of(cls, response: Response) -> Answer:
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        return cls(status=response.status_code, headers=headers, body=response.get_data(as_text=True))

    def replay(self) -> Response:
        response = Response(self.body, status=self.status, headers=self.headers)
        response.headers["Idempotency-Replayed"] = "true"
        return response


class Entry(BaseModel):
    fingerprint: str
    resource_id: str
    answer: Answer | None = None


@dataclass(frozen=True)
class Attempt:
    """One try at creating something: the id it shall have; `keep_alive` is for work of minutes."""

    resource_id: str
    keep_alive: KeepAlive


Make = Callable[[Attempt], Response]
SameBody = Callable[[Answer], bool]


class Ledger:
    def __init__(self, client: redis.Redis, expiry_s: int) -> None:
        self._redis = client
        self._expiry_s = expiry_s

    def once(
        self, project: str, kind: Kind, fingerprint: str, make: Make, same_body: SameBody | None = None
    ) -> Response:
        """What `make` answers, at most once for the request's Idempotency-Key if it has one.

        `same_body` says, where the fingerprint does not cover the body, whether the request has the
        body that was answered with `Answer`.
        """
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return make(Attempt(new_id(kind), lambda: None))
        if not _KEY.fullmatch(key):
            raise ProblemError("bad_request", "an Idempotency-Key is 1 to 255 printable ASCII characters")
        name = self._name(project, key)
        fingerprint = _digest([request.method, request.path, _query(), fingerprint])
        return self._replayed(name, fingerprint, same_body) or self._first(
            name, kind, fingerprint, make, same_body
        )

    def _first(
        self, name: str, kind: Kind, fingerprint: str, make: Make, same_body: SameBody | None
    ) -> Response:
        try:
            with held(self._redis, name) as keep_alive:
                # It may have been answered between the first look and the lock.
                replayed = self._replayed(name, fingerprint, same_body)
                if replayed is not None:
                    return replayed
                entry = self._load(name) or Entry(fingerprint=fingerprint, resource_id=new_id(kind))
                self._save(name, entry)
                return self._make(name, entry, make, keep_alive)
        except Busy:
            raise ProblemError(
                "idempotency_key_in_flight",
                "the first request with this Idempotency-Key has not been answered yet",
                headers={"Retry-After": "1"},
            ) from None

    def _make(self, name: str, entry: Entry, make: Make, keep_alive: KeepAlive) -> Response:
        try:
            response = make(Attempt(entry.resource_id, keep_alive))
        except (ProblemError, SubmissionRefused) as error:
            if error.status < 500:
                self._redis.delete(name)
            raise
        self._save(name, entry.model_copy(update={"answer": Answer.of(response)}))
        return response

    def _replayed(self, name: str, fingerprint: str, same_body: SameBody | None) -> Response | None:
        entry = self._load(name)
        if entry is None:
            return None
        if entry.fingerprint != fingerprint:
            raise _reused()
        if entry.answer is None:
            return None
        if same_body is not None and not same_body(entry.answer):
            raise _reused()
        return entry.answer.replay()

    def _load(self, name: str) -> Entry | None:
        stored: Any = self._redis.get(name)
        return None if stored is None else Entry.model_validate_json(stored)

    def _save(self, name: str, entry: Entry) -> None:
        self._redis.set(name, entry.model_dump_json(), ex=self._expiry_s)

    def _name(self, project: str, key: str) -> str:
        return f"fw:idempotency:{project}:{_digest(key)}"


def json_fingerprint(body: Any) -> str:
    return _digest(body)


def _query() -> list[tuple[str, str]]:
    return sorted(request.args.items(multi=True))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _reused() -> ProblemError:
    return ProblemError(
        "idempotency_key_reused",
        "this Idempotency-Key belongs to another request",
        hint="make a new key for every thing to be created, and send it again only with the same body",
    )
