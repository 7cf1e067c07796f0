"""Pruning while a training runs: the part of it that makes and keeps zeros."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tasks.compression.assignments import note_outcome, settled_pruning
from tasks.compression.backends.torch._framework import fx, torch
from tasks.compression.backends.torch.layers import placed_layers, zero_share
from tasks.compression.backends.torch.layouts import named_kernels
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.prunable import PRUNING
from tasks.compression.backends.torch.training_parts import State, TrainingPart
from tasks.compression.context import Context
from tasks.compression.mask_plan import masked_share, planned, steps_of
from tasks.compression.mask_updates import update_at

__all__ = ["Masking"]


class Masking(TrainingPart):
    """Carries out the pending prune steps and keeps the zeros that are there already.

    Masks are updated before the optimiser steps that a schedule names, and applied after every one. `zeros`
    says whether there are any to make or to keep.
    """

    def __init__(self, network: Network, steps: int, context: Context) -> None:
        self._plan = planned(network, steps, context, PRUNING)
        self.settled = settled_pruning(steps_of(network), steps)
        self.zeros = bool(self._plan.paths or network.pruned)
        self._masked: dict[int, _MaskedWeight] = {}

    def begin(self, model: fx.GraphModule) -> None:
        places = {place.path: place for place in placed_layers(model)}
        for path in self._plan.paths:
            for name, weight in named_kernels(places[path]):
                self._masked.setdefault(id(weight), _MaskedWeight(name, weight))

    def before_step(self, step: int) -> None:
        for item in self._plan.assignments:
            wanted = update_at(item.schedule, step)
            if wanted is not None:
                masks = item.rule.masks(max(wanted, item.floor))
                for weight, mask in zip(item.rule.weights, masks, strict=True):
                    self._masked[id(weight)].update(mask)

    def after_step(self, step: int) -> None:
        for item in self._masked.values():
            item.apply()

    def sparsity(self) -> float | None:
        return masked_share(item.mask.numpy() for item in self._masked.values())

    def summary(self) -> Mapping[str, float]:
        values = {}
        for item in self._masked.values():
            values[f"{item.name}/mask/sparsity"] = masked_share([item.mask.numpy()]) or 0.0
            values[f"{item.name}/mask/threshold"] = item.threshold
        return values

    def state_dict(self) -> State:
        masks = {f"{item.name}/mask": item.mask for item in self._masked.values()}
        return {**masks, **{f"{item.name}/threshold": item.threshold for item in self._masked.values()}}

    def load_state_dict(self, state: State) -> None:
        for item in self._masked.values():
            mask, threshold = state[f"{item.name}/mask"], state[f"{item.name}/threshold"]
            if not isinstance(mask, torch.Tensor) or not isinstance(threshold, float):
                raise TypeError(f"the state of {item.name} is not of a mask and its threshold")
            item.mask, item.threshold = mask.clone(), threshold

    def outcome(self, network: Network, taken: int, context: Context) -> Network:
        note_outcome(self._plan.assignments, taken, context, zero_share)
        return replace(network, pruned={**network.pruned, **self._plan.targets})


class _MaskedWeight:
    """A weight and where it stays: at first where it is not zero."""

    def __init__(self, name: str, weight: torch.Tensor) -> None:
        self.name = name
        self.weight = weight
        self.mask = weight.detach() != 0
        self.threshold = 0.0
        """The smallest magnitude that the last update left."""

    def update(self, mask: torch.Tensor) -> None:
        self.mask = mask
        left = self.weight.detach()[mask].abs()
        self.threshold = float(left.min()) if left.numel() else 0.0
        self.apply()

    def apply(self) -> None:
        # A product, so that a weight which is no number any more stays one that is none.
        with torch.no_grad():
            self.weight.mul_(self.mask)
