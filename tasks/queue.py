"""The queue: Celery on Redis, configured so that a message is never lost for long nor stranded.

A message is only a hint that a job is there to be claimed; it holds nothing but a job's id, signed
(``tasks.messages``). What else lies in the queue is dropped before Celery sees it (``tasks.broker``). Which
job is claimed for it the job store decides (``tasks.store``), so any message is as good as another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from celery import Celery

from tasks.broker import SealedAmqp
from tasks.messages import RUN_JOB, MessageRefused, Seal, sealed
from tasks.settings import Settings

__all__ = [
    "DEFAULT_QUEUE",
    "JOB_QUEUES",
    "RUN_JOB",
    "SCHEDULES",
    "WEBHOOKS",
    "Queue",
    "make_celery",
    "queue_of",
]

DEFAULT_QUEUE = "tensorflow"
# Jobs wait in the queue of their model's framework, which has its name.
JOB_QUEUES = (DEFAULT_QUEUE, "torch")
# Those of the courier.
WEBHOOKS = "webhooks"
SCHEDULES = "schedules"

_CHUNK = 500
_PRIORITY_SEPARATOR = ":"


def queue_of(framework: str) -> str:
    """Where jobs with models of `framework` wait; ValueError for one that no worker has."""
    if framework not in JOB_QUEUES:
        raise ValueError(f"no queue is for models of {framework!r}")
    return framework


def make_celery(settings: Settings, *, patient: bool = True) -> Celery:
    """A Celery application for sending; the worker adds its tasks and steps (``tasks.celery``). Where a
    caller waits for it, it is not to be `patient`: what is not announced the reaper announces."""
    app = Celery("tasks", set_as_current=False, amqp=SealedAmqp)
    app.seal = Seal.of(settings)
    app.conf.update(
        broker_url=settings.redis_url,
        broker_connection_retry_on_startup=True,
        broker_transport_options=_transport_options(settings, patient=patient),
        # With the threads pool a Redis result backend lost acknowledgements when Redis restarted.
        result_backend=None,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        task_default_queue=DEFAULT_QUEUE,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        # True loses jobs: they are cancelled and acknowledged.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=True,
        worker_redirect_stdouts=False,
        # A connection that was kept may be one to a Redis that has been restarted since.
        task_publish_retry_policy={
            "max_retries": 3 if patient else 1,
            "interval_start": 0,
            "interval_step": 0.2,
        },
    )
    return app


def _transport_options(settings: Settings, *, patient: bool) -> dict[str, Any]:
    return {
        # Short, and kept alive by tasks.heartbeat while a job runs.
        "visibility_timeout": settings.visibility_timeout_s,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 30,
        "queue_order_strategy": "round_robin",
        "sep": _PRIORITY_SEPARATOR,
        "socket_timeout": 10 if patient else 2,
        "socket_connect_timeout": 5 if patient else 1,
        "socket_keepalive": True,
        "health_check_interval": 10,
    }


class Queue:
    """Sends hints, and can tell for which jobs one is still on its way."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery

    def enqueue(self, job_id: str, *, queue: str = DEFAULT_QUEUE) -> None:
        """Announce a job; kombu's OperationalError when the broker cannot be reached, NoMessageKey."""
        self.send(RUN_JOB, job_id, queue=queue)

    def send(self, task: str, id: str, *, queue: str) -> None:
        """Ask for `task` to be done for the record `id`; the same errors."""
        arguments = [id, self._celery.seal.sign(id, task)]
        self._celery.send_task(task, args=arguments, queue=queue, ignore_result=True)

    def waiting(self, queue: str = DEFAULT_QUEUE) -> int:
        """How many messages about jobs nobody has taken from `queue` yet."""
        with self._celery.connection_for_read() as connection:
            messages = _waiting(connection.default_channel, queue)
            return sum(_job_id(raw, self._celery.seal) is not None for raw in messages)

    def hinted(self, queue: str = DEFAULT_QUEUE) -> set[str]:
        """Ids of the jobs whose message waits in `queue`, or was delivered and not yet acknowledged."""
        with self._celery.connection_for_read() as connection:
            channel = connection.default_channel
            messages = [*_waiting(channel, queue), *_unacknowledged(channel)]
        seal = self._celery.seal
        return {job_id for raw in messages if (job_id := _job_id(raw, seal)) is not None}


def _waiting(channel: Any, queue: str) -> Iterator[Any]:
    position = 0
    while found := channel.client.lrange(queue, position, position + _CHUNK - 1):
        yield from found
        position += _CHUNK


def _unacknowledged(channel: Any) -> Iterator[Any]:
    for _, raw in channel.client.hscan_iter(channel.unacked_key, count=_CHUNK):
        yield raw


def _job_id(raw: bytes | str, seal: Seal) -> str | None:
    """The job a message is about; None for one that is not of ours or cannot be read."""
    try:
        message = json.loads(raw)
        # As kombu keeps it until it is acknowledged: with exchange and routing key.
        task, job_id, signature = sealed(message[0] if isinstance(message, list) and message else message)
    except (MessageRefused, ValueError, RecursionError):
        return None
    return job_id if task == RUN_JOB and seal.accepts(job_id, signature) else None
