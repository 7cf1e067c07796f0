"""Two ``.tflite`` files timed side by side."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.quality.measure import encoded

__all__ = ["ratio"]

ROUNDS, RUNS = 60, 20


def ratio(slow: Path, fast: Path) -> float:
    """How many times as fast as `slow` `fast` is in LiteRT: batch 1, one thread, in turn on the same noise;
    the median of `ROUNDS` ratios, each of `RUNS` runs."""
    programs = [_loaded(path) for path in (slow, fast)]
    for program in programs:
        _seconds(program)  # caches and the delegate's buffers
    taken = [[_seconds(program) for program in programs] for _ in range(ROUNDS)]
    return statistics.median(one / other for one, other in taken)


def _loaded(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=path.read_bytes(), num_threads=1)
    interpreter.allocate_tensors()
    into = interpreter.get_input_details()[0]
    noise = np.random.default_rng(0).uniform(0, 255, into["shape"])
    interpreter.set_tensor(into["index"], encoded(noise, into))
    return interpreter


def _seconds(program: Any) -> float:
    began = time.perf_counter()
    for _ in range(RUNS):
        program.invoke()
    return time.perf_counter() - began
