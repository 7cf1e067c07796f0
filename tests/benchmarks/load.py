"""Reads while 1,000 long polls and 200 event streams wait and 10,000 jobs are queued.

The stack must have no worker: the jobs are only there to be waited for.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from deploy.local.processes import HOST
from deploy.local.stack import LocalStack
from tests.benchmarks.reads import store_jobs
from tests.benchmarks.table import Row

POLLS, STREAMS = 1000, 200
ROOT = Path(__file__).parents[2]
# Jobs that end while the crowd waits for them: two of three are polled.
_CHANGES = 300
_EVERY_S = 0.1


def run(stack: LocalStack, *, requests: int) -> list[Row]:
    ids = store_jobs(stack)
    assert stack.api is not None
    with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {stack.api_key}"}) as http:
        alone = _reads(http, ids, requests)
        before, threads_before = _resident(stack.api.pid), _threads(stack.api.pid)
        with _crowd(stack, ids) as seen:
            asked = _changing(stack, ids)
            crowded = _reads(http, ids, requests)
            during, threads = _resident(stack.api.pid), _threads(stack.api.pid)
            told = asked()
    late = [1000 * (seen["ended"][job_id] - at) for job_id, at in told.items() if job_id in seen["ended"]]
    errors = sum(seen["errors"].values())
    answers = sum(seen["answers"].values())
    who = f"{POLLS:,} long polls and {STREAMS} event streams"
    return [
        *(
            Row(
                f"{way}, p50 / p99 with {who}",
                f"{_p50(crowded[way]):.2f} / {_p99(crowded[way]):.2f} ms",
                f"{_p50(alone[way]):.2f} / {_p99(alone[way]):.2f} ms",
                _p99(crowded[way]) / _p99(alone[way]),
                goal,
            )
            for way, goal in (("GET /healthz", ""), ("GET /v1/jobs/{id}", ""), ("GET /v1/jobs (20)", ""))
        ),
        Row(
            "a job's end until its waiter is told, p50 / p99",
            f"{_p50(late):.0f} / {_p99(late):.0f} ms",
            f"{len(late)} of {len(told)} ends",
            None,
            "all of them",
        ),
        Row(
            "resident memory of the API's processes",
            f"{during / 1e6:.0f} MB",
            f"{before / 1e6:.0f} MB",
            during / before,
        ),
        Row("threads of the API's processes", str(threads), str(threads_before), None),
        Row(
            f"errors in {answers:,} answers and lines of streams",
            _counted(seen["errors"], errors),
            "",
            None,
            "0",
        ),
        Row(
            "long polls that were answered at once for want of a place",
            str(seen["answers"].get("long polls that were not held", 0)),
            "",
            None,
        ),
    ]


def _counted(errors: dict[str, int], number: int) -> str:
    return f"{number} ({', '.join(f'{count} {what}' for what, count in errors.items())})" if number else "0"


def _reads(http: httpx.Client, ids: list[str], requests: int) -> dict[str, list[float]]:
    """Milliseconds of each request, by what was asked."""
    ways = {
        "GET /healthz": lambda n: http.get("/healthz"),
        "GET /v1/jobs/{id}": lambda n: http.get(f"/v1/jobs/{ids[(7919 * n) % len(ids)]}"),
        "GET /v1/jobs (20)": lambda n: http.get("/v1/jobs", params={"limit": 20}),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(requests):
        for way, request in ways.items():
            began = time.perf_counter()
            request(number).raise_for_status()
            times[way].append(1000 * (time.perf_counter() - began))
    return times


@contextmanager
def _crowd(stack: LocalStack, ids: list[str]) -> Iterator[dict[str, Any]]:
    """Everybody waits for as long as the context lasts; then what they saw is there."""
    plan = {
        "key": stack.api_key,
        "polled": ids[:POLLS],
        "streamed": ids[POLLS : POLLS + STREAMS],
        "spare": ids[POLLS + STREAMS :],
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.crowd", HOST, str(stack.port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    seen: dict[str, Any] = {}
    with process:
        process.stdin.write(json.dumps(plan) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "waiting\n"
        yield seen
        # Those who have just been told may still be on their way back.
        time.sleep(2)
        process.stdin.close()
        seen.update(json.loads(process.stdout.readline()))


def _changing(stack: LocalStack, ids: list[str]) -> Any:
    """Cancel jobs that somebody waits for, in the background; what waits for the last of them says when."""
    streamed = ids[POLLS : POLLS + _CHANGES // 3]
    wanted = [*ids[: _CHANGES - len(streamed)], *streamed]
    told: dict[str, float] = {}

    def work() -> None:
        with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {stack.api_key}"}) as http:
            for job_id in wanted:
                told[job_id] = time.time()
                http.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
                time.sleep(_EVERY_S)

    thread = threading.Thread(target=work)
    thread.start()

    def finish() -> dict[str, float]:
        thread.join()
        return told

    return finish


def _p50(times: list[float]) -> float:
    return statistics.median(times)


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _resident(pid: int) -> int:
    return sum(process.memory_info().rss for process in _family(pid))


def _threads(pid: int) -> int:
    return sum(process.num_threads() for process in _family(pid))
