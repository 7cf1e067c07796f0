"""PyTorch's layers, for plans."""

from __future__ import annotations

from tasks.compression.backends.torch.plans.targets import decomposable
from tasks.compression.backends.torch.prunability import (
    DEPTHWISE,
    KERNELS,
    TRANSPOSED_KINDS,
    is_depthwise,
    no_pruning,
    obstacle,
    refuse_xnnpack,
)
from tasks.compression.outline.facts import Layer, Weight
from tasks.compression.planning.kinds import Kinds
from tasks.compression.planning.layers import described
from tasks.compression.prunable import Pruning

__all__ = ["KINDS", "depthwise"]

_CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d")


def depthwise(layer: Layer) -> bool:
    """Whether it is a convolution whose filters see one channel each."""
    if layer.kind not in _CONVOLUTIONS:
        return False
    groups = int(layer.config.get("groups", 1))
    kernel = layer.weight("weight")
    return kernel is not None and is_depthwise(groups, kernel.shape[1] * groups)


def _kernels(layer: Layer) -> list[Weight]:
    if depthwise(layer):
        return []
    names = KERNELS.get(layer.kind, ())
    # Of recurrent layers, which may be stacked, the names only begin so.
    return [weight for weight in layer.weights if len(weight.shape) > 1 and weight.name.startswith(names)]


def _called(layer: Layer) -> str:
    return f"{DEPTHWISE}{layer.kind}" if depthwise(layer) else layer.kind


def _channels(layer: Layer, weight: Weight) -> int:
    if layer.kind in TRANSPOSED_KINDS:
        return weight.shape[1] * int(layer.config.get("groups", 1))
    return weight.shape[0]


KINDS = Kinds(
    pruning=Pruning(
        layers=described(_kernels, _called),
        no_pruning=no_pruning,
        obstacle=obstacle,
        left_out=lambda layer, step: None,
    ),
    channels=_channels,
    check=refuse_xnnpack,
    nested_features=True,
    normalisations=frozenset({"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"}),
    decomposable=decomposable,
)
