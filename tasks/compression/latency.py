"""How long an inference takes: files timed turn about in one run, so a busy machine is unfair to none."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from featherweight.report import Latency

__all__ = ["Timed", "interleaved"]

WARM_UP = 5
MAX_RUNS = 300
BUDGET_S = 0.8


class Timed(Protocol):
    def run(self) -> None:
        """One inference on inputs that are prepared."""


def interleaved(programs: Mapping[str, Timed], runtime: str) -> dict[str, Latency]:
    """Batch 1, one thread; inputs must be prepared. `runtime` is the name of what runs them. At least
    one timed run each, then until the budget of 0.8 s is spent or 300 runs are done."""
    deadline = time.perf_counter() + BUDGET_S
    times: dict[str, list[float]] = {name: [] for name in programs}
    rounds = -WARM_UP
    while rounds < MAX_RUNS:
        for name, program in programs.items():
            began = time.perf_counter()
            program.run()
            if rounds >= 0:
                times[name].append(1e3 * (time.perf_counter() - began))
        rounds += 1
        if time.perf_counter() > deadline:
            if rounds > 0:
                break
            rounds = max(rounds, 0)  # a slow model: what was run so far was warm-up enough
    return {name: _latency(values, runtime) for name, values in times.items()}


def _latency(values: Sequence[float], runtime: str) -> Latency:
    p50, p95 = np.quantile(values, [0.5, 0.95])
    return Latency(
        p50_ms=round(float(p50), 5), p95_ms=round(float(p95), 5), runs=len(values), threads=1, runtime=runtime
    )
