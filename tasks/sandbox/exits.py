"""What it means that a runner ended the way it did, said to the caller.

A runner that crashed, was out of memory or time, or did what no job may would do so again: its job has
failed. One that somebody else killed would not: the job is tried again.
"""

from __future__ import annotations

import signal
from pathlib import Path

from featherweight.problem import Problem, problem
from tasks.sandbox.children import Exit

__all__ = [
    "RunnerKilled",
    "disk_limit",
    "explain",
    "kernel_kills",
    "memory_limit",
    "signal_name",
    "thread_limit",
    "time_limit",
    "was_killed",
]

_VMSTAT = Path("/proc/vmstat")
# What operators and container runtimes send. A runner that crashes ends by none of them.
_SENT_BY_OTHERS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM)

# Libraries abort when an allocation fails, and say so last.
_NO_MEMORY = (b"bad_alloc", b"Cannot allocate memory", b"out of memory", b"Out of memory", b"MemoryError")


class RunnerKilled(Exception):
    """A runner was killed by something other than the job, its worker, and the kernel for want of memory."""

    def __init__(self, exit: Exit) -> None:
        super().__init__(
            f"the process that ran the job was killed from outside with {signal_name(-exit.code)}"
        )
        self.exit = exit


def kernel_kills() -> int | None:
    """How many processes this machine's kernel has killed for want of memory; None where it does not say."""
    try:
        rows = (line.split() for line in _VMSTAT.read_text().splitlines())
        return next((int(row[1]) for row in rows if row[0] == "oom_kill"), None)
    except (OSError, ValueError, IndexError):
        return None


def was_killed(end: Exit, kills_before: int | None) -> bool:
    """Whether somebody outside has ended a runner that nobody here had stopped.

    `kills_before` is what `kernel_kills` said when it was started: SIGKILL is the kernel's way to get memory
    back, and where the kernel does not say whether it was that, it is taken for it.
    """
    if -end.code not in _SENT_BY_OTHERS:
        return False
    if -end.code != signal.SIGKILL:
        return True
    return kills_before is not None and kernel_kills() == kills_before


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def explain(end: Exit, output_tail: bytes, *, memory_bytes: int) -> Problem:
    """The problem of a runner that ended without a result and that nobody here had stopped."""
    if end.code >= 0:
        return _crashed(f"the process that ran the job ended with exit code {end.code} and left no result")
    number = -end.code
    if number == signal.SIGXCPU:
        return problem("time_limit", "the job used more processor time than it may")
    if number == signal.SIGXFSZ:
        return disk_limit("a file larger than any may be")
    if number == signal.SIGSYS:
        return problem(
            "sandbox_violation",
            "the job made a system call that no job has a use for, and was ended",
            hint="a model that does this does more than compute",
        )
    # Not of those who kill from outside (`was_killed`): it is the kernel, and does so when memory is out.
    if number == signal.SIGKILL:
        return _out_of_memory("the system ran out of memory while the job ran and ended it", memory_bytes)
    if number == signal.SIGABRT and _was_out_of_memory(end, output_tail, memory_bytes):
        return _out_of_memory("a library gave up because it got no more memory", memory_bytes)
    return _crashed(f"the process that ran the job was ended by {signal_name(number)}")


def time_limit(max_run_s: int) -> Problem:
    return problem(
        "time_limit",
        f"the job ran longer than its limits.max_run_s of {max_run_s} s",
        hint="raise limits.max_run_s, or train fewer epochs",
    )


def disk_limit(what: str) -> Problem:
    return problem(
        "disk_limit",
        f"the job wrote more than it may: {what}",
        hint="a smaller data set or fewer outputs need less room",
    )


def thread_limit(processes: int) -> Problem:
    return problem("sandbox_violation", f"the job started more than {processes} threads or processes")


def memory_limit(memory_bytes: int) -> Problem:
    return _out_of_memory("the job used more memory than it may", memory_bytes)


def _was_out_of_memory(end: Exit, output_tail: bytes, memory_bytes: int) -> bool:
    near_limit = memory_bytes > 0 and end.max_rss_bytes > 0.8 * memory_bytes
    return near_limit or any(words in output_tail for words in _NO_MEMORY)


def _out_of_memory(detail: str, memory_bytes: int) -> Problem:
    limit = f" (limit: {memory_bytes} bytes)" if memory_bytes else ""
    return problem("out_of_memory", detail + limit, hint="a smaller batch_size needs less memory")


def _crashed(detail: str) -> Problem:
    return problem("runner_crashed", detail, hint="the job's log may show more")
