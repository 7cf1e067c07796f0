"""What steps ask of the layers of a network, whatever the framework."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from featherweight.spec import LayerSelection
from tasks.compression.selection import Named

__all__ = ["Layers", "Placed"]


class Placed(Named, Protocol):
    """A layer of a framework's, and where it stands in its model."""

    @property
    def layer(self) -> Any: ...


@dataclass(frozen=True)
class Layers:
    """How a framework tells of the layers of its models.

    `placed` are all that a model has, in order; `select` those that a selection names, CompressionError
    layer_not_found at the pointer given with it. Of a layer, `kernels` are the weights that magnitude pruning
    applies to, `has_matrices` says whether any weight has more than one axis, and `kind` is what the caller
    knows its class by. `zero_share` is the share of exact zeros in all of some weights together.
    """

    placed: Callable[[Any], Iterable[Placed]]
    select: Callable[[Any, LayerSelection, str], Sequence[Placed]]
    kernels: Callable[[Any], Sequence[Any]]
    has_matrices: Callable[[Any], bool]
    kind: Callable[[Any], str]
    zero_share: Callable[[Sequence[Any]], float]
