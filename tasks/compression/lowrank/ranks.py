"""Which ranks a layer is given: what every choice costs and keeps, and the choice for what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featherweight.spec import FixedRank, RankByEnergy, RankByParameters
from tasks.compression.lowrank.factors import Spectra

__all__ = ["Options", "Ranks", "Size", "budgeted", "cheapest", "named", "options", "within"]

EXACT = 1e-9
"""Shares of energy that differ by less are the same: the kernels are float32."""


@dataclass(frozen=True)
class Ranks:
    """To which width the inputs and the outputs of a kernel go; of a matrix both are its one rank."""

    inputs: int
    outputs: int


@dataclass(frozen=True)
class Size:
    """What decides a layer's cost. `taps` are the places of a kernel (9 of a 3x3), `bias` its parameters
    besides; an input's channels are read at `places_in` positions in all, outputs made at `places_out`."""

    taps: int
    inputs: int
    outputs: int
    bias: int
    places_in: int
    places_out: int

    @property
    def is_matrix(self) -> bool:
        return self.taps == 1

    @property
    def parameters(self) -> int:
        return self.taps * self.inputs * self.outputs + self.bias

    @property
    def macs(self) -> int:
        return self.places_out * self.taps * self.inputs * self.outputs

    def parameters_at(self, inputs: Any, outputs: Any) -> Any:
        """Of the layers that would take this one's place: numbers, or arrays of them."""
        entry, core, exit_ = self._parts(inputs, outputs)
        return entry + core + exit_ + self.bias

    def macs_at(self, inputs: Any, outputs: Any) -> Any:
        entry, core, exit_ = self._parts(inputs, outputs)
        # A matrix' strides are those of its first part, so that both compute at the output's places.
        return (self.places_out if self.is_matrix else self.places_in) * entry + self.places_out * (
            core + exit_
        )

    def shrinks(self, inputs: Any, outputs: Any) -> Any:
        """Whether there are fewer parameters, and no more multiply-accumulates."""
        fewer = self.parameters_at(inputs, outputs) < self.parameters
        return fewer & (self.macs_at(inputs, outputs) <= self.macs)

    def _parts(self, inputs: Any, outputs: Any) -> tuple[Any, Any, Any]:
        if self.is_matrix:
            return self.inputs * inputs, 0, self.outputs * outputs
        # An axis at its full rank has no part of its own.
        entry = np.where(inputs < self.inputs, self.inputs * inputs, 0)
        exit_ = np.where(outputs < self.outputs, self.outputs * outputs, 0)
        return entry, self.taps * inputs * outputs, exit_


@dataclass(frozen=True)
class Options:
    """Every choice of ranks by which a layer shrinks and which no other beats in both parameters and `loss`:
    the share of the energy lost, for a convolution its bound by the tails of both spectra (De Lathauwer et
    al. 2000a, property 10). Fewest parameters first."""

    size: Size
    inputs: npt.NDArray[np.int64]
    outputs: npt.NDArray[np.int64]
    parameters: npt.NDArray[np.int64]
    loss: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.parameters)

    def ranks(self, number: int) -> Ranks:
        return Ranks(int(self.inputs[number]), int(self.outputs[number]))


def options(size: Size, found: Spectra, round_to: int) -> Options:
    """Of ranks that are multiples of `round_to`, or an axis' full size."""
    if size.is_matrix:
        inputs = outputs = _multiples(min(size.inputs, size.outputs), round_to)
        loss = _tails(found.inputs)[inputs]
    else:
        grid = np.meshgrid(_multiples(size.inputs, round_to), _multiples(size.outputs, round_to))
        inputs, outputs = (axis.ravel() for axis in grid)
        loss = np.minimum(_tails(found.inputs)[inputs] + _tails(found.outputs)[outputs], 1.0)
    smaller = np.asarray(size.shrinks(inputs, outputs))
    inputs, outputs, loss = inputs[smaller], outputs[smaller], loss[smaller]
    parameters = np.asarray(size.parameters_at(inputs, outputs))
    order = np.lexsort((loss, parameters))
    best = np.minimum.accumulate(loss[order])
    unbeaten = order[np.concatenate(([True], best[1:] < best[:-1]))] if len(order) else order
    return Options(size, inputs[unbeaten], outputs[unbeaten], parameters[unbeaten], loss[unbeaten])


def named(rank: RankByEnergy | FixedRank, size: Size, found: Spectra, round_to: int) -> Ranks:
    """The ranks that the layer alone decides, whether it shrinks by them or not."""
    ranks = [_wanted(rank, values) for values in (found.inputs, found.outputs)]
    limits = [len(found.inputs), len(found.outputs)]
    rounded = [min(-(-one // round_to) * round_to, limit) for one, limit in zip(ranks, limits, strict=True)]
    return Ranks(*rounded)


def within(rank: RankByParameters, choices: Options) -> Ranks | None:
    """The choice that keeps most, of those that leave at most the share asked for; None if there is none."""
    return _best_below(choices, rank.keep * choices.size.parameters)


def cheapest(choices: Options) -> Ranks | None:
    return choices.ranks(0) if len(choices) else None


def budgeted(keep: float, layers: Mapping[str, Options]) -> dict[str, Ranks]:
    """Ranks for layers that together keep at most that share of their parameters, as far as they can.

    Greedy by energy lost (as a share of the layer's) per parameter saved, from nothing lost. A layer's steps
    are those along the lower convex hull of its choices, so that what is taken at a given price is the least
    loss there is (Shoham & Gersho 1988). What the last step saved beyond the budget goes back to the layers
    that make most of it. Layers not named need not give anything.
    """
    sizes = {name: choices.size.parameters for name, choices in layers.items()}
    allowed = keep * sum(sizes.values())
    taken: dict[str, int] = {}
    steps = [(price, name, number) for name, choices in layers.items() for price, number in _hull(choices)]
    for _, name, number in sorted(steps, key=lambda step: step[0]):
        total = sum(sizes.values())
        if total <= allowed:
            break
        taken[name] = number
        sizes[name] = int(layers[name].parameters[number])
    _give_back(allowed, layers, taken, sizes)
    return {name: layers[name].ranks(number) for name, number in taken.items()}


def _give_back(
    allowed: float, layers: Mapping[str, Options], taken: dict[str, int], sizes: dict[str, int]
) -> None:
    """As long as it fits, the change of one layer that wins back most."""
    while True:
        room = allowed - sum(sizes.values())
        better: list[tuple[float, str, int | None]] = []
        for name, number in taken.items():
            choices = layers[name]
            if choices.size.parameters <= sizes[name] + room:
                better.append((float(choices.loss[number]), name, None))
            elif (fitting := _last_below(choices, sizes[name] + room)) is not None and fitting > number:
                better.append((float(choices.loss[number] - choices.loss[fitting]), name, fitting))
        if not better:
            return
        _, name, best = max(better, key=lambda one: one[0])
        if best is None:
            del taken[name]
            sizes[name] = layers[name].size.parameters
        else:
            taken[name] = best
            sizes[name] = int(layers[name].parameters[best])


def _hull(choices: Options) -> list[tuple[float, int]]:
    """(energy lost per parameter saved, choice), each step from the one before, dearer and dearer."""
    parameters, loss = float(choices.size.parameters), 0.0
    steps: list[tuple[float, int]] = []
    end = len(choices)
    while end > 0:
        prices = (choices.loss[:end] - loss) / (parameters - choices.parameters[:end])
        number = int(np.argmin(prices))  # Of equal prices the first: the one that saves most.
        steps.append((float(prices[number]), number))
        parameters, loss, end = float(choices.parameters[number]), float(choices.loss[number]), number
    return steps


def _best_below(choices: Options, parameters: float) -> Ranks | None:
    number = _last_below(choices, parameters)
    return None if number is None else choices.ranks(number)


def _last_below(choices: Options, parameters: float) -> int | None:
    """The choice of least loss with at most so many parameters."""
    fitting = int(np.searchsorted(choices.parameters, parameters + EXACT, side="right"))
    return fitting - 1 if fitting else None


def _wanted(rank: RankByEnergy | FixedRank, values: npt.NDArray[np.float64]) -> int:
    if isinstance(rank, FixedRank):
        return rank.rank
    kept = 1.0 - _tails(values)
    return max(1, int(np.argmax(kept >= rank.keep - EXACT)))


def _tails(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The share of the energy lost at each rank, from rank 0; a kernel of zeros loses nothing."""
    total = float(values.sum())
    if total == 0:
        return np.zeros(len(values) + 1)
    below = np.concatenate((np.cumsum(values[::-1])[::-1], [0.0]))
    return below / total


def _multiples(size: int, round_to: int) -> npt.NDArray[np.int64]:
    """Of `round_to`, below `size`; and `size`."""
    return np.append(np.arange(round_to, size, round_to), size)
