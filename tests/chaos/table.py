"""A run in figures, as Markdown."""

from __future__ import annotations

import datetime
from collections import Counter

from tests.benchmarks.machine import machine
from tests.chaos.run import REPEATED_AT_MOST, Result
from tests.chaos.schedule import Kind

__all__ = ["markdown"]

_SAID = {
    Kind.KILL_WORKER: "workers killed in the middle of a job",
    Kind.KILL_WORKER_STORING: "workers killed while they stored a job's outputs",
    Kind.KILL_RUNNER: "processes of jobs killed",
    Kind.FREEZE_WORKER: "workers frozen past their lease, then thawed",
    Kind.RESTART_REDIS: "Redis killed and started on its append-only file",
    Kind.FAIL_STORAGE: "object storage answering errors alone for {storage_outage_s:.0f} s",
    Kind.RESTART_API: "API killed and started",
}


def markdown(result: Result) -> str:
    options, struck = result.options, Counter(each.kind for each in result.struck)
    broken = {name: len(found) for name, found in result.broken.items()}
    lost_attempts = {why: count for why, count in result.attempts.items() if why != "succeeded"}
    share = f"repeated work, of {result.work.ideal:.0f} units (at most {REPEATED_AT_MOST:.0%})"
    outage = {"storage_outage_s": options.storage_outage_s}
    rows = [
        ("jobs, of four kinds", f"{result.jobs}"),
        ("workers", f"{options.workers}"),
        *((_SAID[kind].format(**outage), str(struck[kind])) for kind in Kind),
        ("attempts", f"{sum(result.attempts.values())}"),
        *((f"attempts that ended with `{why}`", str(count)) for why, count in sorted(lost_attempts.items())),
        ("**lost**", f"**{broken.get('lost', 0)}**"),
        ("**published twice**", f"**{broken.get('published twice', 0)}**"),
        ("**ends not told, or not once**", f"**{broken.get('end not told', 0)}**"),
        ("**orphaned uploads, objects and folders**", f"**{broken.get('left over', 0)}**"),
        (share, f"{result.repeated:.1%}"),
        ("longest time in which no job ended", f"{result.longest_stall_s:.0f} s"),
        ("wall time", f"{result.wall_s:.0f} s"),
    ]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [f"Measured {today} on {machine()}, seed {options.seed}.", "", "| what | |", "| --- | ---: |"]
    return "\n".join([*lines, *(f"| {what} | {figure} |" for what, figure in rows)]) + "\n"
