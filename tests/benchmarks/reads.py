"""Reading one job and listing jobs with 10,000 stored, beside the health check that reads nothing.

The stack must have no worker: the jobs are only there to be read.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

import httpx

from deploy.local.stack import LocalStack
from featherweight.job import JobRequest
from tasks.identifiers import new_id
from tasks.store import JobStore
from tests.benchmarks.table import Row
from tests.benchmarks.tutorial_job import SPEC

STORED = 10_000
PROJECT = "local"  # the one the stack has a key for


def run(stack: LocalStack, *, requests: int) -> list[Row]:
    ids = store_jobs(stack)
    draw = random.Random(0)
    with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {stack.api_key}"}) as http:
        cursor = http.get("/v1/jobs", params={"limit": 100}).json()["next_cursor"]
        ways: dict[str, Callable[[], httpx.Response]] = {
            "GET /healthz": lambda: http.get("/healthz"),
            "GET /v1/jobs/{id}": lambda: http.get(f"/v1/jobs/{draw.choice(ids)}"),
            "GET /v1/jobs (20, first page)": lambda: http.get("/v1/jobs", params={"limit": 20}),
            "GET /v1/jobs (20, by cursor)": lambda: http.get(
                "/v1/jobs", params={"limit": 20, "cursor": cursor}
            ),
            "GET /v1/jobs (20, by state)": lambda: http.get(
                "/v1/jobs", params={"limit": 20, "state": "queued"}
            ),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(requests):
            for way, request in ways.items():
                began = time.perf_counter()
                request().raise_for_status()
                times[way].append((time.perf_counter() - began) * 1000)
    floor = statistics.median(times["GET /healthz"])
    return [
        Row(
            f"{way}, p50 / p99 with {STORED:,} jobs",
            f"{statistics.median(taken):.2f} / {statistics.quantiles(taken, n=100)[98]:.2f} ms",
            f"{floor:.2f} ms",
            statistics.median(taken) / floor,
        )
        for way, taken in times.items()
    ]


def store_jobs(stack: LocalStack) -> list[str]:
    """STORED queued jobs of the stack's project; their ids."""
    request = JobRequest.model_validate({"model_id": new_id("model"), "spec": SPEC})
    ids = [new_id("job") for _ in range(STORED)]
    with stack.redis as redis:
        store = JobStore(redis, stack.settings)
        for job_id in ids:
            store.create(PROJECT, request, job_id=job_id)
    return ids
