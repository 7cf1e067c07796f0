"""The yardstick of structured pruning: the original, computed with the removed channels set to zero.

It removes nothing and rebuilds nothing. Every layer of the original runs as it is; what it puts out is
multiplied by zeros and ones, after the activation, so that biases and offsets are silenced too. Recurrent
layers also see their own removed units as zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tasks.compression.structured import Dependencies


def masked_outputs(graph: Dependencies, alive: Any, inputs: Any) -> list[Any]:
    """The outputs of `graph.model` with the units not in `alive` zeroed wherever they come out of a layer."""
    with _recurrent_rows_zeroed(graph, alive), _masking(graph, alive):
        return as_list(graph.model(inputs, training=False))


def as_list(outputs: Any) -> list[Any]:
    if isinstance(outputs, dict):
        outputs = [outputs[key] for key in sorted(outputs)]
    return [np.asarray(one) for one in (outputs if isinstance(outputs, list | tuple) else [outputs])]


@contextmanager
def _masking(graph: Dependencies, alive: Any) -> Iterator[None]:
    masks: dict[int, list[list[Any]]] = defaultdict(list)
    layers: dict[int, Any] = {}
    for call in graph.graph.calls:
        layers[id(call.layer)] = call.layer
        masks[id(call.layer)].append([alive[graph.labels[out.number]] for out in call.outputs])
    originals = {key: layer.call for key, layer in layers.items()}
    for key, layer in layers.items():
        layer.call = _masked_call(layer.call, iter(masks[key]))
    try:
        yield
    finally:
        for key, layer in layers.items():
            layer.call = originals[key]


def _masked_call(call: Callable[..., Any], masks: Iterator[list[Any]]) -> Callable[..., Any]:
    def masked(*args: Any, **kwargs: Any) -> Any:
        outputs = call(*args, **kwargs)
        several = isinstance(outputs, list | tuple)
        parts = list(outputs) if several else [outputs]
        parts = [
            part * mask.astype(part.dtype.as_numpy_dtype) if len(mask) else part
            for part, mask in zip(parts, next(masks), strict=True)
        ]
        return type(outputs)(parts) if several else parts[0]

    return masked


@contextmanager
def _recurrent_rows_zeroed(graph: Dependencies, alive: Any) -> Iterator[None]:
    before = []
    for layer in graph.layers:
        for parameter in layer.parameters:
            if "recurrent_kernel" in parameter.variable.name:
                rows = alive[parameter.axes[0].labels].astype(np.float32)
                before.append((parameter.variable, parameter.variable.numpy()))
                parameter.variable.assign(parameter.variable * rows[:, None])
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)
