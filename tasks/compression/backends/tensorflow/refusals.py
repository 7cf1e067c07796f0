"""Which model files are refused before anything is loaded: one place for the loader and for plans.

It imports no framework, so Keras's own classes stand here by name.
"""

from __future__ import annotations

from tasks.compression.backends.tensorflow.config import KerasFile, layers_of, refuse_unsafe
from tasks.compression.errors import CompressionError

__all__ = [
    "KNOWN_CLASSES",
    "no_inputs",
    "refuse_file",
    "wrong_kind",
]


def _numbered(*names: str, axes: tuple[int, ...] = (1, 2, 3)) -> list[str]:
    return [name.replace("#", f"{count}D") for name in names for count in axes]


KNOWN_CLASSES: frozenset[str] = frozenset(
    [
        *("Functional", "Model", "Sequential"),
        # What the functional API writes for operations applied to tensors.
        *("ClassMethod", "InstanceMethod", "InstanceProperty", "SlicingOpLambda", "TFOpLambda"),
        *_numbered("Conv#", "Conv#Transpose", "Convolution#", "Convolution#Transpose", "ConvLSTM#"),
        *_numbered("Cropping#", "SpatialDropout#", "UpSampling#", "ZeroPadding#"),
        *_numbered("AveragePooling#", "AvgPool#", "MaxPooling#", "MaxPool#"),
        *_numbered("GlobalAveragePooling#", "GlobalAvgPool#", "GlobalMaxPooling#", "GlobalMaxPool#"),
        *_numbered("DepthwiseConv#", "SeparableConv#", "SeparableConvolution#", axes=(1, 2)),
        *_numbered("LocallyConnected#", axes=(1, 2)),
        *("Activation", "ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax", "ThresholdedReLU"),
        *("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"),
        *("AbstractRNNCell", "GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "SimpleRNN", "SimpleRNNCell"),
        *("Bidirectional", "StackedRNNCells", "TimeDistributed", "Wrapper", "SpectralNormalization"),
        *("AdditiveAttention", "Attention", "MultiHeadAttention"),
        *("BatchNormalization", "GroupNormalization", "LayerNormalization", "UnitNormalization"),
        *("ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise"),
        *("Dense", "DenseFeatures", "EinsumDense", "Embedding", "Flatten", "Identity", "InputLayer"),
        *("Lambda", "Layer", "Masking", "Permute", "RepeatVector", "Reshape"),
        *("CategoryEncoding", "CenterCrop", "Discretization", "HashedCrossing", "Hashing"),
        *("IntegerLookup", "Normalization", "Rescaling", "Resizing", "StringLookup", "TextVectorization"),
        *("RandomBrightness", "RandomContrast", "RandomCrop", "RandomFlip", "RandomHeight"),
        *("RandomRotation", "RandomTranslation", "RandomWidth", "RandomZoom"),
    ]
)
"""The classes of Keras 2 that a file may have."""


def refuse_file(file: KerasFile, *, has_inputs: bool) -> None:
    """CompressionError unsupported_model for what the loader refuses without looking at weights."""
    refuse_unsafe(file.model, _known_classes(file))
    if not has_inputs:
        raise no_inputs()


def _known_classes(file: KerasFile) -> frozenset[str]:
    """Those of Keras 2; of Keras 3, which writes down where each class is from, what is Keras' own."""
    if file.major < 3:
        return KNOWN_CLASSES
    return frozenset(
        str(layer.get("class_name"))
        for layer in layers_of(file.model)
        if str(layer.get("module")).partition(".")[0] == "keras"
    )


def no_inputs() -> CompressionError:
    return CompressionError(
        "unsupported_model",
        "the model has no fixed input shape",
        hint="build it with an Input layer, or call it on a sample before saving",
    )


def wrong_kind(kind: str) -> CompressionError:
    """For a file that is no Keras model, by what tasks.compression.formats says of it."""
    what = {"zip": "an archive, but neither a Keras model nor a SavedModel"}
    return CompressionError(
        "unsupported_model" if kind in what else "bad_model",
        f"the file is {what.get(kind, 'no Keras model')}",
        hint="upload a model saved by model.save('model.keras') or model.save('model.h5'), the folder of a "
        "SavedModel in a zip or tar, or a float .tflite",
    )
