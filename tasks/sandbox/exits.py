"""What it means that a runner ended the way it did, said to the caller."""

from __future__ import annotations

import signal

from featherweight.problem import Problem, problem
from tasks.sandbox.children import Exit

__all__ = ["disk_limit", "explain", "memory_limit", "thread_limit", "time_limit"]

# Libraries abort when an allocation fails, and say so last.
_NO_MEMORY = (b"bad_alloc", b"Cannot allocate memory", b"out of memory", b"Out of memory", b"MemoryError")


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
    # Nobody but the kernel sends a runner SIGKILL without being asked, and it does when memory is out.
    if number == signal.SIGKILL:
        return _out_of_memory("the system ran out of memory while the job ran and ended it", memory_bytes)
    if number == signal.SIGABRT and _was_out_of_memory(end, output_tail, memory_bytes):
        return _out_of_memory("a library gave up because it got no more memory", memory_bytes)
    return _crashed(f"the process that ran the job was ended by {signal.Signals(number).name}")


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
