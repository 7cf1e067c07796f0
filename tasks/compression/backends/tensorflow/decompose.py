"""Low-rank decomposition, by the package `lowrank`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from featherweight.spec import Decompose
from tasks.compression.backends.tensorflow.layers import select
from tasks.compression.backends.tensorflow.lowrank.surgery import factored, replaced
from tasks.compression.backends.tensorflow.lowrank.targets import Target, obstacle, targets
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.structured import count
from tasks.compression.context import Context
from tasks.compression.lowrank.choice import choose
from tasks.compression.lowrank.parts import all_factored
from tasks.compression.lowrank.report import note
from tasks.compression.selection import refused

__all__ = ["check", "decompose"]


def check(network: Network, step: Decompose, pointer: str) -> None:
    """CompressionError unsupported_model; layer_not_found; layer_not_supported where the step says ``error``
    and a selected layer is of a kind that cannot be decomposed."""
    found = _obstacles(network.model, step, pointer)
    for path, why in found.items():
        if step.on_unsupported == "error":
            raise refused(path, "decomposition", why, pointer)
    _targets(network.model, step, pointer)


def decompose(network: Network, step: Decompose, context: Context) -> Network:
    """Replace layers by their factors; where none would become smaller the network comes back as it is, and
    the report says why.

    CompressionError as `check`, for a network that earlier steps changed; bad_model for weights that are not
    finite.
    """
    check(network, step, context.pointer)
    found = _targets(network.model, step, context.pointer)
    choice = choose(found, step)
    for path, why in _obstacles(network.model, step, context.pointer).items():
        choice.leave(path, why)
    made = all_factored(found, choice.ranks, factored, context)
    model = replaced(network.model, made) if made else network.model
    note(count(network.model), count(model), step, choice, made, context)
    for replacement in made:
        _warn_of_penalties(replacement.target, context)
    return replace(network, model=model, pruned={}, tflite=None) if made else network


def _targets(model: Any, step: Decompose, pointer: str) -> list[Target]:
    return targets(model, {place.path for place in select(model, step.layers, f"{pointer}/layers")})


def _obstacles(model: Any, step: Decompose, pointer: str) -> dict[str, str]:
    chosen = select(model, step.layers, f"{pointer}/layers")
    return {place.path: why for place in chosen if (why := obstacle(place.layer)) is not None}


def _warn_of_penalties(target: Target, context: Context) -> None:
    for name in ("kernel_regularizer", "kernel_constraint"):
        if getattr(target.inner, name, None) is not None:
            context.warn("kernel_penalty_dropped", layer=target.path, name=name)
