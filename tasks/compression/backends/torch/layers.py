"""The layers of a network: their names, their prunable weights, and which a pattern selects."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from featherweight.spec import LayerSelection
from tasks.compression.backends.torch._framework import fx, nn, torch
from tasks.compression.backends.torch.prunability import DEPTHWISE, is_depthwise
from tasks.compression.facts import LayerFacts
from tasks.compression.layers import Layers
from tasks.compression.selection import select_from

__all__ = [
    "LAYERS",
    "Placed",
    "copied",
    "describe",
    "kernels",
    "kind_of",
    "placed_layers",
    "select",
    "weights",
    "zero_share",
]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MATRICES = (
    *_CONVOLUTIONS,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
    nn.Embedding,
    nn.EmbeddingBag,
)


@dataclass(frozen=True)
class Placed:
    """A layer and its path, the fully qualified name it has in the caller's model (``encoder.linear1``)."""

    path: str
    layer: nn.Module

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


def placed_layers(model: fx.GraphModule) -> Iterator[Placed]:
    """Every layer that is called, in order; a layer called twice comes once."""
    seen: set[int] = set()
    for node in model.graph.nodes:
        if node.op == "call_module":
            layer = model.get_submodule(node.target)
            if id(layer) not in seen:
                seen.add(id(layer))
                yield Placed(str(node.target), layer)


def kernels(layer: nn.Module) -> list[nn.Parameter]:
    """The weights of a layer that magnitude pruning applies to, as prunability's table has them: matrices
    that inputs are multiplied by, and tables of embeddings. Depthwise convolutions have none."""
    if _is_depthwise(layer):
        return []
    if isinstance(layer, _MATRICES):
        return [layer.weight]
    if isinstance(layer, nn.RNNBase):
        return [value for name, value in layer.named_parameters() if name.startswith("weight_")]
    if isinstance(layer, nn.MultiheadAttention):
        inner = [layer.in_proj_weight, layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight]
        return [*(value for value in inner if value is not None), layer.out_proj.weight]
    return []


def kind_of(layer: nn.Module) -> str:
    """The layer's class, and of a convolution whether it is depthwise."""
    kind = type(layer).__name__
    return f"{DEPTHWISE}{kind}" if _is_depthwise(layer) else kind


def weights(layer: nn.Module) -> list[torch.Tensor]:
    """Parameters, and the statistics that a file holds with them."""
    statistics = (value for _, value in layer.named_buffers() if value.is_floating_point())
    return [*layer.parameters(), *statistics]


def zero_share(values: Sequence[torch.Tensor]) -> float:
    """The share of exact zeros in all of `values` together."""
    size = sum(value.numel() for value in values)
    return (size - sum(int(torch.count_nonzero(value)) for value in values)) / size if size else 0.0


def copied(model: fx.GraphModule) -> fx.GraphModule:
    """A model like `model` with weights of its own."""
    return copy.deepcopy(model)


def describe(model: fx.GraphModule) -> list[LayerFacts]:
    return [_facts(place) for place in placed_layers(model) if weights(place.layer)]


def select(model: fx.GraphModule, selection: LayerSelection, pointer: str) -> list[Placed]:
    """The layers `selection` names, by path or by bare name.

    Raises CompressionError layer_not_found for a pattern that matches none; `pointer` is that of the
    selection in the spec.
    """
    return select_from(
        placed_layers(model), selection, pointer, weighted=lambda place: bool(weights(place.layer))
    )


def _facts(place: Placed) -> LayerFacts:
    prunable, every = kernels(place.layer), weights(place.layer)
    return LayerFacts(
        name=place.path,
        kind=type(place.layer).__name__,
        parameters=sum(value.numel() for value in every),
        nonzero=sum(int(torch.count_nonzero(value)) for value in every),
        sparsity=zero_share(prunable or every),
        prunable=bool(prunable),
        shape=max((tuple(value.shape) for value in every), key=prod),
    )


def _is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, _CONVOLUTIONS) and is_depthwise(layer.groups, layer.in_channels)


LAYERS = Layers(
    placed=placed_layers,
    select=select,
    kernels=kernels,
    has_matrices=lambda layer: any(weight.dim() > 1 for weight in layer.parameters()),
    kind=kind_of,
    zero_share=zero_share,
)
