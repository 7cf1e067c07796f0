"""What a scrape says of jobs, attempts, leases and what is due; rules and pages name what there is."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import redis
import yaml
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from featherweight.problem import problem
from service.services import Services
from tasks.presence import Presence, WorkerStatus
from tasks.records import Claim, Outcome
from tasks.store import connect
from tests.service.helpers import PROJECT, ROOT, Caller

RULES = ROOT / "deploy" / "prometheus-rules.yaml"
PAGE = ROOT / "docs" / "operations.md"
NAME = re.compile(r"\bfeatherweight_[a-z_]+\b")


class Scrape:
    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.samples.get((name, tuple(sorted(labels.items()))))


def scrape(app: Flask) -> Scrape:
    return Scrape(app.test_client().get("/metrics").text)


@pytest.fixture
def claimed(caller: Caller, parts: Services) -> Claim:
    caller.job()
    claim = parts.jobs.claim(caller.job(), "worker")
    assert claim is not None
    return claim


def test_queue_and_leases(app: Flask, parts: Services, claimed: Claim) -> None:
    found = scrape(app)
    assert found("featherweight_queue_jobs", queue="tensorflow") == 1
    assert found("featherweight_jobs", state="queued") == found("featherweight_jobs", state="running") == 1
    age = found("featherweight_queue_oldest_seconds", queue="tensorflow")
    assert age is not None
    assert 0 <= age < 60
    assert found("featherweight_queue_messages", queue="tensorflow") == 2
    assert found("featherweight_queue_messages", queue="webhooks") == 0
    assert found("featherweight_queue_jobs", queue="torch") == 0
    assert found("featherweight_queue_oldest_seconds", queue="torch") == 0
    assert (found("featherweight_leases"), found("featherweight_leases_expired")) == (1, 0)
    renewed = found("featherweight_lease_oldest_renewal_seconds")
    assert renewed is not None
    assert 0 <= renewed < 20
    parts.redis.zincrby("fw:waiting:tensorflow", -1000, parts.redis.zrange("fw:waiting:tensorflow", 0, 0)[0])
    parts.redis.zincrby("fw:leases", -1000, claimed.job_id)
    found = scrape(app)
    assert (found("featherweight_queue_oldest_seconds", queue="tensorflow") or 0) >= 1000
    assert (found("featherweight_lease_oldest_renewal_seconds") or 0) >= 1000
    assert found("featherweight_leases_expired") == 1
    parts.jobs.expire_leases()
    found = scrape(app)
    assert found("featherweight_queue_jobs", queue="tensorflow") == 2
    assert found("featherweight_leases") == 0
    assert found("featherweight_attempts_ended_total", reason="worker_lost") == 1


def test_attempts_by_reason_and_how_long_they_waited_and_took(
    app: Flask, caller: Caller, parts: Services, claimed: Claim
) -> None:
    parts.jobs.commit(claimed, Outcome.failed(problem("bad_model", "it is")))
    second = parts.jobs.claim(claimed.job_id, "worker")
    assert second is not None
    parts.jobs.finalizing(second)
    parts.jobs.commit(second, Outcome.succeeded([], None))
    # Asked again after a lost answer, it is counted once.
    parts.jobs.commit(second, Outcome.succeeded([], None))
    found = scrape(app)
    for reason in ("bad_model", "succeeded"):
        assert found("featherweight_attempts_ended_total", reason=reason) == 1
    for name in ("featherweight_job_queued_seconds", "featherweight_attempt_seconds"):
        assert found(f"{name}_count") == found(f"{name}_bucket", le="+Inf") == 2
        assert 0 <= (found(f"{name}_sum") or -1) < 60
        bounds = [
            (float(dict(labels)["le"]), value)
            for (sample, labels), value in found.samples.items()
            if sample == f"{name}_bucket"
        ]
        counts = [value for _, value in sorted(bounds)]
        assert counts == sorted(counts)
    assert found("featherweight_unsettled_jobs") == 2
    assert found("featherweight_unsettled_late_seconds") == 0
    parts.redis.zadd("fw:unsettled", {second.job_id: time.time() - 100})
    assert (scrape(app)("featherweight_unsettled_late_seconds") or 0) >= 99


def test_what_is_due_is_told_by_how_late_it_is(app: Flask, parts: Services) -> None:
    now = time.time()
    parts.redis.zadd("fw:webhooks:due", {"whe_a": now + 60})
    parts.redis.zadd("fw:webhooks:due:slow", {"whe_b": now - 30})
    parts.redis.zadd("fw:schedules:due", {"sch_a": now + 60})
    found = scrape(app)
    assert found("featherweight_webhooks_waiting") == 2
    assert 29 < (found("featherweight_webhooks_late_seconds") or 0) < 60
    assert (found("featherweight_schedules_waiting"), found("featherweight_schedules_late_seconds")) == (1, 0)
    assert (found("featherweight_batches_waiting"), found("featherweight_batches_late_seconds")) == (0, 0)


def test_workers_reaper_and_sweeper(app: Flask, parts: Services) -> None:
    found = scrape(app)
    assert found("featherweight_workers", state="ready") == 0
    assert found("featherweight_reaper_looked_timestamp_seconds") == 0
    assert found("featherweight_retention_running") == 1
    worker = Presence(parts.redis, "worker-1")
    worker.queues = ("torch",)
    worker.status = WorkerStatus(state="ready")
    found = scrape(app)
    assert found("featherweight_queue_workers", queue="torch") == 1
    assert found("featherweight_queue_workers", queue="tensorflow") == 0
    parts.redis.set("fw:reaper:looked", "1234.5")
    parts.sweeper.turn()
    parts.sweeper.stop()
    parts.redis.zadd("fw:removing", {"model/p/mdl_a": time.time() - 50})
    found = scrape(app)
    assert found("featherweight_workers", state="ready") == 1
    assert found("featherweight_reaper_looked_timestamp_seconds") == 1234.5
    assert found("featherweight_retention_running") == 0
    assert (found("featherweight_retention_turned_timestamp_seconds") or 0) > time.time() - 60
    assert found("featherweight_removing") == 1
    assert 49 < (found("featherweight_removing_oldest_seconds") or 0) < 100


def test_without_redis_a_scrape_says_so(app: Flask, parts: Services, settings: Any) -> None:
    away = connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    from service.state_metrics import StateMetrics

    collector = StateMetrics(parts)
    collector._redis = away
    (up,) = collector.collect()
    assert [sample.value for sample in up.samples] == [0]
    away.close()
    assert scrape(app)("featherweight_redis_up") == 1


def test_a_scrape_does_not_grow_with_the_jobs(
    app: Flask, caller: Caller, parts: Services, redis_admin: redis.Redis
) -> None:
    def commands() -> int:
        before = redis_admin.info("stats")["total_commands_processed"]
        scrape(app)
        return int(redis_admin.info("stats")["total_commands_processed"] - before)

    model = caller.model()
    record = caller.job(model_id=model)
    scrape(app)
    few = commands()
    for _ in range(20):
        caller.job(model_id=model, dataset_id=parts.jobs.get(PROJECT, record).dataset_id)
    assert commands() <= few + 2


def known(app: Flask) -> set[str]:
    """Every name a query may use."""
    app.test_client().get("/healthz")
    found = scrape(app)
    return {name for name, _ in found.samples} | set(found.families)


def test_every_metric_that_the_rules_name_exists(app: Flask, claimed: Claim, parts: Services) -> None:
    parts.jobs.commit(claimed, Outcome.failed(problem("bad_model", "it is")))
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    names = known(app)
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "0s"))
        used = NAME.findall(rule["expr"])
        assert used
        assert set(used) <= names, rule["alert"]
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_the_table_of_metrics_has_all_of_them_and_no_other(app: Flask, claimed: Claim) -> None:
    families = {name for name in scrape(app).families if not name.endswith("_created")}
    rows = re.findall(r"^\| `(featherweight_[a-z_]+)", PAGE.read_text(), flags=re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert {name.removesuffix("_total") for name in rows} == families
