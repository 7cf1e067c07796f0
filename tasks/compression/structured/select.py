"""Choosing the units to remove: a list of moves in the order of a ranking, cut where the target is met.

A move takes a group from one allowed size to the next. Local ranking orders moves by the share of the
group that is gone after them, global ranking by the mean importance of what they remove. Taylor's
importance is a loss, so under a target of cost it is weighed against the cost saved, as in a knapsack
(Shen et al., HALP, NeurIPS 2022); norms are relative to their layer and are not. Cost falls with every
move, so the shortest list that meets a target is found by bisection, at the exact cost of each.
"""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import pairwise
from math import ceil, gcd, lcm

import numpy as np

from tasks.compression.errors import CompressionError
from tasks.compression.structured.groups import Alive, Dependencies, Group, Units
from tasks.compression.structured.importance import Scores
from tasks.compression.structured.request import PruningRequest, Remark, Target, Untouched

__all__ = ["Choice", "Reference", "choose", "reference"]

_SLACK = 1e-9  # of shares, which are quotients

_Key = tuple[tuple[str, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Reference:
    """A network as it was before the first round: its cost, and the size of each group."""

    parameters: int
    macs: int
    units: Mapping[_Key, int]

    def size(self, group: Group) -> int:
        return self.units[group.makers, group.widths]


@dataclass(frozen=True)
class Choice:
    alive: Alive
    untouched: tuple[Untouched, ...]
    reached: float
    met: bool
    remarks: tuple[Remark, ...]


@dataclass(frozen=True)
class _Move:
    units: Units
    share: float
    """Of the group, gone after the move."""
    importance: float
    channels: int


def reference(graph: Dependencies) -> Reference:
    alive = graph.everything()
    sizes = {(group.makers, group.widths): len(group.units) for group in graph.groups}
    return Reference(graph.parameters(alive), graph.macs(alive), sizes)


def choose(graph: Dependencies, scores: Scores, request: PruningRequest, before: Reference) -> Choice:
    """The units that stay. `before` is the network's own reference, or that of an earlier round.

    CompressionError layer_not_found for a pattern that matches no layer.
    """
    matching = _Matching(graph)
    matching.check(request)
    price = _prices(graph, request, before)
    moves: list[list[_Move]] = []
    fixed: list[_Move] = []
    reasons = dict(graph.opaque)
    for group in graph.groups:
        reason = _kept(group, scores, request, matching)
        share = _share(group, request, matching)
        floor = _floor(group, request, before, fixed=share is not None)
        steps = [] if reason else _moves(group, scores / price(group), request, before, floor)
        if not reason and not steps:
            reason = "no smaller size is allowed by min_channels, min_share and round_to"
        if reason:
            reasons.update(dict.fromkeys(group.makers, reason))
        elif share is not None:
            fixed += [move for move in steps if move.share <= share + _SLACK]
        else:
            moves.append(steps)
    alive = graph.everything()
    for move in fixed:
        alive[move.units] = False
    taken = _take(graph, alive, _ranked(moves, request), request, before)
    for move in taken:
        alive[move.units] = False
    untouched = tuple(Untouched(name, reason) for name, reason in reasons.items())
    choice = _judge(graph, alive, untouched, request, before)
    return replace(choice, remarks=(*choice.remarks, *_without_effect(graph, alive, request, matching)))


class _Matching:
    """Patterns against layers, by their path or by their bare name."""

    def __init__(self, graph: Dependencies) -> None:
        self._bare = {layer.name: layer.layer.name for layer in graph.layers}

    def __call__(self, name: str, pattern: str) -> bool:
        return fnmatchcase(name, pattern) or fnmatchcase(self._bare[name], pattern)

    def check(self, request: PruningRequest) -> None:
        for pattern in (*request.include, *request.exclude, *request.shares):
            if not any(self(name, pattern) for name in self._bare):
                near = difflib.get_close_matches(pattern, self._bare, n=3) or list(self._bare)[:8]
                raise CompressionError(
                    "layer_not_found",
                    f"the pattern {pattern!r} matches no layer of the model",
                    hint=f"There are layers {', '.join(near)}.",
                )


def _kept(group: Group, scores: Scores, request: PruningRequest, matching: _Matching) -> str | None:
    """Why none of the group may be removed; None if some may."""
    if group.kept is not None:
        return group.kept
    for name in (*group.makers, *group.treated_by):
        if any(matching(name, pattern) for pattern in request.exclude):
            return f"{name} is excluded"
    for name in group.makers:
        if not any(matching(name, pattern) for pattern in request.include):
            return f"{name} is not included"
    if np.isnan(scores[group.units]).any():
        return f"the criterion {request.criterion} has nothing to rank them by"
    return None


def _share(group: Group, request: PruningRequest, matching: _Matching) -> float | None:
    found = [
        share
        for pattern, share in request.shares.items()
        if any(matching(name, pattern) for name in group.makers)
    ]
    return min(found) if found else None


def _prices(graph: Dependencies, request: PruningRequest, before: Reference) -> Callable[[Group], float]:
    """The share of the cost that one unit of a group is, where importance is to be weighed against it."""
    if request.criterion != "taylor" or request.target.measure == "channels":
        return lambda group: 1.0
    measure, _ = _cost(graph, request.target, before)
    whole = measure(graph.everything())

    def price(group: Group) -> float:
        without = graph.everything()
        without[group.units[:1]] = False
        return max(whole - measure(without), 1) / whole

    return price


def _floor(group: Group, request: PruningRequest, before: Reference, *, fixed: bool) -> int:
    """The fewest units the group may be left with; a share that was asked for is not held up by min_share."""
    floor = max(ceil(request.min_channels / min(group.widths)), 1)
    if request.ranking == "global" and not fixed:
        floor = max(floor, ceil(request.min_share * before.size(group) - _SLACK))
    return floor


def _moves(
    group: Group, scores: Scores, request: PruningRequest, before: Reference, floor: int
) -> list[_Move]:
    """From the largest allowed size down to the smallest; the least important units go first."""
    order = group.units[np.argsort(scores[group.units], kind="stable")]
    now, first = len(order), before.size(group)
    step = lcm(*(request.round_to // gcd(request.round_to, width) for width in group.widths))
    sizes = [now, *range((now - 1) // step * step, floor - 1, -step)]
    return [
        _Move(
            units=order[now - larger : now - smaller],
            share=(first - smaller) / first,
            importance=float(scores[order[now - larger : now - smaller]].mean()),
            channels=(larger - smaller) * sum(group.widths),
        )
        for larger, smaller in pairwise(sizes)
    ]


def _ranked(moves: Sequence[Sequence[_Move]], request: PruningRequest) -> list[_Move]:
    """All moves, those of a group in their order: shares rise, and so do means of sorted importances."""

    def key(item: tuple[int, int, _Move]) -> tuple[float, ...]:
        group, position, move = item
        if request.ranking == "local":
            return move.share, move.importance, group, position
        return move.importance, group, position

    items = [
        (group, position, move) for group, steps in enumerate(moves) for position, move in enumerate(steps)
    ]
    return [move for _, _, move in sorted(items, key=key)]


def _take(
    graph: Dependencies, alive: Alive, ranked: Sequence[_Move], request: PruningRequest, before: Reference
) -> Sequence[_Move]:
    """The first moves of the ranking, as many as the target wants. `alive` is what other rules left."""
    target = request.target
    if target.amount == 0:
        return ()
    if target.measure == "channels":
        if request.ranking == "local":
            return [move for move in ranked if move.share <= target.amount + _SLACK]
        total = _channels(graph, before)
        gone = total - _channels_left(graph, alive)
        after = gone + np.cumsum([move.channels for move in ranked])
        return ranked[: int(np.searchsorted(after, target.amount * total + _SLACK, side="right"))]

    measure, limit = _cost(graph, target, before)

    def enough(count: int) -> bool:
        trial = alive.copy()
        for move in ranked[:count]:
            trial[move.units] = False
        return measure(trial) <= limit

    return ranked[: bisect_left(range(len(ranked)), True, key=enough)]


def _cost(graph: Dependencies, target: Target, before: Reference) -> tuple[Callable[[Alive], int], float]:
    if target.measure == "parameters":
        return graph.parameters, (1 - target.amount) * before.parameters
    return graph.macs, (1 - target.amount) * before.macs


def _channels(graph: Dependencies, before: Reference) -> int:
    return sum(before.size(group) * sum(group.widths) for group in graph.groups if group.kept is None)


def _channels_left(graph: Dependencies, alive: Alive) -> int:
    return sum(
        int(np.count_nonzero(alive[group.units])) * sum(group.widths)
        for group in graph.groups
        if group.kept is None
    )


def _judge(
    graph: Dependencies,
    alive: Alive,
    untouched: tuple[Untouched, ...],
    request: PruningRequest,
    before: Reference,
) -> Choice:
    target = request.target
    remarks = []
    if target.measure == "channels":
        total = _channels(graph, before)
        reached = 1 - _channels_left(graph, alive) / total if total else 0.0
        met = bool(request.shares) or reached <= target.amount + _SLACK
    else:
        measure, limit = _cost(graph, target, before)
        whole = before.parameters if target.measure == "parameters" else before.macs
        reached = 1 - measure(alive) / whole if whole else 0.0
        met = measure(alive) <= limit
        if not met:
            remarks.append(
                Remark(
                    "target_not_reached",
                    f"{reached:.1%} of the {target.measure} could be removed of the {target.amount:.1%} "
                    "asked for: no further channel may go",
                )
            )
    return Choice(alive, untouched, reached, met, tuple(remarks))


def _without_effect(
    graph: Dependencies, alive: Alive, request: PruningRequest, matching: _Matching
) -> list[Remark]:
    """The shares of which nothing came."""
    remarks = []
    for pattern, share in request.shares.items():
        matched = [group for group in graph.groups if any(matching(name, pattern) for name in group.makers)]
        if share > 0 and all(alive[group.units].all() for group in matched):
            remarks.append(Remark("no_effect", f"the share for {pattern!r} removes no channel"))
    return remarks
