"""The network with layers replaced by their factors, all else as it was.

The last of a layer's parts keeps its name, so that the patterns of later steps mean the same tensor as
before; the others are named after it, ``_in`` and ``_core``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tasks.compression.backends.torch._framework import fx, nn, torch
from tasks.compression.backends.torch.layers import copied
from tasks.compression.backends.torch.lowrank.targets import Target
from tasks.compression.lowrank.factors import svd, tucker
from tasks.compression.lowrank.parts import Kernel, free_name, pointwise, relative_error, stored
from tasks.compression.lowrank.ranks import Ranks

__all__ = ["Part", "Replacement", "factored", "replaced"]

_CONVOLUTIONS = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
_PLACES = ("stride", "padding", "dilation", "padding_mode")


@dataclass(frozen=True)
class Part:
    """One of the layers in a layer's place: `suffix` is that of its name, `kernel` [taps..., inputs,
    outputs]; with `places` it goes over its input as the original does."""

    suffix: str
    kernel: Kernel
    places: bool = False


@dataclass(frozen=True)
class Replacement:
    """`paths` are those the new layers have in the network, the original's last."""

    target: Target
    parts: tuple[Part, ...]
    paths: list[str] = field(default_factory=list)

    @property
    def error(self) -> float:
        """As lowrank.parts.relative_error."""
        return relative_error(self.target.kernel, [part.kernel for part in self.parts])


def factored(target: Target, ranks: Ranks) -> Replacement:
    """The parts for `target` at `ranks`, the bias with the last."""
    kernel = target.kernel
    if not target.size.is_matrix:
        return Replacement(target, tuple(_tucker_parts(kernel, ranks)))
    first, last = svd(kernel.reshape(kernel.shape[-2:]), ranks.inputs)
    # The strides go with the first, so that the second computes no more places than are needed.
    parts = (Part("_in", pointwise(first, kernel), places=True), Part("", pointwise(last, kernel)))
    return Replacement(target, parts)


def replaced(model: fx.GraphModule, replacements: Sequence[Replacement]) -> fx.GraphModule:
    """A copy that computes with the parts; the old network stays as it is. A layer called several times has
    its parts called as often. Fills in the replacements' `paths`."""
    made = copied(model)
    names = {name for name, _ in made.named_modules()}
    for one in replacements:
        one.paths[:] = [free_name(f"{one.target.path}{part.suffix}", names) for part in one.parts[:-1]]
        one.paths.append(one.target.path)
        for path, part in zip(one.paths, one.parts, strict=True):
            made.add_submodule(path, _module(part, one.target.layer))
        _call_all(made, one)
    made.graph.lint()
    made.recompile()
    return made


def _tucker_parts(kernel: Kernel, ranks: Ranks) -> list[Part]:
    """Two or three: an axis that keeps its full rank needs no part of its own."""
    left, core, right = tucker(kernel, ranks.inputs, ranks.outputs)
    parts = []
    if ranks.inputs < kernel.shape[-2]:
        parts.append(Part("_in", pointwise(left, kernel)))
    if ranks.outputs == kernel.shape[-1]:
        return [*parts, Part("", stored(core), places=True)]
    parts.append(Part("_core", stored(core), places=True))
    return [*parts, Part("", pointwise(right.T, kernel))]


def _module(part: Part, original: Any) -> nn.Module:
    """A layer with the part's weights, trained as the original is; the last has its bias."""
    bias = None if part.suffix else original.bias
    *taps, inputs, outputs = part.kernel.shape
    layer: Any
    if isinstance(original, nn.Linear):
        layer = nn.Linear(inputs, outputs, bias=bias is not None)
    else:
        places = {name: getattr(original, name) for name in _PLACES} if part.places else {}
        kind = _CONVOLUTIONS[part.kernel.ndim]
        layer = kind(inputs, outputs, tuple(taps), bias=bias is not None, **places)
    weight = np.ascontiguousarray(np.moveaxis(part.kernel, (-1, -2), (0, 1)))
    layer.weight = nn.Parameter(torch.from_numpy(weight), requires_grad=original.weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=bias.requires_grad)
    made: nn.Module = layer.train(original.training)
    return made


def _call_all(model: fx.GraphModule, replacement: Replacement) -> None:
    """Every node that calls the layer is preceded by calls of the parts before it."""
    for node in list(model.graph.nodes):
        if node.op != "call_module" or node.target != replacement.target.path:
            continue
        given: Any = [*list(node.args), *list(node.kwargs.values())][0]
        with model.graph.inserting_before(node):
            for path in replacement.paths[:-1]:
                given = model.graph.call_module(path, (given,))
        node.args, node.kwargs = (given,), {}
