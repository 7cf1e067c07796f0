"""What ``/metrics`` says of everything that is not a request: asked of Redis at each scrape.

A scrape asks for counts, oldest entries and counters, in three round trips, and never goes through jobs; what
it costs grows with the number of projects alone. Histograms and counters of attempts are kept by the job
store's scripts, so they are of all workers since Redis was set up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import redis
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from featherweight.job import JobState
from service.services import Services
from tasks.presence import workers
from tasks.queue import JOB_QUEUES, SCHEDULES, WEBHOOKS
from tasks.recordstore import text
from tasks.retention.removal import REMOVING
from tasks.retention.sweeper import Progress

__all__ = ["StateMetrics"]

_log = logging.getLogger(__name__)

_WORKER_STATES = ("starting", "ready", "unusable")

# What is looked after by when it is due: the name of its metrics, and the zsets of ids by that time.
_AGENDAS = {
    "webhooks": ("fw:webhooks:due", "fw:webhooks:due:slow", "fw:webhooks:due:failing"),
    "schedules": ("fw:schedules:due",),
    "batches": ("fw:batches-due",),
}
_HISTOGRAMS = {
    "queued": ("featherweight_job_queued_seconds", "Time from being queued until an attempt began."),
    "running": ("featherweight_attempt_seconds", "Time that attempts took, however they ended."),
}


@dataclass(frozen=True)
class _Found:
    """What one pipeline answered, by what was asked for. `now` is Redis' clock in seconds."""

    now: float
    answers: Mapping[str, Any]

    def count(self, key: str) -> float:
        return float(self.answers[f"zcard {key}"])

    def oldest(self, key: str) -> float | None:
        """The lowest score."""
        rows = self.answers[f"zrange {key}"]
        return float(rows[0][1]) if rows else None

    def late(self, *keys: str) -> float:
        """How many seconds ago the first of what is due was due; 0 when nothing is."""
        due = [at for at in map(self.oldest, keys) if at is not None]
        return max(0.0, self.now - min(due)) if due else 0.0


class StateMetrics(Collector):
    def __init__(self, services: Services) -> None:
        self._services = services
        self._redis = services.redis

    def collect(self) -> Iterable[Metric]:
        """``featherweight_redis_up`` alone when Redis is away: the metrics of requests are worth having all
        the same."""
        up = GaugeMetricFamily("featherweight_redis_up", "Whether Redis answered this scrape.")
        try:
            families = list(self._families())
        except redis.RedisError as error:
            _log.warning("a scrape without Redis: %s", type(error).__name__)
            up.add_metric((), 0)
            return [up]
        up.add_metric((), 1)
        return [up, *families]

    def _families(self) -> Iterator[Metric]:
        found = self._asked()
        yield from self._jobs()
        yield from self._queues(found)
        yield from self._attempts(found)
        yield from self._agendas(found)
        yield from self._workers()
        yield from self._retention(found, self._services.sweeper.progress())

    def _asked(self) -> _Found:
        """Everything that is one command, in one round trip."""
        seconds, microseconds = self._redis.time()
        now = seconds + microseconds / 1e6
        pipeline = self._redis.pipeline(transaction=False)
        names: list[str] = []

        def ask(name: str, _queued: Any) -> None:
            names.append(name)

        ask("reaper", pipeline.get("fw:reaper:looked"))
        ask("reasons", pipeline.hgetall("fw:attempts:reasons"))
        ask("uploads", pipeline.zcard("fw:uploads-expiring"))
        ask("leftovers", pipeline.zcard("fw:leftovers"))
        ask("expired leases", pipeline.zcount("fw:leases", "-inf", now))
        for what in _HISTOGRAMS:
            ask(what, pipeline.hgetall(f"fw:seconds:{what}"))
        for queue in (*JOB_QUEUES, WEBHOOKS, SCHEDULES):
            ask(f"llen {queue}", pipeline.llen(queue))
        agendas = [key for keys in _AGENDAS.values() for key in keys]
        waiting = [f"fw:waiting:{queue}" for queue in JOB_QUEUES]
        for key in (*waiting, "fw:leases", "fw:unsettled", REMOVING, *agendas):
            ask(f"zcard {key}", pipeline.zcard(key))
            ask(f"zrange {key}", pipeline.zrange(key, 0, 0, withscores=True))
        return _Found(now, dict(zip(names, pipeline.execute(), strict=True)))

    def _jobs(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily("featherweight_jobs", "Jobs stored, by state.", labels=("state",))
        projects = {text(name) for name in self._redis.smembers("fw:projects")}
        pipeline = self._redis.pipeline(transaction=False)
        for state in JobState:
            for project in projects:
                pipeline.zcard(f"fw:jobs:{project}:state:{state}")
        counted = iter(pipeline.execute())
        for state in JobState:
            gauge.add_metric((state.value,), sum(next(counted) for _ in projects))
        yield gauge

    def _queues(self, found: _Found) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("featherweight_queue_jobs", "Jobs queued.", labels=("queue",))
        for queue in JOB_QUEUES:
            jobs.add_metric((queue,), found.count(f"fw:waiting:{queue}"))
        yield jobs
        age = GaugeMetricFamily(
            "featherweight_queue_oldest_seconds", "How long the first of them has waited.", labels=("queue",)
        )
        for queue in JOB_QUEUES:
            age.add_metric((queue,), found.late(f"fw:waiting:{queue}"))
        yield age
        messages = GaugeMetricFamily(
            "featherweight_queue_messages", "Messages at the broker, taken ones aside.", labels=("queue",)
        )
        for queue in (*JOB_QUEUES, WEBHOOKS, SCHEDULES):
            messages.add_metric((queue,), found.answers[f"llen {queue}"])
        yield messages

    def _attempts(self, found: _Found) -> Iterator[Metric]:
        reasons = CounterMetricFamily(
            "featherweight_attempts_ended", "Attempts at jobs that ended, by why.", labels=("reason",)
        )
        for reason, count in sorted(_texts(found.answers["reasons"]).items()):
            reasons.add_metric((reason,), float(count))
        yield reasons
        for what, (name, documentation) in _HISTOGRAMS.items():
            yield _histogram(name, documentation, _texts(found.answers[what]))
        until = found.oldest("fw:leases")
        renewed = 0.0 if until is None else found.now - (until - self._services.settings.lease_s)
        yield _gauge("featherweight_leases", "Attempts that hold a job.", found.count("fw:leases"))
        yield _gauge(
            "featherweight_leases_expired",
            "Leases that ran out and were not taken away yet.",
            found.answers["expired leases"],
        )
        yield _gauge(
            "featherweight_lease_oldest_renewal_seconds",
            "How long ago the lease was renewed that has not been for the longest time.",
            max(0.0, renewed),
        )
        yield _gauge(
            "featherweight_unsettled_jobs",
            "Jobs that ended and whose result is not written or told yet.",
            found.count("fw:unsettled"),
        )
        yield _gauge(
            "featherweight_unsettled_late_seconds",
            "Since when the reaper should have settled the first of them.",
            found.late("fw:unsettled"),
        )
        yield _gauge(
            "featherweight_reaper_looked_timestamp_seconds",
            "When a reaper last had done all there was to do.",
            float(found.answers["reaper"] or 0),
        )

    def _agendas(self, found: _Found) -> Iterator[Metric]:
        for what, keys in _AGENDAS.items():
            yield _gauge(
                f"featherweight_{what}_waiting",
                f"Those of {what} that have a time to be looked at.",
                sum(map(found.count, keys)),
            )
            yield _gauge(
                f"featherweight_{what}_late_seconds",
                "How long ago the first of them was due; 0 when none is.",
                found.late(*keys),
            )
        yield _gauge(
            "featherweight_uploads_open", "Uploads in parts that have begun.", found.answers["uploads"]
        )

    def _workers(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily("featherweight_workers", "Workers that are there.", labels=("state",))
        there = list(workers(self._redis).values())
        states: list[str] = [worker.state for worker in there]
        for state in _WORKER_STATES:
            gauge.add_metric((state,), states.count(state))
        yield gauge
        serving = GaugeMetricFamily(
            "featherweight_queue_workers", "Workers that take jobs from it.", labels=("queue",)
        )
        for queue in JOB_QUEUES:
            ready = [each for each in there if each.state == "ready" and each.serves(queue)]
            serving.add_metric((queue,), len(ready))
        yield serving

    def _retention(self, found: _Found, progress: Progress) -> Iterator[Metric]:
        yield _gauge(
            "featherweight_retention_running", "0 when an operator has stopped the sweeper.", progress.running
        )
        removed = CounterMetricFamily(
            "featherweight_retention_removed",
            "Things that reached the age they are kept to.",
            labels=("kind",),
        )
        for kind in ("artifacts", "datasets", "jobs", "models"):
            removed.add_metric((kind,), progress.removed.get(kind, 0))
        yield removed
        yield _gauge(
            "featherweight_retention_turned_timestamp_seconds",
            "When the sweeper last had a turn.",
            progress.turned_at.timestamp() if progress.turned_at else 0,
        )
        yield _gauge(
            "featherweight_retention_round_ended_timestamp_seconds",
            "When it last had been through everything.",
            progress.round_ended_at.timestamp() if progress.round_ended_at else 0,
        )
        yield _gauge(
            "featherweight_removing", "Things removed whose bytes are still to go.", found.count(REMOVING)
        )
        yield _gauge(
            "featherweight_removing_oldest_seconds",
            "How long the first of them has waited.",
            found.late(REMOVING),
        )
        yield _gauge(
            "featherweight_leftover_objects",
            "Objects noted to be removed because no record came of them.",
            found.answers["leftovers"],
        )


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=value)


def _histogram(name: str, documentation: str, fields: Mapping[str, str]) -> Metric:
    bounds = sorted((float(bound), bound) for bound in fields if bound not in ("sum", "+Inf"))
    total, buckets = 0, []
    for _, bound in bounds:
        total += int(fields[bound])
        buckets.append((bound, total))
    buckets.append(("+Inf", total + int(fields.get("+Inf", 0))))
    return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=float(fields.get("sum", 0)))


def _texts(fields: Mapping[Any, Any]) -> dict[str, str]:
    return {text(name): text(value) for name, value in fields.items()}
