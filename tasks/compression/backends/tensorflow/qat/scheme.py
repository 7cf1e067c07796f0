"""TFMOT's n-bit scheme with the layers it leaves out and LiteRT has integer kernels for."""

from __future__ import annotations

from typing import Any

from tasks.compression.backends.tensorflow._framework import (
    NBitRegistry,
    NBitScheme,
    QuantizeWrapper,
    keras,
    quantizers,
    tf,
)
from tasks.compression.backends.tensorflow.qat.layout import Layout

__all__ = ["Norm", "Scheme", "rounded_outputs"]

_layers = keras.layers
_MERGED = (_layers.Average, _layers.Maximum, _layers.Minimum, _layers.Multiply, _layers.Subtract)
_MOVED = (_layers.MaxPooling1D, _layers.RepeatVector, _layers.UpSampling1D)


class Scheme(NBitScheme):  # type: ignore[misc]
    """The kernel of a dense layer or a Conv1D has one scale: the converter refuses more for the one, TFMOT
    has no channels in kernels of three axes."""

    def __init__(self, weight_bits: int = 8) -> None:
        super().__init__(num_bits_weight=weight_bits)
        self._weight_bits = weight_bits

    def get_layout_transformer(self) -> Any:
        return Layout()

    def get_quantize_registry(self) -> Any:
        registry = super().get_quantize_registry()
        bits = {"num_bits_weight": self._weight_bits, "num_bits_activation": 8}
        known = registry._layer_quantize_map
        kernel = NBitRegistry.DefaultNBitQuantizeConfig(["kernel"], ["activation"], False, **bits)
        known[_layers.Conv1D] = kernel
        for layer in _MERGED:
            known[layer] = rounded_outputs()
        for layer in _MOVED:
            known[layer] = NBitRegistry.DefaultNBitQuantizeConfig([], [], False)
        return registry


def rounded_outputs() -> Any:
    """For a layer whose outputs alone are rounded."""
    return NBitRegistry.DefaultNBitQuantizeConfig([], [], True)


class Norm(QuantizeWrapper):  # type: ignore[misc]
    """Batch normalisation that stands alone, rounded as LiteRT computes it: a product and a sum, each with
    the range of its own.

    While its statistics are being learned it computes with those of the batch, as ever; the product's range
    is then followed on the side.
    """

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self._ranges = quantizers.MovingAverageQuantizer(
            8, per_axis=False, symmetric=False, narrow_range=False
        )
        self._constants = quantizers.LastValueQuantizer(8, per_axis=False, symmetric=True, narrow_range=True)
        self._product = self._ranges.build(None, "product", self)
        self._scale = self._constants.build(None, "scale", self)
        self._shift = self._constants.build(None, "shift", self)
        self._output_quantizers = [self._ranges]

    def settle(self) -> None:
        """Give the constants the ranges that they have now."""
        self._rounded_constants(training=True)

    def call(self, inputs: Any, training: Any = None, **_: Any) -> Any:
        training = bool(training)
        norm = self.layer
        scale, shift = self._rounded_constants(training)
        product = self._output_quantizers[0](inputs * scale, training, self._product)
        batch = training and norm.trainable
        outputs = norm.call(inputs, training=True) if batch else product + shift
        return self._output_quantizers[0](outputs, training, self._output_quantizer_vars)

    def _rounded_constants(self, training: bool) -> tuple[Any, Any]:
        norm = self.layer
        scale = tf.math.rsqrt(norm.moving_variance + norm.epsilon) * (norm.gamma if norm.scale else 1.0)
        shift = (norm.beta if norm.center else 0.0) - norm.moving_mean * scale
        return self._constants(scale, training, self._scale), self._constants(shift, training, self._shift)
