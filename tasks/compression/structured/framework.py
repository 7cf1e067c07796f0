"""What structured pruning asks of a framework: its networks as lists of calls, and how channels go through
each of its layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tasks.compression.structured.channels import Channels, Labels
from tasks.compression.structured.flows import Flow

__all__ = ["Call", "Framework", "Gradients", "Graph", "Loss", "Tensor", "Usage"]

Loss = Callable[[Any, Any], Any] | str
"""Of the labels and the outputs of a batch; in Keras the name of a loss too."""

Gradients = Callable[[Any, Any], list[npt.NDArray[Any]]]
"""Of the loss of a batch (inputs, labels) by each of some variables."""


class Tensor(Protocol):
    """An edge of the graph: `number` tells tensors apart, `width` is how many channels it has, 0 where they
    are not known."""

    @property
    def number(self) -> int: ...
    @property
    def width(self) -> int: ...


class Call(Protocol):
    """One call of a layer, under the layer's path; a layer called twice has two calls. The layer has its
    variables as `weights` and its bare name as `name`."""

    @property
    def layer(self) -> Any: ...
    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> Sequence[Any]: ...
    @property
    def outputs(self) -> Sequence[Any]: ...


class Graph(Protocol):
    """The calls in an order in which they can be computed."""

    @property
    def calls(self) -> Sequence[Any]: ...
    @property
    def outputs(self) -> Sequence[Any]: ...


@dataclass(frozen=True)
class Usage:
    """What one call costs: each element of a kernel is used so many times; `fixed` MACs use no weight."""

    kernels: tuple[tuple[Any, int], ...] = ()
    fixed: int = 0


@dataclass(frozen=True)
class Framework:
    """`kind` names a layer's class. `flow` applies the rule of a call's layer to the labels of its inputs, or
    raises Opaque. `uses` says what a call costs, `assumptions` which of them for sizes that are not known.
    `gradients(model, variables, loss)` is of the mean loss, CompressionError loss_not_inferable without any.
    `remove(dependencies, alive)` is a new model with the units in `alive` alone, and whether it is compiled
    as the old one."""

    kind: Callable[[Any], str]
    flow: Callable[[Any, Sequence[Labels], Channels], Flow]
    uses: Callable[[Any], Usage]
    assumptions: Callable[[Any], Mapping[str, str]]
    gradients: Callable[[Any, list[Any], Loss | None], Gradients]
    remove: Callable[[Any, npt.NDArray[np.bool_]], tuple[Any, bool]]
