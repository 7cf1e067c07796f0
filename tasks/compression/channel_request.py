"""What a prune_channels step asks of structured pruning: the same for the handler and for plans.

`paths` answers a selection of layers with their paths; it imports no framework.
"""

from __future__ import annotations

from collections.abc import Callable
from glob import escape
from typing import Any

from featherweight.spec import KeepParameters, LayerSelection, PruneChannels, RemoveRatio
from tasks.compression.errors import CompressionError
from tasks.compression.structured import (
    Criterion,
    Plan,
    PruningReport,
    PruningRequest,
    Target,
    Untouched,
)

__all__ = [
    "TAYLOR_SAMPLES",
    "Paths",
    "amount_asked",
    "amount_reached",
    "described",
    "left_alone",
    "refuse",
    "request_of",
    "round_described",
    "without_effect",
]

TAYLOR_SAMPLES = 1024
"""Of the training split, that Taylor's importance takes gradients of."""

Paths = Callable[[LayerSelection, str], list[str]]


def request_of(paths: Paths, step: PruneChannels, pointer: str, *, seed: int) -> PruningRequest:
    """Selections become the paths they name, so that patterns mean what they do in every other step."""
    target = step.target
    if isinstance(target, RemoveRatio):
        amount = Target("channels", target.remove)
    elif isinstance(target, KeepParameters):
        amount = Target("parameters", 1 - target.keep)
    else:
        amount = Target("macs", 1 - target.keep)
    chosen = paths(step.layers, f"{pointer}/layers")
    excluded: set[str] = set()
    if step.layers.exclude:
        others = paths(LayerSelection(exclude=step.layers.exclude), f"{pointer}/layers")
        excluded = set(paths(LayerSelection(), pointer)) - set(others)
    overridden = _overridden(paths, step, pointer)
    criterion: Criterion
    criterion = "batchnorm_scale" if step.importance == "batch_norm_scale" else step.importance
    return PruningRequest(
        target=amount,
        criterion=criterion,
        include=tuple(escape(path) for path in chosen),
        exclude=tuple(escape(path) for path in sorted(excluded)),
        shares={escape(path): step.overrides[index].remove for path, index in overridden.items()},
        min_channels=step.min_channels,
        round_to=step.round_to,
        seed=seed,
    )


def without_effect(paths: Paths, step: PruneChannels, pointer: str, plan: Plan) -> list[int]:
    """The overrides that ask for channels to go where none does."""
    overridden = _overridden(paths, step, pointer)
    losing = {
        overridden.get(maker)
        for group in plan.graph.groups
        if not plan.alive[group.units].all()
        for maker in group.makers
    }
    return [index for index, item in enumerate(step.overrides) if item.remove > 0 and index not in losing]


def left_alone(paths: Paths, step: PruneChannels, pointer: str, plan: Plan) -> list[Untouched]:
    """The selected layers that make channels and cannot lose any."""
    chosen = set(paths(step.layers, f"{pointer}/layers"))
    return [layer for layer in plan.report.untouched if layer.name in chosen]


def refuse(alone: list[Untouched], step: PruneChannels, pointer: str) -> None:
    """CompressionError layer_not_supported for the first of them, where the step says ``error``."""
    if alone and step.on_unsupported == "error":
        first = alone[0]
        raise CompressionError(
            "layer_not_supported",
            f"the layer {first.name} was selected and cannot lose channels: {first.reason}",
            hint="exclude it, or set on_unsupported to skip",
            layer=first.name,
            pointer=f"{pointer}/layers",
        )


def described(report: PruningReport, step: PruneChannels) -> dict[str, Any]:
    """For the details of a report or a plan."""
    channels = {
        change.name: {"before": change.channels_before, "after": change.channels_after}
        for change in report.layers
        if change.channels_before is not None
    }
    return {
        "importance": step.importance,
        "target": report.target.measure,
        "asked": amount_asked(report.target, step),
        "reached": amount_reached(report),
        "met": report.met,
        "parameters_before": report.parameters_before,
        "parameters_after": report.parameters_after,
        "macs_before": report.macs_before,
        "macs_after": report.macs_after,
        "channels": channels,
        "macs_assumed": dict(report.assumed),
    }


def amount_asked(target: Target, step: PruneChannels) -> float:
    """In the words of the step: the share removed of channels, the share kept of the others."""
    return round(target.amount if isinstance(step.target, RemoveRatio) else 1 - target.amount, 6)


def amount_reached(report: PruningReport) -> float:
    return round(report.reached if report.target.measure == "channels" else 1 - report.reached, 6)


def _overridden(paths: Paths, step: PruneChannels, pointer: str) -> dict[str, int]:
    """The first override that matches each layer."""
    found: dict[str, int] = {}
    for index, override in enumerate(step.overrides):
        for path in paths(override.layers, f"{pointer}/overrides/{index}/layers"):
            found.setdefault(path, index)
    return found


def round_described(number: int, report: PruningReport, step: PruneChannels) -> dict[str, Any]:
    """A round as the job's report has it; what it calls reached is of the network before the first round."""
    return {
        "round": number,
        "asked": amount_asked(report.target, step),
        "reached": amount_reached(report),
        "met": report.met,
        "parameters": report.parameters_after,
        "macs": report.macs_after,
        "channels": {
            change.name: change.channels_after
            for change in report.layers
            if change.channels_after is not None
        },
    }
