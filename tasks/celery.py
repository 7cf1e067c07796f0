"""The worker: ``celery -A tasks worker -Q tensorflow``, ``-Q torch``, or both with a comma.

SIGTERM gives its jobs back to the queue and ends it. Its environment needs nothing but the settings
of ``tasks.settings``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from celery import Celery, bootsteps, signals
from celery.exceptions import Reject, WorkerShutdown

from tasks.heartbeat import Heartbeat
from tasks.listeners import attendants
from tasks.presence import Presence
from tasks.python_version import warn_if_outdated
from tasks.queue import RUN_JOB, Queue, make_celery
from tasks.readiness import become_ready
from tasks.reaper import Reaper
from tasks.sandbox.children import Runners
from tasks.settings import Settings
from tasks.settle import Settler
from tasks.solitude import keep_alone
from tasks.storage import Storage
from tasks.store import JobStore, connect
from tasks.supervisor import Supervisor
from tasks.warming import warm_targets

__all__ = ["app", "make_worker"]


# A worker that can do no job rests so long between two looks at whether it can.
_UNFIT_S = 5.0


class _Parts:
    """What a worker is made of. Nothing is connected or started before `start`."""

    def __init__(self, settings: Settings, celery: Celery) -> None:
        client = connect(settings)
        self._settings = settings
        store, storage, queue = JobStore(client, settings), Storage(settings), Queue(celery)
        self.seal = celery.seal
        self.runners = Runners((), settings.scratch_dir / ".home")
        besides = attendants(settings, client, store, storage, queue)
        settler = Settler(store, storage, besides.listeners)
        self.supervisor = Supervisor(settings, client, store, storage, queue, self.runners, settler)
        self.reaper = Reaper(settings, client, store, storage, queue, settler=settler, chores=besides.chores)
        self.presence = Presence(client, self.supervisor.worker, self.supervisor.fitness.why_not)

    def start(self, queues: Iterable[str]) -> None:
        """Returns once jobs of `queues` can be taken; WorkerShutdown when that is not to be any more."""
        served = tuple(queues)
        warn_if_outdated()
        self.seal.check()
        self.presence.queues = served
        self.presence.start()
        self.runners.warm_up(warm_targets(self._settings, served))
        self.reaper.start()
        if not become_ready(self._settings, self.runners, self.presence, self.supervisor.stop_asked):
            self.stop()
            raise WorkerShutdown(0)

    def stop(self) -> None:
        self.supervisor.stop()
        self.presence.stop()
        self.reaper.stop()


class _Supervision(bootsteps.StartStopStep):  # type: ignore[misc]
    """A step of the worker, stopped before the pool waits for its threads."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        worker.app.parts.start(worker.app.amqp.queues.consume_from)

    def stop(self, worker: Any) -> None:
        worker.app.parts.stop()

    terminate = stop


def make_worker(settings: Settings) -> Celery:
    # Ours alone: --loglevel is about Celery and the rest.
    logging.getLogger("tasks").setLevel(settings.log_level)
    app = make_celery(settings)
    app.conf.update(worker_pool="threads", worker_concurrency=settings.worker_concurrency)
    app.parts = parts = _Parts(settings, app)
    keep_alone(app)
    app.steps["worker"].add(_Supervision)
    app.steps["consumer"].add(Heartbeat)

    @app.task(name=RUN_JOB, bind=False)  # type: ignore[untyped-decorator]
    def run_job(job_id: str, signature: str) -> None:
        if not parts.seal.accepts(job_id, signature):
            raise Reject("the signature fits none of the keys", requeue=False)
        if parts.supervisor.stopping:
            raise Reject("this worker is shutting down", requeue=True)
        if (why := parts.supervisor.fitness.why_not()) is not None:
            logging.getLogger(__name__).warning("%s is not taken: %s", job_id, why)
            parts.presence.say()
            # Somebody else may take the job; if nobody does, it comes back.
            parts.supervisor.stop_asked.wait(_UNFIT_S)
            raise Reject(why, requeue=True)
        parts.supervisor.run(job_id)

    # Sooner than the step above, which has to wait for the connection to close.
    signals.worker_shutting_down.connect(lambda **_: parts.supervisor.stop(), weak=False)
    return app


app = make_worker(Settings())
