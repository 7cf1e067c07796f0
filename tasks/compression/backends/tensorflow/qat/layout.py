"""Between which layers nothing is rounded, because LiteRT computes them as one operation.

TFMOT's rules, but for two. It does not round the kernel of a layer with a ReLU layer right after it. And it
takes the ranges of some of the inputs of a concatenation away, the converter then gives them those of the
others, and values are cut off; here each keeps its own, and the converter rescales.
"""

from __future__ import annotations

from typing import Any

from tasks.compression.backends.tensorflow._framework import LayerPattern, ModelTransformer, NBitTransforms

__all__ = ["Layout"]

_SUMS = "Add"
_LINEAR = {"activation": "linear"}
_RECTIFIED = {"activation": "relu"}
_WITH_KERNEL = "Conv2D|DepthwiseConv2D|Dense"


class _SumThenReLU(NBitTransforms.LayerReLUQuantize):  # type: ignore[misc]
    def pattern(self) -> Any:
        return LayerPattern("ReLU", inputs=[LayerPattern(_SUMS)])


class _SumThenActivation(NBitTransforms.LayerReLUQuantize):  # type: ignore[misc]
    def pattern(self) -> Any:
        return LayerPattern("Activation", config=_RECTIFIED, inputs=[LayerPattern(_SUMS)])


class _KernelThenReLU(NBitTransforms.Conv2DBatchNormQuantize):  # type: ignore[misc]
    """The kernel is rounded, its product is not before it is rectified."""

    def pattern(self) -> Any:
        return LayerPattern("ReLU", inputs=[LayerPattern(_WITH_KERNEL, config=_LINEAR)])

    def replacement(self, match_layer: Any) -> Any:
        config = match_layer.input_layers[0].layer["config"]
        config["activation"] = {"class_name": "NoOpActivation", "config": {}}
        return match_layer


class _KernelThenActivation(_KernelThenReLU):
    def pattern(self) -> Any:
        return LayerPattern(
            "Activation", config=_RECTIFIED, inputs=[LayerPattern(_WITH_KERNEL, config=_LINEAR)]
        )


class Layout:
    """What TFMOT asks a scheme for, in the place of its layout transformers."""

    def apply(self, model: Any, layer_quantize_map: dict[str, Any]) -> Any:
        rules = [
            NBitTransforms.InputLayerQuantize(),
            NBitTransforms.Conv2DBatchNormReLUQuantize(),
            NBitTransforms.Conv2DBatchNormActivationQuantize(),
            NBitTransforms.Conv2DBatchNormQuantize(),
            _SumThenReLU(),
            _SumThenActivation(),
            _KernelThenReLU(),
            _KernelThenActivation(),
        ]
        transformer = ModelTransformer(model, rules, set(layer_quantize_map), layer_quantize_map)
        return transformer.transform()
