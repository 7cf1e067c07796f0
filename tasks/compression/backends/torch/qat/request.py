"""What a quantize_aware step asks of a network: the layers to round, and what is said of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from featherweight.spec import QuantizeAware
from tasks.compression.backends.torch._framework import fx, nn
from tasks.compression.backends.torch.layers import placed_layers, select, weights
from tasks.compression.backends.torch.qat import support
from tasks.compression.rounding_choice import Chosen, Support, choose

__all__ = ["MATRICES", "MOVED", "NORMS", "RECTIFIERS", "chosen", "next_alone"]


def _classes(names: Iterable[str]) -> tuple[type[nn.Module], ...]:
    return tuple(getattr(nn, name) for name in sorted(names))


MATRICES = _classes(support.FOLDED_INTO)
NORMS = _classes(support.NORMS)
RECTIFIERS = _classes(support.RECTIFIERS)
MOVED = _classes(support.MOVED)


def chosen(model: fx.GraphModule, step: QuantizeAware, pointer: str) -> Chosen:
    """CompressionError layer_not_found; layer_not_supported as rounding_choice.choose."""
    selected = {
        place.path: any(value.dim() > 1 for value in weights(place.layer))
        for place in select(model, step.layers, f"{pointer}/layers")
    }
    everything = [place.path for place in placed_layers(model)]
    return choose(selected, everything, _support(model), step, pointer)


def next_alone(node: fx.Node) -> fx.Node | None:
    """The only node that takes the outputs of `node`, None where there are several or it is the end."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].op != "output" else None


def _support(model: fx.GraphModule) -> Support:
    calls = [node for node in model.graph.nodes if node.op == "call_module"]
    layers = {node.target: model.get_submodule(node.target) for node in calls}
    times = Counter(id(layers[node.target]) for node in calls)
    obstacles = {
        place.path: "the network calls it at several places"
        if times[id(place.layer)] > 1
        else _obstacle(place.layer)
        for place in placed_layers(model)
    }
    folds = {}
    for node in calls:
        after = next_alone(node)
        if after is None or after.op != "call_module" or not isinstance(layers[node.target], MATRICES):
            continue
        if isinstance(layers[after.target], NORMS):
            folds[str(after.target)] = str(node.target)
    norms = frozenset(path for path, layer in layers.items() if isinstance(layer, NORMS))
    return Support(obstacles, norms, folds)


def _obstacle(layer: nn.Module) -> str | None:
    return support.obstacle(type(layer).__name__, getattr(layer, "groups", 1))
