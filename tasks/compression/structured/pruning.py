"""Structured pruning in one call: graph, importance, choice, surgery, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from tasks.compression.errors import CompressionError
from tasks.compression.structured.framework import Loss
from tasks.compression.structured.groups import (
    Alive,
    Bound,
    Dependencies,
    layer_macs,
    layer_parameters,
)
from tasks.compression.structured.importance import Batches, Scores, importance
from tasks.compression.structured.request import (
    LayerChange,
    PruningReport,
    PruningRequest,
    Remark,
    Target,
)
from tasks.compression.structured.select import Choice, Reference, choose, reference

__all__ = [
    "Plan",
    "Pruned",
    "Rounds",
    "carry_out",
    "consider",
    "joined",
    "plan",
    "prune",
]


@dataclass(frozen=True)
class Plan:
    """What would be removed from `graph.model`, and what it would cost then."""

    graph: Dependencies
    alive: Alive
    report: PruningReport

    def kept_channels(self, layer: str) -> list[int]:
        """The numbers of the channels a layer keeps; KeyError if it neither makes nor treats any."""
        made = {bound.name: bound.made for bound in self.graph.layers if len(bound.made)}
        return [int(number) for number in np.flatnonzero(self.alive[made[layer]])]


@dataclass(frozen=True)
class Pruned:
    """`model` is a plain dense model with the layer names of the original."""

    model: Any
    report: PruningReport


def consider(
    graph: Dependencies,
    request: PruningRequest,
    *,
    scores: Scores | None = None,
    batches: Batches | None = None,
    loss: Loss | None = None,
) -> Plan:
    """Choose what to remove from the model of `graph`, which is left as it is. A plan that removes nothing is
    one too, and its report says why.

    `batches` and `loss` are for the criterion taylor; `scores` stand for the importance of units where there
    are no weights to compute it from. CompressionError layer_not_found, dataset_required, loss_not_inferable,
    not_finite.
    """
    if scores is not None:
        choice = choose(graph, scores, request, reference(graph))
        return Plan(graph, choice.alive, _report(graph, choice, request.target))
    return _plan(graph, request, reference(graph), batches, loss)


def plan(
    graph: Dependencies,
    request: PruningRequest,
    *,
    batches: Batches | None = None,
    loss: Loss | None = None,
) -> Plan:
    """As `consider`; CompressionError nothing_to_do when no channel would go."""
    made = consider(graph, request, batches=batches, loss=loss)
    if made.alive.all():
        raise _nothing_to_do(made.report)
    return made


def prune(
    graph: Dependencies,
    request: PruningRequest,
    *,
    batches: Batches | None = None,
    loss: Loss | None = None,
) -> Pruned:
    """Remove channels from a model at once. A new model is made, compiled as the old; errors as `plan`."""
    return carry_out(plan(graph, request, batches=batches, loss=loss))


@dataclass(frozen=True)
class Rounds:
    """Structured pruning in `count` rounds, with training between them: of each model, as it comes back from
    the training after the round before, `plan` chooses anew what goes.

    The rounds' targets end at that of `request` and are relative to the network before the first round.
    With the pace ``geometric`` every round leaves the same share of what it found, with ``linear`` every
    round removes the same share of the original; shares of single layers likewise.
    """

    request: PruningRequest
    count: int
    pace: Literal["geometric", "linear"]
    before: Reference

    @classmethod
    def of(
        cls,
        graph: Dependencies,
        request: PruningRequest,
        count: int,
        pace: Literal["geometric", "linear"] = "geometric",
    ) -> Rounds:
        """`graph` is as it is before the first. ValueError for fewer than one round."""
        if count < 1:
            raise ValueError("there must be at least one round")
        return cls(request, count, pace, reference(graph))

    def target(self, number: int) -> Target:
        """Of the round `number`, from 1."""
        return replace(self.request.target, amount=self._amount(self.request.target.amount, number))

    def asks(self, number: int) -> PruningRequest:
        """The request of the round `number`."""
        shares = {pattern: self._amount(share, number) for pattern, share in self.request.shares.items()}
        return replace(self.request, target=self.target(number), shares=shares)

    def plan(
        self, graph: Dependencies, number: int, *, batches: Batches | None = None, loss: Loss | None = None
    ) -> Plan:
        """What the round `number` removes from the model of `graph`, be it nothing; errors as `consider`. The
        report's shares are of the network before the first round, what it calls before is before this one."""
        return _plan(graph, self.asks(number), self.before, batches, loss)

    def _amount(self, whole: float, number: int) -> float:
        if number == self.count:
            return whole
        done = number / self.count
        return whole * done if self.pace == "linear" else 1 - (1 - whole) ** done


def _plan(
    graph: Dependencies,
    request: PruningRequest,
    before: Reference,
    batches: Batches | None,
    loss: Loss | None,
) -> Plan:
    scores = importance(graph, request.criterion, seed=request.seed, batches=batches, loss=loss)
    choice = choose(graph, scores, request, before)
    return Plan(graph, choice.alive, _report(graph, choice, request.target))


def carry_out(made: Plan) -> Pruned:
    """The smaller model, compiled as the old; the plan's own model is left as it is."""
    model, compiled = made.graph.framework.remove(made.graph, made.alive)
    if compiled:
        return Pruned(model, made.report)
    lost = Remark("compile_lost", "the model is no longer compiled: not all of it is registered with Keras")
    return Pruned(model, replace(made.report, remarks=(*made.report.remarks, lost)))


def _nothing_to_do(report: PruningReport) -> CompressionError:
    reasons = "; ".join(f"{one.name}: {one.reason}" for one in report.untouched[:3])
    why = f" ({reasons})" if reasons else ""
    return CompressionError(
        "nothing_to_do",
        f"no channel would be removed for {report.target.amount:.1%} of {report.target.measure}{why}",
        hint="Ask for more, select more layers, or allow smaller ones.",
    )


def _report(graph: Dependencies, choice: Choice, target: Target) -> PruningReport:
    everything, alive = graph.everything(), choice.alive
    return PruningReport(
        target=target,
        reached=choice.reached,
        met=choice.met,
        parameters_before=graph.parameters(everything),
        parameters_after=graph.parameters(alive),
        macs_before=graph.macs(everything),
        macs_after=graph.macs(alive),
        layers=tuple(_change(graph, layer, alive) for layer in graph.layers if layer.parameters),
        untouched=choice.untouched,
        remarks=choice.remarks,
        assumed=graph.framework.assumptions(graph.graph),
    )


def _change(graph: Dependencies, layer: Bound, alive: Alive) -> LayerChange:
    everything = graph.everything()
    follows = len(layer.made) > 0
    return LayerChange(
        name=layer.name,
        kind=graph.framework.kind(layer.layer),
        channels_before=len(layer.made) if follows else None,
        channels_after=int(np.count_nonzero(alive[layer.made])) if follows else None,
        parameters_before=layer_parameters(layer, everything),
        parameters_after=layer_parameters(layer, alive),
        macs_before=layer_macs(layer, everything),
        macs_after=layer_macs(layer, alive),
    )


def joined(reports: Sequence[PruningReport]) -> PruningReport:
    """Of rounds in their order: the last one's report, with the first one's network as what was before."""
    first, last = reports[0], reports[-1]
    earlier = {layer.name: layer for layer in first.layers}
    layers = tuple(
        replace(
            layer,
            channels_before=earlier[layer.name].channels_before,
            parameters_before=earlier[layer.name].parameters_before,
            macs_before=earlier[layer.name].macs_before,
        )
        for layer in last.layers
    )
    remarks = dict.fromkeys(remark for report in reports for remark in report.remarks)
    return replace(
        last,
        parameters_before=first.parameters_before,
        macs_before=first.macs_before,
        layers=layers,
        remarks=tuple(remarks),
    )
