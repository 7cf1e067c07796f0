"""Shared values while a training runs, and the zeros with them: the part that projects latent weights.

Pruning that goes along follows its schedule on the latent weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.compression.assignments import Assignment
from tasks.compression.backends.torch._framework import fx, torch
from tasks.compression.backends.torch.layers import Placed, placed_layers
from tasks.compression.backends.torch.layouts import layout_of, named_kernels
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.prunable import PRUNING
from tasks.compression.backends.torch.rules import Rule
from tasks.compression.backends.torch.shared_kernel import SharedKernel
from tasks.compression.backends.torch.training_parts import State, TrainingPart
from tasks.compression.backends.torch.weights import WEIGHTS
from tasks.compression.context import Context
from tasks.compression.mask_plan import masked_share, planned
from tasks.compression.mask_updates import update_at
from tasks.compression.sharing_plan import SharingPlan

__all__ = ["Projection"]


class Projection(TrainingPart):
    """Carries out the pending prune and cluster steps together, and keeps the zeros and the shared values
    that are there already. `zeros` says whether there are any of the first."""

    def __init__(self, network: Network, steps: int, context: Context) -> None:
        self._plan = planned(network, steps, context, PRUNING)
        self._sharing = SharingPlan(network, self._plan, steps, context, WEIGHTS)
        self.zeros = bool(self._sharing.masked)
        self._steps = steps
        self.settled = self._sharing.settled
        self._layers: dict[str, list[SharedKernel]] = {}
        self._kernels: dict[int, SharedKernel] = {}
        self._own: list[list[torch.Tensor]] = []

    def trained(self, weight: torch.Tensor) -> torch.Tensor:
        """The parameter that is trained for a weight of the network: itself, where nothing stands for it."""
        return weight

    def begin(self, model: fx.GraphModule) -> None:
        places = {place.path: place for place in placed_layers(model)}
        for path in dict.fromkeys([*self._plan.paths, *self._sharing.asked, *self._sharing.kept]):
            self._layers[path] = self._projected(places[path])
        # From here on the rules rank latent weights.
        self._own = [item.rule.weights for item in self._plan.assignments]
        for item in self._plan.assignments:
            item.rule.weights = [kernel.latent for kernel in self._of(item)]
        self._project(0)

    def after_step(self, step: int) -> None:
        for kernel in self._kernels.values():
            kernel.absorb()
        self._project(step)

    def sparsity(self) -> float | None:
        return masked_share(item.mask.numpy() for item in self._kernels.values() if item.mask is not None)

    def summary(self) -> Mapping[str, float]:
        values = {}
        for kernel in self._kernels.values():
            if kernel.mask is not None:
                left = kernel.latent[kernel.mask].abs()
                values[f"{kernel.name}/mask/sparsity"] = masked_share([kernel.mask.numpy()]) or 0.0
                values[f"{kernel.name}/mask/threshold"] = float(left.min()) if left.numel() else 0.0
        return values

    def state_dict(self) -> State:
        return {
            f"{kernel.name}/{name}": value
            for kernel in self._kernels.values()
            for name, value in kernel.state().items()
        }

    def load_state_dict(self, state: State) -> None:
        for kernel in self._kernels.values():
            start = f"{kernel.name}/"
            kernel.resume(
                {
                    name.removeprefix(start): value
                    for name, value in state.items()
                    if name.startswith(start) and isinstance(value, torch.Tensor)
                }
            )

    def unwrap(self, model: fx.GraphModule) -> fx.GraphModule:
        for item, weights in zip(self._plan.assignments, self._own, strict=True):
            item.rule.weights = weights
        return model

    def outcome(self, network: Network, taken: int, context: Context) -> Network:
        return self._sharing.outcome(network, self._plan, taken, context, self._layers)

    def _projected(self, place: Placed) -> list[SharedKernel]:
        """The kernels of a layer; one that an earlier layer has too is projected as that layer says."""
        found = []
        for index, (name, weight) in enumerate(named_kernels(place)):
            if id(weight) not in self._kernels:
                self._kernels[id(weight)] = SharedKernel(
                    name,
                    self.trained(weight),
                    layout_of(place.layer, weight),
                    masked=place.path in self._sharing.masked,
                    terms=self._sharing.terms(place, index, weight),
                )
            found.append(self._kernels[id(weight)])
        return found

    def _project(self, taken: int) -> None:
        """Masks, codebooks and weights after `taken` optimiser steps, for the one that comes."""
        if taken < self._steps:
            for item in self._plan.assignments:
                self._mask(item, taken + 1)
        for kernel in self._kernels.values():
            book = kernel.codebook
            since = -1 if book is None else taken - book.terms.begin
            if book is not None and since >= 0:
                # Pruning leaves values that were for small weights with none: they are found anew after it.
                if since == 0 or taken == max(book.terms.begin, self._sharing.pruned):
                    book.start()
                elif since % self._sharing.move_every == 0:
                    book.move()
            kernel.show(shared=since >= 0)

    def _mask(self, item: Assignment[Rule], step: int) -> None:
        wanted = update_at(item.schedule, step)
        if wanted is not None:
            masks = item.rule.masks(max(wanted, item.floor))
            for kernel, stays in zip(self._of(item), masks, strict=True):
                kernel.hide(stays)

    def _of(self, item: Assignment[Rule]) -> Sequence[SharedKernel]:
        """The kernels of the weights that the rule had at first."""
        kernels = [kernel for path in item.paths for kernel in self._layers[path]]
        return list(dict.fromkeys(kernels))
