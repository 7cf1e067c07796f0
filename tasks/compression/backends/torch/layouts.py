"""How kernels lie: PyTorch's begin with the output channels, the contract's end with them.

Patterns, ties and draws follow the contract's order, places in space first, so that a kernel and its
transposition in another framework get the same zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.compression.backends.torch._framework import nn, torch
from tasks.compression.backends.torch.layers import Placed, kernels
from tasks.compression.pending import Sharing

__all__ = ["Array", "Layout", "from_rows", "layout_of", "named_kernels", "rows"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Layout:
    """`axes` are those of a kernel in the contract's order: [places in space, inputs, outputs], with
    `transposed` [places in space, outputs, inputs]; `channel` is the axis of the output channels as the
    kernel is stored."""

    axes: tuple[int, ...]
    channel: int
    transposed: bool = False

    def seen(self, values: torch.Tensor) -> Array:
        """A kernel's values, or others in its shape, in the contract's order. The memory is shared."""
        array: Array = values.detach().cpu().numpy()
        return array.transpose(self.axes)

    def stored(self, values: Array) -> torch.Tensor:
        """The reverse, in memory of its own."""
        return torch.from_numpy(values.transpose(np.argsort(self.axes)).copy())


def layout_of(layer: nn.Module, kernel: torch.Tensor) -> Layout:
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return Layout((0, 1), channel=1)
    axes = (*range(2, kernel.dim()), 1, 0)
    transposed = isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    return Layout(axes, channel=1 if transposed else 0, transposed=transposed)


def named_kernels(place: Placed) -> list[tuple[str, nn.Parameter]]:
    """The kernels of a layer with their names in the caller's model (``features.0.weight``)."""
    names = {id(value): name for name, value in place.layer.named_parameters()}
    return [(f"{place.path}.{names[id(kernel)]}", kernel) for kernel in kernels(place.layer)]


def rows(values: torch.Tensor, layout: Layout, sharing: Sharing) -> torch.Tensor:
    """`values` in the shape of a kernel as a matrix [rows, weights that share values]: one row in all, or one
    for each output channel."""
    if not sharing.per_channel:
        return values.reshape(1, -1)
    return values.movedim(layout.channel, 0).reshape(values.shape[layout.channel], -1)


def from_rows(matrix: torch.Tensor, like: torch.Tensor, layout: Layout, sharing: Sharing) -> torch.Tensor:
    """The matrix of `rows` in the shape of the kernel `like` again."""
    if not sharing.per_channel:
        return matrix.reshape(like.shape)
    first = like.movedim(layout.channel, 0).shape
    return matrix.reshape(first).movedim(0, layout.channel)
