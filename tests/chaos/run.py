"""A chaos run: jobs of customers and faults of a schedule on one stack, and what is to be said of it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from deploy.local.processes import StartError
from featherweight import Client
from featherweight.job import Job
from tasks.queue import Queue, make_celery
from tasks.reaper import Reaper
from tasks.storage import Storage
from tasks.store import JobStore
from tests.chaos.customers import Customers, Served
from tests.chaos.faults import Injector, Struck
from tests.chaos.orders import orders
from tests.chaos.promises import (
    Bucket,
    every_end_is_told_once,
    nothing_is_left_over,
    nothing_is_lost,
    nothing_is_published_twice,
    quiet,
    wait_for_strays,
)
from tests.chaos.repeated import Work, work_of
from tests.chaos.schedule import Kind, schedule
from tests.chaos.stack import ChaosStack

__all__ = ["Options", "Result", "run"]

_log = logging.getLogger(__name__)

_TICK_S = 0.05
# A run in which no job ends for so long is given up: what is under way then is lost.
_STANDSTILL_S = 600.0
_QUIET_S = 180.0
# At most so much of what an undisturbed run would have done.
REPEATED_AT_MOST = 0.10


@dataclass(frozen=True)
class Options:
    """`directory` keeps everything: what processes said, data, evidence. `counts` says how many faults of
    each kind, where not as many as such a run has."""

    jobs: int
    seed: int
    workers: int
    directory: Path
    customers: int = 12
    counts: Mapping[Kind, int] | None = None
    storage_outage_s: float = 20.0
    lease_s: float = 15.0


@dataclass(frozen=True)
class Result:
    """`broken` are the promises that were: lost, published twice, end not told, left over, and what else went
    wrong, by the name of the promise. Times in seconds."""

    options: Options
    struck: list[Struck]
    attempts: dict[str, int]
    work: Work
    wall_s: float
    longest_stall_s: float
    jobs: int
    broken: dict[str, list[str]] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        return not any(self.broken.values())

    @property
    def repeated(self) -> float:
        """Work done besides, as a share of what an undisturbed run does."""
        return self.work.repeated / self.work.ideal if self.work.ideal else 0.0


def run(options: Options) -> Result:
    """Start a stack, do it all, and end it."""
    directory = options.directory
    _make_inputs(directory / "inputs")
    # What the client keeps of its uploads belongs to this run.
    os.environ["XDG_CACHE_HOME"] = str(directory / "cache")
    with ChaosStack(
        directory / "stack", places=options.workers, seed=options.seed, lease_s=options.lease_s
    ) as stack:
        customers = Customers(
            stack.url,
            stack.api_key,
            orders(options.seed, options.jobs),
            inputs=directory / "inputs",
            count=options.customers,
            name=f"chaos-{options.seed}",
        )
        injector = Injector(
            stack,
            schedule(options.seed, options.jobs, counts=options.counts),
            seed=options.seed,
            storage_outage_s=options.storage_outage_s,
        )
        began = time.monotonic()
        customers.start()
        stopped = _until_over(customers, injector)
        wall_s = time.monotonic() - began
        result = _judged(stack, options, customers.served, injector.struck, began, wall_s, stopped)
    (directory / "result.json").write_text(
        json.dumps(_evidence(result, customers.served), indent=2, default=str)
    )
    return result


def _make_inputs(directory: Path) -> None:
    command = [sys.executable, "-m", "tests.chaos.inputs", str(directory)]
    subprocess.run(command, check=True, capture_output=True)


def _until_over(customers: Customers, injector: Injector) -> list[str]:
    """What went wrong with the run itself."""
    ended, since = 0, time.monotonic()
    while (now_ended := customers.ended) < len(customers.served) or not injector.over:
        if now_ended == len(customers.served):
            injector.give_up()
        if now_ended != ended:
            ended, since = now_ended, time.monotonic()
            _log.info("%d of %d have ended", ended, len(customers.served))
        if time.monotonic() - since > _STANDSTILL_S:
            return [f"nothing ended for {_STANDSTILL_S:.0f} s after {ended} jobs"]
        try:
            injector.tick(ended)
        except StartError as error:
            return [f"the stack did not hold: {error}"]
        time.sleep(_TICK_S)
    return [f"{fault.kind} found nobody to strike" for fault in injector.missed]


def _judged(
    stack: ChaosStack,
    options: Options,
    served: list[Served],
    struck: list[Struck],
    began: float,
    wall_s: float,
    stopped: list[str],
) -> Result:
    broken = {"the run": stopped, "something is left to do": quiet(stack, timeout_s=_QUIET_S)}
    with Client(stack.url, stack.api_key) as client:
        jobs = list(client.jobs.list(limit=100))
        bucket = Bucket(stack)
        wait_for_strays(stack, bucket)
        _sweep_disks(stack)
        broken["lost"] = list(nothing_is_lost(served, jobs))
        broken["published twice"] = list(nothing_is_published_twice(client, jobs, bucket))
        broken["end not told"] = list(every_end_is_told_once(client, served, jobs))
        broken["left over"] = list(nothing_is_left_over(client, stack, bucket))
        broken["workers"] = list(_workers_are_well(stack, client))
        work = _work(client, jobs)
    result = Result(
        options=options,
        struck=struck,
        attempts=dict(Counter(str(attempt.ended_because) for job in jobs for attempt in job.attempts)),
        work=work,
        wall_s=wall_s,
        longest_stall_s=_longest_stall(served, began),
        jobs=len(jobs),
        broken=broken,
    )
    if result.repeated > REPEATED_AT_MOST and options.counts is None:
        broken["repeated work"] = [f"{result.repeated:.1%} of the work was done more than once"]
    return result


def _sweep_disks(stack: ChaosStack) -> None:
    """What workers do every ten minutes, done now."""
    client = stack.redis
    for place in stack.places:
        settings = stack.settings.model_copy(update={"scratch_dir": place.scratch})
        store, storage = JobStore(client, settings), Storage(settings)
        Reaper(settings, client, store, storage, Queue(make_celery(settings))).sweep_scratch()
    client.close()


def _workers_are_well(stack: ChaosStack, client: Client) -> Iterator[str]:
    for place in stack.places:
        if place.worker is None or place.worker.exit_code is not None:
            yield f"no worker runs at place {place.number}"
    if client.health().status != "ok":
        yield f"the service says of itself: {client.health()}"


def _work(client: Client, jobs: list[Job]) -> Work:
    each = [
        work_of(job, client.jobs.events(job.id), client.jobs.report(job.id))
        for job in jobs
        if job.state == "succeeded"
    ]
    return Work(sum(work.ideal for work in each), sum(work.repeated for work in each))


def _longest_stall(served: list[Served], began: float) -> float:
    """The longest time in which no job ended, the start of the workers included."""
    times = [began, *sorted(each.ended_at for each in served if each.ended_at is not None)]
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


def _evidence(result: Result, served: list[Served]) -> dict[str, object]:
    found = asdict(replace(result, options=replace(result.options, counts=None)))
    return {**found, "served": [asdict(each) for each in served]}
