"""The dependency graph of a PyTorch network, what it costs, and the smaller network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from tasks.compression.backends.torch._framework import fx
from tasks.compression.backends.torch.network import Signature
from tasks.compression.backends.torch.structured.comparison import difference
from tasks.compression.backends.torch.structured.gradients import gradients
from tasks.compression.backends.torch.structured.graph import kind, trace
from tasks.compression.backends.torch.structured.macs import uses
from tasks.compression.backends.torch.structured.rules import flow
from tasks.compression.backends.torch.structured.surgery import remove
from tasks.compression.errors import CompressionError
from tasks.compression.structured.cost import ModelCost, cost
from tasks.compression.structured.framework import Framework
from tasks.compression.structured.groups import Alive, Dependencies, follow

__all__ = ["count", "dependencies", "smaller"]

TOLERANCE = 1e-4
"""Of answers, relative to the largest: sums of fewer terms are rounded otherwise."""


def dependencies(model: fx.GraphModule, signature: Signature) -> Dependencies:
    """Of a network, which is run on made-up samples and left as it is."""
    return follow(trace(model, signature), _framework(signature), model)


def count(model: fx.GraphModule, signature: Signature) -> ModelCost:
    """The cost of a network for one sample."""
    return cost(trace(model, signature), _framework(signature))


def smaller(signature: Signature, graph: Dependencies, alive: Alive) -> tuple[fx.GraphModule, bool]:
    """The network with only the units in `alive`, compared with the whole one that sees zeros in their place.

    CompressionError layer_not_supported, with the first layer whose channels cannot go, where they differ.
    """
    model = remove(graph, alive)
    if difference(graph, alive, model, signature) <= TOLERANCE:
        return model, True
    for group in graph.groups:
        alone = graph.everything()
        alone[group.units] = alive[group.units]
        if alone.all() or difference(graph, alone, remove(graph, alone), signature) <= TOLERANCE:
            continue
        raise _refused(group.makers[0])
    raise _refused(next(group.makers[0] for group in graph.groups if not alive[group.units].all()))


def _framework(signature: Signature) -> Framework:
    return Framework(
        kind=kind,
        flow=flow,
        uses=uses,
        assumptions=_none,
        gradients=partial(gradients, signature),
        remove=partial(smaller, signature),
    )


def _none(_: Any) -> Mapping[str, str]:
    """All sizes are known: the network was run."""
    return {}


def _refused(layer: str) -> CompressionError:
    return CompressionError(
        "layer_not_supported",
        f"without channels of the layer {layer} the network answers otherwise than with zeros in their "
        "place: something in it depends on their number",
        hint="exclude the layer",
        layer=layer,
    )
