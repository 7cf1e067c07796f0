"""The jobs of a run, drawn from its seed: which network, which spec, which files are sent anew."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Order", "ideal_units", "orders"]

_HALF = {"type": "polynomial_decay", "initial_sparsity": 0.2, "final_sparsity": 0.6}
_PRUNE = {"technique": "prune", "schedule": _HALF}


def _finetune(epochs: int, batch_size: int) -> dict[str, Any]:
    return {"technique": "finetune", "epochs": epochs, "batch_size": batch_size, "learning_rate": 0.001}


_SPECS: Mapping[str, dict[str, Any]] = {
    "dense": {"steps": [_PRUNE, _finetune(4, 16)], "outputs": ["tflite", "keras"]},
    "conv": {
        "steps": [_PRUNE, _finetune(3, 16), {"technique": "quantize", "scheme": "full_int8"}],
        "outputs": ["tflite"],
    },
    "wide": {"steps": [_PRUNE, _finetune(2, 50)], "outputs": ["tflite", "keras"]},
    "tall": {
        "steps": [_PRUNE, _finetune(2, 4096), {"technique": "quantize", "scheme": "dynamic_int8"}],
        "outputs": ["tflite"],
    },
}
# The large ones are the few.
_SHARES = {"dense": 8, "conv": 8, "wide": 3, "tall": 1}
_SENT_ANEW = 0.4
_FOLLOWED = 0.3


@dataclass(frozen=True)
class Order:
    """`sends` says that the customer uploads the files for this job alone, `follows` that it reads the event
    stream all along."""

    number: int
    model: str
    spec: Mapping[str, Any]
    sends: bool
    follows: bool


def orders(seed: int, jobs: int) -> list[Order]:
    """No two have the same spec: each has a seed of its own."""
    chance = random.Random(f"orders {seed}")
    names, shares = list(_SHARES), list(_SHARES.values())
    return [
        Order(
            number=number,
            model=(model := chance.choices(names, shares)[0]),
            spec={**_SPECS[model], "seed": number},
            sends=chance.random() < _SENT_ANEW,
            follows=chance.random() < _FOLLOWED,
        )
        for number in range(jobs)
    ]


def ideal_units(spec: Mapping[str, Any]) -> float:
    """The work of a job that nothing disturbs: one unit for each stage that is no training, and one for each
    epoch of those that are."""
    fixed = len(("load", "baseline", "convert", "evaluate", "report"))
    return float(fixed + sum(step.get("epochs", 1) for step in spec["steps"]))
