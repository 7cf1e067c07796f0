"""Which samples the ranges are calibrated on: one subset, or the best of several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from featherweight.spec import Quantize
from tasks.compression.backends.tensorflow.predict import predict
from tasks.compression.backends.tensorflow.source import Make, Source
from tasks.compression.context import Context
from tasks.compression.data import Data
from tasks.compression.divergence import divergence
from tasks.compression.litert import Program
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
    reference = predict(source.model, samples)
    scores = []
    for index, make in enumerate(makers):
        outputs = Program(make(source.unselected)).predict(samples)
        scores.append(divergence(data.objective, reference, outputs))
        context.progress.advance(index + 1, len(makers) + 1)
    chosen = int(np.argmin(scores))
    context.record.details["calibration"] |= {
        "chosen": chosen,
        "divergence": [float(f"{score:.6g}") for score in scores],
        "compared_on": len(samples),
    }
    return makers[chosen]
