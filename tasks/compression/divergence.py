"""How far a network's outputs are from those of the float network it came from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.compression.objective import Objective

__all__ = ["divergence"]

_LEAST = 1e-7

Array = npt.NDArray[Any]


def divergence(objective: Objective, reference: Array, outputs: Array) -> float:
    """The mean Kullback-Leibler divergence of the classes' probabilities (in nats), or of each yes-or-no
    question's; of a regression the mean squared difference."""
    if objective.task == "regression":
        return float(np.square(reference.astype(np.float64) - outputs).mean())
    if objective.task == "classification":
        theirs, ours = (_probabilities(objective, item) for item in (reference, outputs))
        return float((theirs * np.log(theirs / ours)).sum(axis=-1).mean())
    theirs, ours = (_likelihood(objective, item) for item in (reference, outputs))
    of_yes, of_no = theirs * np.log(theirs / ours), (1 - theirs) * np.log((1 - theirs) / (1 - ours))
    return float((of_yes + of_no).mean())


def _probabilities(objective: Objective, outputs: Array) -> Array:
    values = outputs.astype(np.float64)
    if objective.from_logits:
        values = np.exp(values - values.max(axis=-1, keepdims=True))
    values = np.maximum(values, 0.0) + _LEAST
    return np.asarray(values / values.sum(axis=-1, keepdims=True))


def _likelihood(objective: Objective, outputs: Array) -> Array:
    values = outputs.astype(np.float64)
    if objective.from_logits:
        values = 1 / (1 + np.exp(-np.clip(values, -50, 50)))
    return np.asarray(np.clip(values, _LEAST, 1 - _LEAST))
