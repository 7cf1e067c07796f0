"""The layers of Keras 2 by name, for those who do not import it."""

from __future__ import annotations

__all__ = ["KNOWN_CLASSES"]


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
