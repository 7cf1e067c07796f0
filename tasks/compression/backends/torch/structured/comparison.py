"""Whether a network without channels answers as the one with them does where it sees them as zero."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tasks.compression.backends.torch._framework import fx, torch
from tasks.compression.backends.torch.layers import copied
from tasks.compression.backends.torch.network import Signature
from tasks.compression.backends.torch.predict import evaluating
from tasks.compression.backends.torch.structured.examples import example_inputs
from tasks.compression.backends.torch.structured.graph import BATCH
from tasks.compression.structured.groups import Alive, Dependencies

__all__ = ["difference", "silenced"]


def silenced(graph: Dependencies, alive: Alive) -> fx.GraphModule:
    """A copy of the whole network in which the kernels that consume channels have zeros for those not in
    `alive`: to its outputs they are as good as gone."""
    model: fx.GraphModule = copied(graph.model)
    with torch.no_grad():
        for bound in graph.layers:
            if bound.layer.module is None:
                continue
            values = dict(model.get_submodule(bound.layer.path).named_parameters())
            for parameter in bound.parameters:
                for number, axis in parameter.axes.items():
                    if axis.role == "in":
                        gone = torch.from_numpy(np.flatnonzero(~alive[axis.labels]))
                        values[parameter.variable.name].index_fill_(number, gone, 0.0)
    return model


def difference(graph: Dependencies, alive: Alive, smaller: fx.GraphModule, signature: Signature) -> float:
    """The largest difference between the answers of `smaller` and those of the network in which the channels
    are silenced, for made-up samples, relative to the largest answer; infinity where shapes differ or it
    cannot be run."""
    given = example_inputs(graph.model, signature, BATCH)
    expected = list(_answers(silenced(graph, alive), given))
    try:
        found = list(_answers(smaller, given))
    except (RuntimeError, ValueError, TypeError, IndexError):
        return float("inf")
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        if one.shape != other.shape:
            return float("inf")
        scale = max(1.0, float(other.abs().max()))
        worst = max(worst, float((one - other).abs().max()) / scale)
    return worst


def _answers(model: fx.GraphModule, given: tuple[torch.Tensor, ...]) -> Iterator[torch.Tensor]:
    with evaluating(model), torch.no_grad():
        answer: Any = model(*given)
    yield from (answer,) if isinstance(answer, torch.Tensor) else answer
