"""What steps compute: optimiser steps, and multiply-accumulates forwards and backwards.

A sample costs the network's MACs forwards and twice as many backwards: the gradient of the activations and
that of the weights are a product of the same size each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from featherweight.plan import PlanCost, PlanData
from featherweight.spec import CompressionSpec, Distill, Finetune
from tasks.compression.outline.facts import Outline
from tasks.compression.outline.skeleton import cost
from tasks.compression.resolve import optimiser_steps

__all__ = ["forward_cost", "gradient_cost", "memory_peak", "rounds_cost"]

_PROCESS_BYTES = 650_000_000  # TensorFlow imported and used, as measured for a small job
_TRAINED_COPIES = 6  # weights, gradients, two moments, masks, the copy that outputs are compared with
_COPIES = 3
_CONVERTED_COPIES = 3  # the converter's graph, the file, the interpreter's tensors
_FLOAT = 4


def rounds_cost(rounds: Sequence[Outline], step: Finetune | Distill, data: PlanData | None) -> PlanCost:
    """Of the training of each of these networks, early stopping apart."""
    costs = [_training_cost(outline, step, data) for outline in rounds]
    return PlanCost(
        optimizer_steps=_sum(cost.optimizer_steps for cost in costs),
        epochs=_sum(cost.epochs for cost in costs),
        samples=costs[0].samples,
        forward_macs_estimate=_sum(cost.forward_macs_estimate for cost in costs),
        backward_macs_estimate=_sum(cost.backward_macs_estimate for cost in costs),
    )


def _sum(values: Iterable[int | None]) -> int | None:
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _training_cost(outline: Outline, step: Finetune | Distill, data: PlanData | None) -> PlanCost:
    if data is None:
        return PlanCost(epochs=step.epochs)
    macs = _macs(outline)
    seen = data.train * step.epochs
    checked = data.validation * step.epochs
    forward = seen + checked
    if isinstance(step, Distill):
        forward += seen if step.augmentation is not None or step.features else data.train + data.validation
    return PlanCost(
        optimizer_steps=optimiser_steps(data.train, step),
        epochs=step.epochs,
        samples=data.train,
        forward_macs_estimate=None if macs is None else macs * forward,
        backward_macs_estimate=None if macs is None else 2 * macs * seen,
    )


def gradient_cost(outline: Outline, samples: int) -> PlanCost:
    """Gradients of so many samples, without an optimiser."""
    macs = _macs(outline)
    return PlanCost(
        samples=samples,
        forward_macs_estimate=None if macs is None else macs * samples,
        backward_macs_estimate=None if macs is None else 2 * macs * samples,
    )


def forward_cost(outline: Outline, samples: int) -> PlanCost:
    """So many samples run through the network."""
    macs = _macs(outline)
    return PlanCost(samples=samples, forward_macs_estimate=None if macs is None else macs * samples)


def memory_peak(outline: Outline, spec: CompressionSpec, dataset_bytes: int) -> int:
    """Bytes of the job's process: the framework, copies of the weights, twice the data set, and while it
    trains the outputs of every layer for a batch, forwards and backwards."""
    trainings = [step for step in spec.steps if isinstance(step, Finetune | Distill)]
    copies = (_TRAINED_COPIES if trainings else _COPIES) + _CONVERTED_COPIES * ("tflite" in spec.outputs)
    copies += any(isinstance(step, Distill) for step in trainings)
    batch = max((step.batch_size for step in trainings), default=1)
    activations = sum(
        math.prod(size or 1 for size in shape[1:]) for shape in outline.tensors if shape is not None
    )
    return (
        _PROCESS_BYTES
        + _FLOAT * outline.parameters * copies
        + 2 * dataset_bytes
        + 2 * _FLOAT * activations * batch
    )


def _macs(outline: Outline) -> int | None:
    found = cost(outline)
    return None if found.unknown else found.total
