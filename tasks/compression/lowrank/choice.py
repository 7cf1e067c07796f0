"""The ranks of a network's layers, for what a step asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from featherweight.spec import Decompose, FixedRank, RankByBudget, RankByEnergy
from tasks.compression.errors import CompressionError
from tasks.compression.lowrank.factors import spectra
from tasks.compression.lowrank.ranks import (
    Options,
    Ranks,
    Size,
    budgeted,
    cheapest,
    named,
    options,
    within,
)

__all__ = ["NO_RANK", "Choice", "Target", "choose", "not_smaller"]

NO_RANK = "no rank would make it smaller"


class Target(Protocol):
    """A layer that can be decomposed, with its kernel [taps..., inputs, outputs]."""

    @property
    def path(self) -> str: ...
    @property
    def size(self) -> Size: ...
    @property
    def kernel(self) -> npt.NDArray[np.float32]: ...


@dataclass
class Choice:
    """`ranks` of the layers that are decomposed; why of those selected that are not, and which of these are
    to be warned of; `missed` has the share of parameters left where it is more than was asked for."""

    ranks: dict[str, Ranks] = field(default_factory=dict)
    left_alone: dict[str, str] = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)
    missed: dict[str | None, float] = field(default_factory=dict)

    def leave(self, path: str, why: str, *, warn: bool = True) -> None:
        self.left_alone[path] = why
        if warn:
            self.warned.add(path)


def not_smaller(size: Size, ranks: Ranks) -> str:
    """Why ranks are no use."""
    at = f"rank {ranks.inputs}" if size.is_matrix else f"ranks {ranks.inputs} and {ranks.outputs}"
    parameters = int(size.parameters_at(ranks.inputs, ranks.outputs))
    if parameters >= size.parameters:
        return f"of {at} it would have {parameters} parameters, and it has {size.parameters}"
    macs = int(size.macs_at(ranks.inputs, ranks.outputs))
    return f"of {at} it would take {macs} multiply-accumulates, and it takes {size.macs}"


def choose(found: Sequence[Target], step: Decompose) -> Choice:
    """CompressionError bad_model for weights that are not finite."""
    choice = Choice()
    for target in found:
        _refuse_not_finite(target)
    if isinstance(step.rank, RankByEnergy | FixedRank):
        for target in found:
            _choose_named(target, step.rank, step.round_to, choice)
        return choice
    choices = {target.path: options(target.size, spectra(target.kernel), step.round_to) for target in found}
    if isinstance(step.rank, RankByBudget):
        _choose_budgeted(step.rank, choices, choice)
        return choice
    for path, offered in choices.items():
        fewest = cheapest(offered)
        if fewest is None:
            choice.leave(path, NO_RANK)
            continue
        best = within(step.rank, offered)
        choice.ranks[path] = best or fewest
        if best is None:
            choice.missed[path] = int(offered.parameters[0]) / offered.size.parameters
    return choice


def _choose_named(target: Target, rank: RankByEnergy | FixedRank, round_to: int, choice: Choice) -> None:
    ranks = named(rank, target.size, spectra(target.kernel), round_to)
    if target.size.shrinks(ranks.inputs, ranks.outputs):
        choice.ranks[target.path] = ranks
    else:
        choice.leave(target.path, not_smaller(target.size, ranks))


def _choose_budgeted(rank: RankByBudget, choices: Mapping[str, Options], choice: Choice) -> None:
    choice.ranks = budgeted(rank.keep, choices)
    for path, offered in choices.items():
        if path not in choice.ranks:
            enough = len(offered) > 0
            choice.leave(path, "the budget is met without it" if enough else NO_RANK, warn=not enough)
    before = sum(offered.size.parameters for offered in choices.values())
    after = sum(
        int(offered.size.parameters_at(ranks.inputs, ranks.outputs))
        if (ranks := choice.ranks.get(path)) is not None
        else offered.size.parameters
        for path, offered in choices.items()
    )
    if after > rank.keep * before:
        choice.missed[None] = after / before


def _refuse_not_finite(target: Target) -> None:
    if not np.isfinite(target.kernel).all():
        raise CompressionError(
            "bad_model",
            f"the weights of the layer {target.path} hold NaN or infinity",
            hint="train the model again with a lower learning rate",
            layer=target.path,
        )
