"""The yardstick of structured pruning: the original, computed with the removed channels set to zero wherever
they come out of a layer. It removes nothing and rebuilds nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx

from tasks.compression.backends.torch.structured.graph import Tensor
from tasks.compression.structured import Dependencies


class Masked(fx.Interpreter):  # type: ignore[misc]
    def __init__(self, graph: Dependencies, alive: Any) -> None:
        super().__init__(graph.model)
        self.dependencies, self.alive = graph, alive
        self.calls = {call.node: call for call in graph.graph.calls}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        call = self.calls.get(n.name)
        if call is None:
            return result
        if isinstance(result, torch.Tensor):
            return self.masked(result, call.outputs[0])
        parts = zip(result, call.outputs, strict=True)
        return tuple(self.masked(part, tensor) for part, tensor in parts)

    def masked(self, value: torch.Tensor, tensor: Tensor) -> torch.Tensor:
        if tensor.axis is None:
            return value
        mask = torch.from_numpy(self.alive[self.dependencies.labels[tensor.number]].astype(np.float32))
        shape = [1] * value.dim()
        shape[tensor.axis] = -1
        return value * mask.reshape(shape)


def outputs(answer: Any) -> list[Any]:
    return [part.numpy() for part in ((answer,) if isinstance(answer, torch.Tensor) else answer)]
