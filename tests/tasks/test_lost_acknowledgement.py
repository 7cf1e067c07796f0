"""A message whose acknowledgement Redis never got."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from deploy.local.redis_server import RedisServer
from tasks.identifiers import new_id
from tasks.messages import new_message_key
from tasks.queue import Queue, make_celery
from tasks.settings import Settings


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """One of its own, to be killed."""
    with RedisServer(tmp_path / "redis") as server:
        yield server


def test_it_does_not_keep_the_worker_from_the_next_message(redis_server: RedisServer) -> None:
    """kombu would count it as being worked on for ever, and a worker has one message at a time."""
    settings = Settings(
        redis_url=redis_server.url("worker"), message_keys=SecretStr(new_message_key()), scratch_dir=Path("/")
    )
    app = make_celery(settings)
    queue, received = Queue(app), list[Any]()
    for _ in range(2):
        queue.enqueue(new_id("job"))
    with app.connection_for_read() as connection:
        consumer = app.amqp.TaskConsumer(connection, on_message=received.append)
        consumer.qos(prefetch_count=1)
        consumer.consume()
        connection.drain_events(timeout=5)
        assert (len(received), consumer.channel.qos.can_consume()) == (1, False)
        redis_server.kill()
        with pytest.raises(redis.ConnectionError):
            received[0].ack()
        redis_server.start()
        assert consumer.channel.qos.can_consume()
        # It asks for the next one, and so learns that its connection is gone: the worker makes another.
        with pytest.raises(redis.ConnectionError):
            connection.drain_events(timeout=5)
