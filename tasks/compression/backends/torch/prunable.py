"""Which layers a prune step applies to, with which schedule, and why not to others."""

from __future__ import annotations

from collections.abc import Iterator

from featherweight.spec import LayerSelection, Prune, PruningSchedule
from tasks.compression.backends.torch._framework import fx, nn
from tasks.compression.backends.torch.layers import Placed, kernels, select
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.prunability import DEPTHWISE, is_depthwise, no_pruning, obstacle
from tasks.compression.overrides import first_matches, unused
from tasks.compression.pending import Pending

__all__ = ["kind_of", "prunable", "schedules", "unsupported", "unused_overrides"]


def prunable(network: Network, pending: Pending[Prune]) -> list[Placed]:
    """The layers a prune step selects that have weights it can prune."""
    return [
        place
        for place in select(network.model, pending.step.layers, f"{pending.pointer}/layers")
        if kernels(place.layer) and _obstacle(place.layer, pending.step) is None
    ]


def schedules(network: Network, pending: Pending[Prune]) -> dict[str, PruningSchedule]:
    """The schedule of each prunable layer: that of the first override that matches, else the step's."""
    step, found = pending.step, _overridden(network.model, pending)
    return {
        place.path: step.overrides[found[place.path]].schedule if place.path in found else step.schedule
        for place in prunable(network, pending)
    }


def unused_overrides(network: Network, pending: Pending[Prune]) -> list[int]:
    """The overrides none of whose layers is prunable, or not without an earlier override for it."""
    changed = {place.path for place in prunable(network, pending)}
    return unused(pending.step.overrides, _overridden(network.model, pending), changed)


def unsupported(model: fx.GraphModule, step: Prune, pointer: str) -> Iterator[tuple[Placed, str]]:
    """Selected layers with weights worth pruning that cannot be, and why. Vectors (biases, the statistics of
    a normalisation) are never pruned and do not count."""
    for place in select(model, step.layers, f"{pointer}/layers"):
        if not any(weight.dim() > 1 for weight in place.layer.parameters()):
            continue
        if not kernels(place.layer):
            yield place, no_pruning(kind_of(place.layer))
        elif (why := _obstacle(place.layer, step)) is not None:
            yield place, why


def kind_of(layer: nn.Module) -> str:
    """The layer's class, and of a convolution whether it is depthwise."""
    kind = type(layer).__name__
    depthwise = isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and is_depthwise(
        layer.groups, layer.in_channels
    )
    return f"{DEPTHWISE}{kind}" if depthwise else kind


def _overridden(model: fx.GraphModule, pending: Pending[Prune]) -> dict[str, int]:
    def chosen(selection: LayerSelection, pointer: str) -> list[Placed]:
        return select(model, selection, pointer)

    return first_matches(pending.step.overrides, pending.pointer, chosen)


def _obstacle(layer: nn.Module, step: Prune) -> str | None:
    """Why the step's pattern cannot be laid on the layer's kernels."""
    return obstacle(type(layer).__name__, [tuple(weight.shape) for weight in kernels(layer)], step)
