"""The layers of a network that can be decomposed, what they cost, and why others cannot be."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.compression.backends.torch._framework import nn
from tasks.compression.backends.torch.structured.graph import Call, Graph, Layer, per_sample
from tasks.compression.lowrank.ranks import Size

__all__ = ["Target", "obstacle", "targets"]

_DECOMPOSED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Target:
    path: str
    layer: Any
    size: Size

    @property
    def kernel(self) -> npt.NDArray[np.float32]:
        """[taps..., inputs, outputs]; PyTorch has the outputs first, then the inputs."""
        weight = self.layer.weight.detach().numpy()
        return np.asarray(np.moveaxis(weight, (1, 0), (-2, -1)), np.float32)


def targets(graph: Graph, paths: Collection[str]) -> list[Target]:
    """Those of the layers at `paths` that can be decomposed, in the order of the network."""
    calls: dict[str, list[Call]] = {}
    for call in graph.calls:
        if call.layer.path in paths and obstacle(call.layer) is None and _decomposed(call.layer) is not None:
            calls.setdefault(call.layer.path, []).append(call)
    return [_target(path, group) for path, group in calls.items()]


def obstacle(layer: Layer) -> str | None:
    """Why a layer with a matrix of weights cannot be decomposed; None where it can, or has none."""
    if layer.shared_with is not None:
        return f"it shares weights with {layer.shared_with}"
    if not any(len(weight.shape) > 1 for weight in layer.weights):
        return None
    module = _decomposed(layer)
    if module is None:
        return f"{layer.kind} layers have no decomposition"
    if not isinstance(module, nn.Linear) and module.groups > 1:
        return f"it is a convolution in {module.groups} groups, whose channels do not mix"
    return None


def _decomposed(layer: Layer) -> Any:
    """The module, of exactly one of PyTorch's classes; else None."""
    module = layer.module
    if isinstance(module, _DECOMPOSED) and type(module).__module__.startswith("torch.nn.modules."):
        return module
    return None


def _target(path: str, calls: Sequence[Call]) -> Target:
    """A layer called several times is computed at the places of all its calls."""
    module = _decomposed(calls[0].layer)
    assert module is not None
    outputs, inputs, *taps = module.weight.shape
    size = Size(
        taps=prod(taps),
        inputs=inputs,
        outputs=outputs,
        bias=0 if module.bias is None else outputs,
        places_in=sum(per_sample(prod(call.inputs[0].shape) // inputs) for call in calls),
        places_out=sum(per_sample(prod(call.outputs[0].shape) // outputs) for call in calls),
    )
    return Target(path, module, size)
