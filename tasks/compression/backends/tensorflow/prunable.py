"""Which layers a prune step applies to, with which schedule, and why not to others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from featherweight.spec import Prune, PruningSchedule, XnnpackLatency
from tasks.compression.backends.tensorflow._framework import sparsity
from tasks.compression.backends.tensorflow.layers import Placed, kernels, select
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.prunability import no_pruning, obstacle, target
from tasks.compression.errors import CompressionError
from tasks.compression.pending import Pending

__all__ = ["check_xnnpack", "left_out", "prunable", "schedules", "target", "unsupported", "unused_overrides"]


def prunable(network: Network, pending: Pending[Prune]) -> list[Placed]:
    """The layers a prune step selects that have weights it can prune."""
    step = pending.step
    return [
        place
        for place in select(network.model, step.layers, f"{pending.pointer}/layers")
        if kernels(place.layer) and _obstacle(place.layer, step) is None and not _left_out(place.layer, step)
    ]


def schedules(network: Network, pending: Pending[Prune]) -> dict[str, PruningSchedule]:
    """The schedule of each prunable layer: that of the first override that matches, else the step's."""
    found: dict[str, PruningSchedule] = {}
    for index, override in enumerate(pending.step.overrides):
        pointer = f"{pending.pointer}/overrides/{index}/layers"
        for place in select(network.model, override.layers, pointer):
            found.setdefault(place.path, override.schedule)
    return {place.path: found.get(place.path, pending.step.schedule) for place in prunable(network, pending)}


def unused_overrides(network: Network, pending: Pending[Prune]) -> list[int]:
    """The overrides none of whose layers is prunable, or not without an earlier override for it."""
    taken = {place.path: False for place in prunable(network, pending)}
    unused = []
    for index, override in enumerate(pending.step.overrides):
        pointer = f"{pending.pointer}/overrides/{index}/layers"
        paths = [place.path for place in select(network.model, override.layers, pointer)]
        new = [path for path in paths if taken.get(path) is False]
        taken |= dict.fromkeys(new, True)
        if not new:
            unused.append(index)
    return unused


def unsupported(model: Any, step: Prune, pointer: str) -> Iterator[tuple[Placed, str]]:
    """Selected layers with weights worth pruning that cannot be, and why. Vectors (biases, the statistics of
    a normalisation) are never pruned and do not count."""
    for place in select(model, step.layers, f"{pointer}/layers"):
        if not any(len(weight.shape) > 1 for weight in place.layer.weights) or _left_out(place.layer, step):
            continue
        if not kernels(place.layer):
            yield place, no_pruning(type(place.layer).__name__)
        elif (why := _obstacle(place.layer, step)) is not None:
            yield place, why


def left_out(model: Any, step: Prune, pointer: str) -> list[Placed]:
    """Selected layers with prunable weights that the pattern leaves alone by its own rule."""
    places = select(model, step.layers, f"{pointer}/layers")
    return [place for place in places if kernels(place.layer) and _left_out(place.layer, step)]


def check_xnnpack(model: Any, pointer: str) -> None:
    """CompressionError layer_not_supported for a model that XNNPACK's sparse kernels cannot run."""
    policy = _Policy()
    try:
        policy.ensure_model_supports_pruning(model)
    except ValueError as error:
        name = None if policy.refused is None else policy.refused.name
        raise CompressionError(
            "layer_not_supported",
            f"XNNPACK's sparse kernels cannot run the model: {error}" + (f" ({name})" if name else ""),
            hint="they take 1x1 convolutions between a padded 3x3 convolution of stride 2 on 3 channels and "
            "a GlobalAveragePooling2D; other networks can be pruned with the pattern unstructured",
            layer=name,
            pointer=f"{pointer}/pattern",
        ) from error


class _Policy(sparsity.PruneForLatencyOnXNNPack):  # type: ignore[misc]
    """TFMOT's policy, which says the kind of the layer it refuses; `refused` is the layer."""

    def __init__(self) -> None:
        self.refused: Any = None

    def _check_layer_support(self, layer: Any) -> bool:
        supported = bool(super()._check_layer_support(layer))
        if not supported:
            self.refused = layer
        return supported


def _left_out(layer: Any, step: Prune) -> bool:
    return isinstance(step.pattern, XnnpackLatency) and not _Policy().allow_pruning(layer)


def _obstacle(layer: Any, step: Prune) -> str | None:
    """Why the step's pattern cannot be laid on the layer's kernels."""
    return obstacle(type(layer).__name__, [tuple(weight.shape) for weight in kernels(layer)], step)
