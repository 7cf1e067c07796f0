"""The dependency graph of a tf_keras model, and what it costs."""

from __future__ import annotations

from typing import Any

from tasks.compression.backends.tensorflow.structured.gradients import gradients
from tasks.compression.backends.tensorflow.structured.graph import Graph, kind, trace
from tasks.compression.backends.tensorflow.structured.macs import assumptions, uses
from tasks.compression.backends.tensorflow.structured.rules import flow
from tasks.compression.backends.tensorflow.structured.surgery import recompile, remove
from tasks.compression.structured.cost import ModelCost, cost
from tasks.compression.structured.framework import Framework
from tasks.compression.structured.groups import Alive, Dependencies, follow

__all__ = ["KERAS", "count", "dependencies", "outlined"]


def _smaller(graph: Dependencies, alive: Alive) -> tuple[Any, bool]:
    model = remove(graph, alive)
    return model, recompile(graph.model, model)


KERAS = Framework(
    kind=kind, flow=flow, uses=uses, assumptions=assumptions, gradients=gradients, remove=_smaller
)


def dependencies(model: Any) -> Dependencies:
    """Of a functional or built sequential tf_keras model, which is left as it is.

    CompressionError unsupported_model as `graph.trace`.
    """
    return follow(trace(model), KERAS, model)


def outlined(graph: Graph) -> Dependencies:
    """Of layers that are only outlined."""
    return follow(graph, KERAS)


def count(model: Any) -> ModelCost:
    """The cost of a functional or built sequential tf_keras model for one sample.

    CompressionError unsupported_model as `graph.trace`.
    """
    return cost(trace(model), KERAS)
