"""Which samples the ranges are calibrated on: one subset, or the best of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from featherweight.spec import Quantize
from tasks.compression.context import Context
from tasks.compression.data import Data
from tasks.compression.divergence import divergence
from tasks.compression.litert import Program
from tasks.compression.objectives import each_output
from tasks.compression.quantizing.source import Make, Source
from tasks.compression.split import draw

__all__ = ["COMPARED", "best", "calibration_subsets"]

COMPARED = 2000
"""Validation samples that candidates are compared on, at most."""

ENOUGH = 100
"""Candidates are not told apart by fewer validation samples than this: those of the training split are then
looked at too. What is compared needs no labels, and ranges are all that calibration takes from a sample."""

SHARES = (1, 4, 16)
"""Candidates for calibration take all, a quarter and a sixteenth of `calibration_samples` in turn: ranges
grow with the samples seen, and the widest are not the best."""

MIN_CALIBRATION = 10


def calibration_subsets(data: Data, step: Quantize, seed: int) -> list[npt.NDArray[np.int64]]:
    """The samples of every candidate, from the training split; the first is the calibration split."""
    subsets = [data.calibration]
    for index in range(1, step.calibration_candidates):
        wanted = max(MIN_CALIBRATION, step.calibration_samples // SHARES[index % len(SHARES)])
        count = min(wanted, step.calibration_samples)
        subsets.append(draw(data.train, count, seed + 2 + index))
    return subsets


def best(makers: Sequence[Make], source: Source, context: Context) -> Make:
    """The candidate whose outputs on the validation split, or where it is small on all but the test split,
    diverge least from the float model's."""
    data = context.training_data
    pool = data.validation if len(data.validation) >= ENOUGH else np.union1d(data.train, data.validation)
    samples = data.x[draw(pool, COMPARED, context.seed)]
    reference = source.predict(samples)
    scores: dict[str, list[float]] = {name: [] for name, _, _ in each_output(data.objective)}
    for index, make in enumerate(makers):
        outputs = Program(make(source.unselected)).predict(samples)
        for name, part, (theirs, ours) in each_output(data.objective, reference, outputs):
            scores[name].append(divergence(part, theirs, ours))
        context.progress.advance(index + 1, len(makers) + 1)
    chosen = int(np.argmin(_relative(scores)))
    told = {name: [float(f"{score:.6g}") for score in values] for name, values in scores.items()}
    context.record.details["calibration"] |= {
        "chosen": chosen,
        "divergence": told.get("", told),
        "compared_on": len(samples),
    }
    return makers[chosen]


def _relative(scores: Mapping[str, Sequence[float]]) -> npt.NDArray[np.float64]:
    """The candidates' divergences, averaged over the outputs: each is measured in units of its own, so each
    counts by its share of the candidates' sum."""
    shares = np.array(list(scores.values()), dtype=np.float64)
    sums = shares.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(shares, sums, out=np.zeros_like(shares), where=sums > 0).mean(axis=0))
