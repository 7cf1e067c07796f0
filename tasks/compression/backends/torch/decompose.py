"""Low-rank decomposition of PyTorch networks, by the packages `lowrank`."""

from __future__ import annotations

from dataclasses import replace

from featherweight.spec import Decompose
from tasks.compression.backends.torch.layers import select
from tasks.compression.backends.torch.lowrank.surgery import factored, replaced
from tasks.compression.backends.torch.lowrank.targets import Target, obstacle, targets
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.structured import count
from tasks.compression.backends.torch.structured.graph import Graph, trace
from tasks.compression.context import Context
from tasks.compression.lowrank.choice import choose
from tasks.compression.lowrank.parts import all_factored
from tasks.compression.lowrank.report import note
from tasks.compression.selection import refused

__all__ = ["check", "decompose"]


def check(network: Network, step: Decompose, pointer: str) -> None:
    """CompressionError layer_not_found; layer_not_supported where the step says ``error`` and a selected
    layer is of a kind that cannot be decomposed."""
    _found(network, trace(network.model, network.signature), step, pointer)


def decompose(network: Network, step: Decompose, context: Context) -> Network:
    """Replace layers by their factors; where none would become smaller the network comes back as it is, and
    the report says why.

    CompressionError as `check`, for a network that earlier steps changed; bad_model for weights that are not
    finite.
    """
    graph = trace(network.model, network.signature)
    found, obstacles = _found(network, graph, step, context.pointer)
    choice = choose(found, step)
    for path, why in obstacles.items():
        choice.leave(path, why)
    made = all_factored(found, choice.ranks, factored, context)
    model = replaced(network.model, made) if made else network.model
    was, now = (count(each, network.signature) for each in (network.model, model))
    note(was, now, step, choice, made, context)
    if not made:
        return network
    return replace(network, model=model, pruned={}, files={}, simulated=None)


def _found(
    network: Network, graph: Graph, step: Decompose, pointer: str
) -> tuple[list[Target], dict[str, str]]:
    """What can be decomposed of what is selected, and why the others cannot."""
    chosen = {place.path for place in select(network.model, step.layers, f"{pointer}/layers")}
    layers = {call.layer.path: call.layer for call in graph.calls if call.layer.path in chosen}
    obstacles = {path: why for path, layer in layers.items() if (why := obstacle(layer)) is not None}
    for path, why in obstacles.items():
        if step.on_unsupported == "error":
            raise refused(path, "decomposition", why, pointer)
    return targets(graph, chosen), obstacles
