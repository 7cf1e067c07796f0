"""Where the ranges of activations begin, and that those of weights end where the weights are.

TFMOT starts every range at -6 to 6 and moves it by a thousandth a step: a short training would end with
what it began with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tasks.compression.backends.tensorflow._framework import QuantizeLayer, QuantizeWrapper, quantizers, tf
from tasks.compression.backends.tensorflow.qat.scheme import Norm
from tasks.compression.backends.tensorflow.qat.simulation import wrappers
from tasks.compression.samples import Tensors, structure

__all__ = ["calibrate", "settle_weights"]


BATCH = 32
_NARROWEST = 1e-3


def calibrate(model: Any, samples: Tensors) -> None:
    """Give every activation of a simulation's `model` the range it has on `samples` (axis 0) with weights
    rounded and activations not: averaged over batches as training goes on to do, of inputs the widest."""
    settle_weights(model)
    seen: list[_Seen] = []
    undo: list[Callable[[], None]] = []
    for layer in wrappers(model):
        _watch(layer, seen, undo)
    try:
        for start in range(0, len(samples), BATCH):
            model(structure(samples[start : start + BATCH]), training=False)
    finally:
        for restore in undo:
            restore()
    for item in seen:
        item.assign()


def settle_weights(model: Any) -> None:
    """Give the fake quantisation of weights the ranges that those have now; training is a step behind."""
    for layer in wrappers(model):
        for weight, quantizer, variables in getattr(layer, "_weight_vars", ()):
            quantizer(weight, True, variables)
            _widen_empty(variables)
        if isinstance(layer, Norm):
            layer.settle()


def _widen_empty(variables: Mapping[str, Any]) -> None:
    """Give channels without a weight the range of the widest: with none, their biases would have no scale."""
    low, high = variables["min_var"], variables["max_var"]
    empty = tf.equal(high, low)
    low.assign(tf.where(empty, tf.reduce_min(low), low))
    high.assign(tf.where(empty, tf.reduce_max(high), high))


def _watch(layer: Any, seen: list[_Seen], undo: list[Callable[[], None]]) -> None:
    if isinstance(layer, QuantizeLayer):
        seen.append(_Seen(layer.quantizer))
        undo.append(_setter(layer, "quantizer", layer.quantizer))
        layer.quantizer = seen[-1]
        return
    assert isinstance(layer, QuantizeWrapper)
    for activation in layer._quantize_activations:
        seen.append(_Seen(activation.quantizer))
        undo.append(_setter(activation, "quantizer", activation.quantizer))
        activation.quantizer = seen[-1]
    if layer._output_quantizers:
        seen.append(_Seen(layer._output_quantizers[0]))
        undo.append(_setter(layer, "_output_quantizers", layer._output_quantizers))
        layer._output_quantizers = [seen[-1]]


def _setter(owner: Any, name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(owner, name, value)


class _Seen:
    """Stands for a quantiser, lets values pass and remembers their ranges, by the variables they are for."""

    def __init__(self, quantizer: Any) -> None:
        self._widest = isinstance(quantizer, quantizers.AllValuesQuantizer)
        self._found: dict[int, tuple[dict[str, Any], list[tuple[float, float]]]] = {}

    def __call__(self, values: Any, training: bool, weights: dict[str, Any], **_: Any) -> Any:
        array = np.asarray(values)
        _, ranges = self._found.setdefault(id(weights["min_var"]), (weights, []))
        ranges.append((min(0.0, float(array.min())), max(0.0, float(array.max()))))
        return values

    def assign(self) -> None:
        for weights, ranges in self._found.values():
            lows, highs = np.array(ranges).T
            low, high = (lows.min(), highs.max()) if self._widest else (lows.mean(), highs.mean())
            # An activation that was always 0 keeps a range: fake quantisation cannot divide by none.
            weights["min_var"].assign(low)
            weights["max_var"].assign(high if high > low else low + _NARROWEST)
