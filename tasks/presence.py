"""Which workers there are and whether they take jobs, known to the service by Redis.

A worker says it every few seconds; what it said is forgotten soon after it stops saying it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Literal, cast

import redis
from pydantic import BaseModel, ValidationError

from tasks.queue import DEFAULT_QUEUE

__all__ = ["Presence", "WorkerStatus", "workers"]

_log = logging.getLogger(__name__)
_NAMES = "fw:workers"
_EXPIRY_S = 45
_INTERVAL_S = 10.0


class WorkerStatus(BaseModel):
    """`sandbox` is the setting; `why` says what keeps an unusable worker from taking jobs. `queues` are those
    it takes them from; None of a worker that does not say."""

    state: Literal["starting", "ready", "unusable"] = "starting"
    sandbox: str = ""
    why: str = ""
    queues: tuple[str, ...] | None = None

    def serves(self, queue: str) -> bool:
        """Whether it takes jobs from `queue`; a worker that does not say is one of TensorFlow's."""
        return queue in ((DEFAULT_QUEUE,) if self.queues is None else self.queues)


class Presence:
    """Says how the worker `name` is until it is stopped. `status` may be set at any time, and so may the
    `queues` it serves; `why_not` tells why one that is ready takes no job all the same."""

    def __init__(
        self, client: redis.Redis, name: str, why_not: Callable[[], str | None] = lambda: None
    ) -> None:
        self._redis = client
        self._name = name
        self._why_not = why_not
        self._status = WorkerStatus()
        self.queues: tuple[str, ...] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="presence", daemon=True)

    @property
    def status(self) -> WorkerStatus:
        return self._status

    @status.setter
    def status(self, status: WorkerStatus) -> None:
        self._status = status
        self.say()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Say that the worker is gone."""
        self._over.set()
        try:
            pipe = self._redis.pipeline()
            pipe.srem(_NAMES, self._name)
            pipe.delete(_key(self._name))
            pipe.execute()
        except redis.RedisError as error:
            _log.warning("cannot say that this worker is gone: %s", error)

    def _work(self) -> None:
        while True:
            self.say()
            if self._over.wait(_INTERVAL_S):
                return

    def say(self) -> None:
        """How it is now."""
        status, why = self._status, self._why_not() if self._status.state == "ready" else None
        if why is not None:
            status = status.model_copy(update={"state": "unusable", "why": why})
        if self.queues is not None:
            status = status.model_copy(update={"queues": self.queues})
        try:
            pipe = self._redis.pipeline()
            pipe.sadd(_NAMES, self._name)
            pipe.set(_key(self._name), status.model_dump_json(), ex=_EXPIRY_S)
            pipe.execute()
        except redis.RedisError as error:
            _log.warning("cannot say how this worker is: %s", error)


def workers(client: redis.Redis) -> dict[str, WorkerStatus]:
    """Those that are there, by name. redis.RedisError."""
    names = sorted(name.decode() for name in cast("set[bytes]", client.smembers(_NAMES)))
    if not names:
        return {}
    said = cast("list[bytes | None]", client.mget([_key(name) for name in names]))
    gone = [name for name, status in zip(names, said, strict=True) if status is None]
    if gone:
        client.srem(_NAMES, *gone)
    found: dict[str, WorkerStatus] = {}
    for name, status in zip(names, said, strict=True):
        if status is None:
            continue
        try:
            found[name] = WorkerStatus.model_validate_json(status)
        except ValidationError:
            # Of another version than ours: it is there, and that is all we know.
            found[name] = WorkerStatus(state="starting")
    return found


def _key(name: str) -> str:
    return f"fw:worker:{name}"
