"""Low-rank decomposition, by the package `lowrank`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from featherweight.spec import Decompose, FixedRank, RankByBudget, RankByEnergy
from tasks.compression.backends.tensorflow.layers import select, zero_share
from tasks.compression.backends.tensorflow.lowrank.factors import spectra
from tasks.compression.backends.tensorflow.lowrank.ranks import (
    Options,
    Ranks,
    budgeted,
    cheapest,
    named,
    options,
    within,
)
from tasks.compression.backends.tensorflow.lowrank.surgery import Replacement, factored, replaced
from tasks.compression.backends.tensorflow.lowrank.targets import (
    NO_RANK,
    Target,
    not_smaller,
    obstacle,
    refused,
    targets,
)
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.structured import count
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError
from tasks.compression.prunability import KEEP_ZEROS_FROM
from tasks.compression.workspace import LayerNote

__all__ = ["check", "decompose"]


@dataclass
class _Choice:
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


def check(network: Network, step: Decompose, pointer: str) -> None:
    """CompressionError unsupported_model; layer_not_found; layer_not_supported where the step says ``error``
    and a selected layer is of a kind that cannot be decomposed."""
    found = _obstacles(network.model, step, pointer)
    for path, why in found.items():
        if step.on_unsupported == "error":
            raise refused(path, why, pointer)
    _targets(network.model, step, pointer)


def decompose(network: Network, step: Decompose, context: Context) -> Network:
    """Replace layers by their factors; where none would become smaller the network comes back as it is, and
    the report says why.

    CompressionError as `check`, for a network that earlier steps changed; bad_model for weights that are not
    finite.
    """
    check(network, step, context.pointer)
    found = _targets(network.model, step, context.pointer)
    choice = _choose(found, step)
    for path, why in _obstacles(network.model, step, context.pointer).items():
        choice.leave(path, why)
    made = []
    for number, target in enumerate(found, start=1):
        if target.path in choice.ranks:
            made.append(factored(target, choice.ranks[target.path]))
        context.progress.advance(number, len(found))
    model = replaced(network.model, made) if made else network.model
    _note(network.model, model, step, choice, made, context)
    return replace(network, model=model, pruned={}, tflite=None) if made else network


def _targets(model: Any, step: Decompose, pointer: str) -> list[Target]:
    return targets(model, {place.path for place in select(model, step.layers, f"{pointer}/layers")})


def _obstacles(model: Any, step: Decompose, pointer: str) -> dict[str, str]:
    chosen = select(model, step.layers, f"{pointer}/layers")
    return {place.path: why for place in chosen if (why := obstacle(place.layer)) is not None}


def _choose(found: Sequence[Target], step: Decompose) -> _Choice:
    choice = _Choice()
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


def _choose_named(target: Target, rank: RankByEnergy | FixedRank, round_to: int, choice: _Choice) -> None:
    ranks = named(rank, target.size, spectra(target.kernel), round_to)
    if target.size.shrinks(ranks.inputs, ranks.outputs):
        choice.ranks[target.path] = ranks
    else:
        choice.leave(target.path, not_smaller(target.size, ranks))


def _choose_budgeted(rank: RankByBudget, choices: Mapping[str, Options], choice: _Choice) -> None:
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


def _note(
    before: Any, after: Any, step: Decompose, choice: _Choice, made: Sequence[Replacement], context: Context
) -> None:
    for path, why in choice.left_alone.items():
        context.record.layers[path] = LayerNote(skipped=why)
        if path in choice.warned:
            context.warn("not_decomposed", layer=path, why=why)
    keep = None if isinstance(step.rank, FixedRank) else step.rank.keep
    for layer, reached in choice.missed.items():
        context.warn("rank_not_low_enough", layer=layer, reached=reached, asked=keep)
    for replacement in made:
        _warn_of_losses(replacement.target, context)
        for path in replacement.paths:
            context.record.layers[path] = LayerNote(made_from=replacement.target.path)
    was, now = count(before), count(after)
    context.record.details.update(
        rank=step.rank.model_dump(mode="json"),
        parameters_before=was.parameters,
        parameters_after=now.parameters,
        macs_before=was.macs,
        macs_after=now.macs,
        layers={one.target.path: _described(one, choice.ranks[one.target.path]) for one in made},
        left_alone=choice.left_alone,
    )


def _described(replacement: Replacement, ranks: Ranks) -> dict[str, Any]:
    size, error = replacement.target.size, replacement.error
    return {
        "layers": replacement.paths,
        "ranks": [ranks.inputs] if size.is_matrix else [ranks.inputs, ranks.outputs],
        "full_ranks": [min(size.inputs, size.outputs)] if size.is_matrix else [size.inputs, size.outputs],
        "parameters_before": size.parameters,
        "parameters_after": int(size.parameters_at(ranks.inputs, ranks.outputs)),
        "macs_before": size.macs,
        "macs_after": int(size.macs_at(ranks.inputs, ranks.outputs)),
        "energy_kept": round(1.0 - error**2, 6),
        "relative_error": round(error, 6),
    }


def _warn_of_losses(target: Target, context: Context) -> None:
    zeros = zero_share([target.inner.kernel])
    if zeros >= KEEP_ZEROS_FROM:
        context.warn("zeros_lost", layer=target.path, share=zeros)
    for name in ("kernel_regularizer", "kernel_constraint"):
        if getattr(target.inner, name, None) is not None:
            context.warn("kernel_penalty_dropped", layer=target.path, name=name)
