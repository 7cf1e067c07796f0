"""Magnitude pruning: at once, or noted down for the fine-tuning that follows to carry out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from featherweight.spec import Distill, Finetune, Prune
from tasks.compression.backends.tensorflow.layers import Placed, kernels, select
from tasks.compression.backends.tensorflow.network import Network, Pending
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError
from tasks.compression.workspace import LayerNote

__all__ = ["check", "kept_weights", "magnitude_mask", "prunable", "prune"]


def check(network: Network, step: Prune, pointer: str) -> None:
    """CompressionError layer_not_found; layer_not_supported where the step says ``error``."""
    for place, why in _unsupported(network.model, step, pointer):
        if step.on_unsupported == "error":
            raise CompressionError(
                "layer_not_supported",
                f"the layer {place.path} was selected for pruning: {why}",
                hint="exclude it, or set on_unsupported to skip",
                layer=place.path,
                pointer=f"{pointer}/layers",
            )


def prune(network: Network, step: Prune, context: Context) -> Network:
    """Prune at once to the schedule's final sparsity (Zhu & Gupta 2017, magnitude per layer), or leave the
    step pending when training follows."""
    _note(network.model, step, context)
    network = replace(network, pending=(*network.pending, Pending(step, context.pointer)))
    if isinstance(context.following, Prune | Finetune | Distill):
        return network
    return _at_once(network)


def prunable(network: Network, pending: Pending) -> list[Placed]:
    """The layers a prune step selects that have weights to prune."""
    places = select(network.model, pending.step.layers, f"{pending.pointer}/layers")
    return [place for place in places if kernels(place.layer)]


def kept_weights(size: int, sparsity: float) -> int:
    """How many of `size` weights stay: TFMOT's count, in its float32 arithmetic."""
    return max(1, int(np.round(np.float32(size) * (np.float32(1.0) - np.float32(sparsity)))))


def magnitude_mask(weight: npt.NDArray[Any], sparsity: float) -> npt.NDArray[np.bool_]:
    """True for the weights of largest magnitude that stay; of equal ones, the first."""
    order = np.argsort(-np.abs(weight).reshape(-1), kind="stable")
    mask = np.zeros(weight.size, dtype=np.bool_)
    mask[order[: kept_weights(weight.size, sparsity)]] = True
    return mask.reshape(weight.shape)


def _at_once(network: Network) -> Network:
    pruned = dict(network.pruned)
    for pending in network.pending:
        target = pending.step.schedule.final_sparsity
        for place in prunable(network, pending):
            for weight in kernels(place.layer):
                values = weight.numpy()
                weight.assign(np.where(magnitude_mask(values, target), values, 0))
            pruned[place.path] = target
    return replace(network, pending=(), pruned=pruned)


def _note(model: Any, step: Prune, context: Context) -> None:
    target = step.schedule.final_sparsity
    for place in select(model, step.layers, f"{context.pointer}/layers"):
        if kernels(place.layer):
            context.record.layers[place.path] = LayerNote(target_sparsity=target)
    for place, why in _unsupported(model, step, context.pointer):
        context.record.layers[place.path] = LayerNote(skipped=why)
        context.warn("layer_skipped", layer=place.path, why=why)


def _unsupported(model: Any, step: Prune, pointer: str) -> Iterator[tuple[Placed, str]]:
    """Selected layers with weights worth pruning that cannot be. Vectors (biases, the statistics of a
    normalisation) are never pruned and do not count."""
    for place in select(model, step.layers, f"{pointer}/layers"):
        matrices = [weight for weight in place.layer.weights if len(weight.shape) > 1]
        if matrices and not kernels(place.layer):
            yield place, f"TFMOT has no magnitude pruning for {type(place.layer).__name__} layers"
