"""The optimisers of the contract, so that a spec does the same as with the other frameworks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from featherweight.spec import Distill, Finetune
from tasks.compression.backends.torch._framework import torch

__all__ = ["clip_together", "optimiser"]

Tensor = Any

_EPSILON = 1e-7


def optimiser(step: Finetune | Distill, parameters: Sequence[Tensor]) -> Any:
    """One of torch.optim with Keras' defaults, where the two differ: epsilon 1e-7; RMSprop forgets by 0.9 a
    step, and its epsilon, which Keras adds under the root, is the root of that; Nadam's momentum warms up by
    0.96 a step; AdamW decays weights by 0.004 of the rate. The fused kernels are the fastest on CPUs."""
    optim, rate = torch.optim, step.learning_rate
    makers: dict[str, Callable[[], Any]] = {
        "adam": lambda: optim.Adam(parameters, rate, eps=_EPSILON, fused=True),
        "adamw": lambda: optim.AdamW(parameters, rate, eps=_EPSILON, weight_decay=0.004, fused=True),
        "nadam": lambda: optim.NAdam(parameters, rate, eps=_EPSILON, momentum_decay=1.0),
        "rmsprop": lambda: optim.RMSprop(parameters, rate, alpha=0.9, eps=math.sqrt(_EPSILON)),
        "sgd": lambda: optim.SGD(parameters, rate, fused=True),
        "sgd_momentum": lambda: optim.SGD(parameters, rate, momentum=0.9, fused=True),
    }
    return makers[step.optimizer]()


def clip_together(parameters: Sequence[Tensor], bound: float) -> None:
    """Scale all gradients by one factor, so that their norm together is `bound` at most."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if norm > bound:
        for gradient in gradients:
            gradient.mul_(bound / norm)
