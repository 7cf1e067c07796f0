"""What a decompose step will do: which layers become thinner ones, and to which rank.

Ranks that are given, and those of matrices under a share of parameters, depend on no weight. Others follow
from singular values, which an outline does not hold: under ``energy`` none is told, under ``parameters`` and
``budget`` convolutions are taken to lose as much with each channel, and the numbers are estimates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from featherweight.plan import PlannedLayer
from featherweight.spec import Decompose, FixedRank, RankByBudget, RankByEnergy
from tasks.compression.lowrank.choice import NO_RANK, not_smaller
from tasks.compression.lowrank.factors import Spectra
from tasks.compression.lowrank.ranks import (
    Ranks,
    Size,
    budgeted,
    cheapest,
    named,
    options,
    within,
)
from tasks.compression.outline.facts import Layer, Outline
from tasks.compression.planning.kinds import kinds_of
from tasks.compression.planning.state import Context, State, select
from tasks.compression.selection import refused

__all__ = ["check", "plan"]


def check(outline: Outline, step: Decompose, pointer: str) -> None:
    """As the handler's: CompressionError layer_not_found, layer_not_supported."""
    chosen = {layer.path for layer in select(outline, step.layers, f"{pointer}/layers")}
    for path, why in kinds_of(outline).decomposable(outline, chosen).obstacles.items():
        if step.on_unsupported == "error":
            raise refused(path, "decomposition", why, pointer)


def plan(state: State, step: Decompose, context: Context) -> State:
    outline = state.outline
    check(outline, step, context.pointer)
    chosen = {layer.path for layer in select(outline, step.layers, f"{context.pointer}/layers")}
    known = kinds_of(outline).decomposable(outline, chosen)
    found = known.sizes
    ranks, reasons = _choose(found, step)
    reasons |= known.obstacles
    for layer in outline.listed():
        if not layer.weights:
            continue
        planned = PlannedLayer(layer=layer.path, kind=layer.kind, action="not_selected")
        if layer.path in found and layer.path not in reasons:
            planned = _described(layer, found[layer.path], ranks.get(layer.path), step)
        elif layer.path in chosen:
            why = reasons.get(layer.path, "it has no matrix of weights")
            planned = planned.model_copy(update={"action": "leave_alone", "reason": why})
        context.layers.append(planned)
    for path, why in reasons.items():
        context.warn("not_decomposed", layer=path, why=why)
    if len(reasons) == len(found.keys() | reasons.keys()):
        context.warn("nothing_changed", index=context.index, technique=step.technique)
        return state
    if context.following is not None:
        context.warn("not_looked_at", what="What later steps do to the layers that decompose makes")
    return replace(state, guessed=True, guessed_zeros=True)


def _flat(size: Size) -> Spectra:
    """Singular values that are all the same, as many as the kernel has."""
    if size.is_matrix:
        values = np.ones(min(size.inputs, size.outputs))
        return Spectra(values, values)
    return Spectra(np.ones(size.inputs), np.ones(size.outputs))


def _choose(found: Mapping[str, Size], step: Decompose) -> tuple[dict[str, Ranks], dict[str, str]]:
    """Ranks of layers where they can be told, and why layers are left alone."""
    ranks: dict[str, Ranks] = {}
    reasons: dict[str, str] = {}
    if isinstance(step.rank, RankByEnergy):
        return ranks, reasons
    if isinstance(step.rank, FixedRank):
        for path, size in found.items():
            made = named(step.rank, size, _flat(size), step.round_to)
            if size.shrinks(made.inputs, made.outputs):
                ranks[path] = made
            else:
                reasons[path] = not_smaller(size, made)
        return ranks, reasons
    offered = {path: options(size, _flat(size), step.round_to) for path, size in found.items()}
    reasons = {path: NO_RANK for path, choices in offered.items() if cheapest(choices) is None}
    if isinstance(step.rank, RankByBudget):
        return budgeted(step.rank.keep, offered), reasons
    for path, choices in offered.items():
        best = within(step.rank, choices) or cheapest(choices)
        if best is not None:
            ranks[path] = best
    return ranks, reasons


def _described(layer: Layer, size: Size, ranks: Ranks | None, step: Decompose) -> PlannedLayer:
    if ranks is None:
        # Which layers give something for a budget, and how much energy a rank keeps, the weights say.
        return PlannedLayer(
            layer=layer.path,
            kind=layer.kind,
            action="change",
            parameters_before=size.parameters,
            macs_before=size.macs,
            estimated=["action"],
        )
    exact = isinstance(step.rank, FixedRank) or (size.is_matrix and not isinstance(step.rank, RankByBudget))
    return PlannedLayer(
        layer=layer.path,
        kind=layer.kind,
        action="change",
        rank=ranks.inputs,
        parameters_before=size.parameters,
        parameters_after=int(size.parameters_at(ranks.inputs, ranks.outputs)),
        macs_before=size.macs,
        macs_after=int(size.macs_at(ranks.inputs, ranks.outputs)),
        estimated=[] if exact else ["rank", "parameters_after", "macs_after"],
    )
