"""Redis clients for those who answer callers: they had rather say no than wait.

A worker waits for Redis to come back (`tasks.store.connect`). A request would only hold its thread, and
with all threads held nobody is told anything; so it gives up soon, and while Redis is silent others do not
even ask (`tasks.breaker`).
"""

from __future__ import annotations

from typing import Any, cast

import redis
import redis.client
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks.breaker import Breaker, Open
from tasks.settings import Settings

__all__ = ["ANSWER_S", "SparingRedis", "for_requests", "for_waiting", "redis_breaker"]

CONNECT_S = 1.0
# What a command of ours needs is a thousandth of this.
ANSWER_S = 2.0


def redis_breaker() -> Breaker:
    """For all clients of a process that ask the same Redis."""
    return Breaker(lambda error: isinstance(error, redis.TimeoutError))


def for_requests(settings: Settings, breaker: Breaker) -> redis.Redis:
    """Answers within ANSWER_S or raises redis.ConnectionError or redis.TimeoutError."""
    connections = settings.working_requests + settings.waiting_requests
    return _client(settings, breaker, answer_s=ANSWER_S, connections=connections)


def for_waiting(settings: Settings, breaker: Breaker, *, longest_s: float) -> redis.Redis:
    """The same for commands that block for up to `longest_s`."""
    return _client(
        settings, breaker, answer_s=longest_s + ANSWER_S, connections=settings.waiting_requests + 1
    )


def _client(settings: Settings, breaker: Breaker, *, answer_s: float, connections: int) -> redis.Redis:
    client = SparingRedis.from_url(
        settings.redis_url,
        socket_timeout=answer_s,
        socket_connect_timeout=CONNECT_S,
        socket_keepalive=True,
        # Once more at once, for a kept connection may be one to a Redis that has been restarted since.
        # Never after a silence.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        max_connections=connections,
        client_name="featherweight",
    )
    sparing = cast("SparingRedis", client)
    sparing.breaker = breaker
    return sparing


class SparingRedis(redis.Redis):
    breaker: Breaker

    def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            with self.breaker.call():
                return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except Open as error:
            raise redis.ConnectionError(str(error)) from None

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> _SparingPipeline:
        made = _SparingPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        made.breaker = self.breaker
        return made


class _SparingPipeline(redis.client.Pipeline):
    breaker: Breaker

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        try:
            with self.breaker.call():
                return super().execute(raise_on_error)
        except Open as error:
            self.reset()
            raise redis.ConnectionError(str(error)) from None
