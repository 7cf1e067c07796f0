"""What of Keras 3 there is in Keras 2, by name: one place for the bridge's gate and for plans.

It imports no framework, so layers, operations and activations stand here by name; the tests hold them against
both Kerases and against the bridge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.compression.backends.tensorflow.config import layers_of, refuse_foreign, refuse_unsafe
from tasks.compression.backends.tensorflow.keras2 import KNOWN_CLASSES
from tasks.compression.errors import CompressionError

__all__ = [
    "ACTIVATIONS",
    "HINT",
    "KNOWN",
    "MASKS",
    "OPERATIONS",
    "RELOAD",
    "SPLIT",
    "no_graph",
    "refuse_operations",
    "refuse_what_is_not_keras",
    "refuse_without_counterpart",
    "without_counterpart",
]

HINT = (
    "build the model from layers that Keras 2 has too, or save it with tf_keras (TF_USE_LEGACY_KERAS=1 set "
    "before TensorFlow is imported)"
)

RELOAD = {
    "keras_zip": "save and upload it again",
    "hdf5": "save it as model.keras: Keras 3 cannot load every model that it saves as .h5",
}
"""What helps with a file that Keras 3 cannot load, by its format."""

OPERATIONS: frozenset[str] = frozenset(
    [
        *("Abs", "Absolute", "Add", "BroadcastTo", "Cast", "Clip", "Concatenate", "Divide", "Einsum", "Elu"),
        *("Erf", "Exp", "ExpandDims", "Flip", "Gelu", "GetItem", "HardSigmoid", "HardSilu", "Identity"),
        *("LeakyRelu", "Log", "LogSoftmax", "Matmul", "Max", "Maximum", "Mean", "Min", "Minimum"),
        *("Multiply", "Negative", "Power", "Relu", "Relu6", "Reshape", "Rsqrt", "Selu", "Sigmoid", "Silu"),
        *("Softmax", "Softplus", "Softsign", "Split", "Sqrt", "Square", "Squeeze", "Stack", "Subtract"),
        *("Sum", "Tanh", "Transpose", "TrueDivide"),
    ]
)
"""Operations of ``keras.ops`` in a graph that the bridge has a counterpart for."""

MASKS: frozenset[str] = frozenset(["Any", "Equal", "LogicalAnd", "LogicalOr", "NotEqual"])
"""Operations that compute masks: Keras 3 writes them into the graph, in Keras 2 layers pass masks on."""

ACTIVATIONS: frozenset[str] = frozenset(
    [
        *("elu", "exponential", "gelu", "linear", "mish", "relu", "selu", "sigmoid", "silu", "softmax"),
        *("softplus", "softsign", "swish", "tanh"),
    ]
)
"""Those that are the same in both."""

SPLIT: frozenset[str] = frozenset(["hard_sigmoid", "hard_silu", "hard_swish", "leaky_relu", "log_softmax"])
"""Those that the bridge puts after the layer."""

_MODELS = frozenset(["Functional", "Model", "Sequential"])
_OWN = frozenset(["LayerScale"])  # of Keras' own, yet not among its public layers
_OF_KERAS_2_ALONE = frozenset(
    [
        *("AbstractRNNCell", "ClassMethod", "DenseFeatures", "InstanceMethod", "InstanceProperty"),
        *("LocallyConnected1D", "LocallyConnected2D", "RandomHeight", "RandomWidth", "SlicingOpLambda"),
        *("TFOpLambda", "ThresholdedReLU"),
    ]
)
_OF_KERAS_3_ALONE = frozenset(
    [
        *(f"Adaptive{kind}Pooling{axes}D" for kind in ("Average", "Max") for axes in (1, 2, 3)),
        *("AugMix", "AutoContrast", "ContrastLimitedAdaptiveHistogramEqualization", "CutMix"),
        *("Equalization", "FlaxLayer", "GroupQueryAttention", "JaxLayer", "MaxNumBoundingBoxes"),
        *("MelSpectrogram", "MixUp", "Pipeline", "RMSNormalization", "RandAugment"),
        *("RandomColorDegeneration", "RandomColorJitter", "RandomElasticTransform", "RandomErasing"),
        *("RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective"),
        *("RandomPosterization", "RandomSaturation", "RandomSharpness", "RandomShear"),
        *("ReversibleEmbedding", "STFTSpectrogram", "Solarization", "TFSMLayer", "TorchModuleWrapper"),
    ]
)
_CELLS = frozenset(["LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"])
_CELLS_OF_RNN = frozenset(["LSTMCell", "GRUCell", "SimpleRNNCell"])

KNOWN: frozenset[str] = (
    (KNOWN_CLASSES - _OF_KERAS_2_ALONE) | _OF_KERAS_3_ALONE | OPERATIONS | MASKS | _MODELS | _OWN
)
"""The classes that a file of Keras 3 may name as layers."""


def refuse_what_is_not_keras(config: Mapping[str, Any]) -> None:
    """CompressionError unsupported_model for layers that carry code, and for what is not Keras' own."""
    refuse_unsafe(config, KNOWN)
    refuse_foreign(config)


def refuse_without_counterpart(config: Mapping[str, Any]) -> None:
    """CompressionError unsupported_model for the first layer that Keras 2 does not have, or not with that
    activation, as far as its configuration tells."""
    for node in layers_of(config):
        kind = str(node.get("class_name"))
        inner = node.get("config")
        name = str(inner.get("name", "")) if isinstance(inner, Mapping) else ""
        why = _obstacle(kind, inner if isinstance(inner, Mapping) else {})
        if why is not None:
            raise without_counterpart(kind, name, why)


def refuse_operations(config: Mapping[str, Any]) -> None:
    """CompressionError bad_model for operations in the graph of an ``.h5``: Keras 3 cannot load them."""
    only = (OPERATIONS | MASKS) - KNOWN_CLASSES
    for node in reversed(list(layers_of(config))):  # They come last first.
        if (kind := str(node.get("class_name"))) in only:
            raise CompressionError(
                "bad_model", f"Keras cannot load the model: Unknown layer: {kind!r}.", hint=RELOAD["hdf5"]
            )


def without_counterpart(kind: str, name: str, why: str) -> CompressionError:
    return CompressionError(
        "unsupported_model",
        f"the {kind} {name} cannot be taken over from Keras 3: {why}",
        hint=HINT,
        layer=name,
    )


def no_graph() -> CompressionError:
    return CompressionError(
        "unsupported_model",
        "the model has no fixed graph of layers",
        hint="build it with an Input and keras.Model(inputs, outputs), or as a Sequential with an Input",
    )


def _obstacle(kind: str, config: Mapping[str, Any]) -> str | None:
    if kind in _OF_KERAS_3_ALONE:
        return "the other Keras has no such layer"
    for key, value in config.items():
        if not key.endswith("activation") or value is None:
            continue
        if isinstance(value, Mapping) and not isinstance(value.get("config"), str):
            return f"its {key} is a layer of its own"
        name = str(value.get("config") if isinstance(value, Mapping) else value)
        follows = key == "activation" and kind not in _CELLS and kind not in _CELLS_OF_RNN and name in SPLIT
        if name not in ACTIVATIONS and not follows:
            return f"the other Keras has no activation {name}"
    return None
