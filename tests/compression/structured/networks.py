"""Small networks of many shapes, with random weights everywhere: none of them is trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from tasks.compression.backends.tensorflow._framework import keras, tf

layers = keras.layers
Network = Callable[[], Any]


def randomised(model: Any, seed: int = 0) -> Any:
    """Every weight drawn anew, the moving averages and offsets of normalisation too, at a scale that keeps
    activations near one."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        shape, name = tuple(variable.shape), variable.name
        if not shape:
            continue
        if "variance" in name or "gamma" in name:
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            depthwise = "depthwise_kernel" in name
            fan_in = np.prod(shape[:-2]) if depthwise else np.prod(shape[:-1])
            value = rng.normal(0, (2 / fan_in) ** 0.5, shape)
        else:
            value = rng.normal(0, 0.3, shape)
        variable.assign(value)
    return model


@cache
def ready(network: Network) -> Any:
    """The network with random weights, one for all tests: for those that leave it as it is."""
    return randomised(network())


def sample(model: Any, count: int = 2, seed: int = 1) -> Any:
    """Random inputs of the model: whole numbers for inputs of an integer type."""
    rng = np.random.default_rng(seed)
    values = {}
    for tensor in model.inputs:
        shape = (count, *(size or 8 for size in tensor.shape[1:]))
        values[tensor.node.layer.name] = (
            rng.integers(0, 10, shape)
            if tensor.dtype.is_integer
            else rng.normal(size=shape).astype(np.float32)
        )
    return next(iter(values.values())) if len(values) == 1 else values


def conv(x: Any, filters: int, size: int = 3, strides: int = 1, name: str | None = None) -> Any:
    """Convolution, batch normalisation, ReLU."""
    x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(name=name and f"{name}_bn")(x)
    return layers.ReLU()(x)


def resnet(blocks: int = 1, widths: tuple[int, ...] = (8, 12, 16)) -> Any:
    """A CIFAR ResNet (He et al. 2016) with strided 1x1 shortcuts: ResNet-8 with one block, 20 with three."""
    image = keras.Input((16, 16, 3))
    x = conv(image, widths[0], name="stem")
    for stage, width in enumerate(widths):
        for block in range(blocks):
            strides = 2 if stage and not block else 1
            name = f"s{stage}b{block}"
            y = conv(x, width, strides=strides, name=f"{name}_a")
            y = layers.Conv2D(width, 3, padding="same", name=f"{name}_b")(y)
            y = layers.BatchNormalization()(y)
            if strides > 1:
                x = layers.Conv2D(width, 1, strides, padding="same", name=f"{name}_shortcut")(x)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(4)(x))
    return keras.Model(image, layers.Dense(10, name="head")(x), name="resnet")


def mobilenet() -> Any:
    return keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, weights=None, classes=7, classifier_activation=None
    )


def mobilenet_v3() -> Any:
    """Hard swish as TensorFlow operations, squeeze and excite."""
    return keras.applications.MobileNetV3Small(
        (32, 32, 3), alpha=0.35, weights=None, classes=7, classifier_activation=None
    )


def efficientnet() -> Any:
    return keras.applications.EfficientNetB0(
        input_shape=(32, 32, 3), weights=None, classes=7, classifier_activation=None
    )


def densenet_121() -> Any:
    return keras.applications.DenseNet121(
        input_shape=(32, 32, 3), weights=None, classes=7, classifier_activation=None
    )


def resnet_50_v2() -> Any:
    """Pre-activation: batch normalisation after the additions."""
    return keras.applications.ResNet50V2(
        input_shape=(32, 32, 3), weights=None, classes=7, classifier_activation=None
    )


def xception() -> Any:
    return keras.applications.Xception(
        input_shape=(71, 71, 3), weights=None, classes=7, classifier_activation=None
    )


def inception() -> Any:
    return keras.applications.InceptionV3(
        input_shape=(75, 75, 3), weights=None, classes=7, classifier_activation=None
    )


def densenet() -> Any:
    """Two dense blocks of concatenations, with a transition between them."""
    x = image = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, padding="same")(x)
    for block in range(2):
        for _ in range(3):
            y = layers.ReLU()(layers.BatchNormalization()(x))
            y = layers.Conv2D(16, 1, use_bias=False)(y)
            y = layers.ReLU()(layers.BatchNormalization()(y))
            x = layers.Concatenate()([x, layers.Conv2D(6, 3, padding="same", use_bias=False)(y)])
        if not block:
            x = layers.Conv2D(12, 1)(layers.ReLU()(layers.BatchNormalization()(x)))
            x = layers.AveragePooling2D()(x)
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x))
    return keras.Model(image, layers.Dense(5)(x), name="densenet")


def unet() -> Any:
    """Skips by concatenation; up by a transposed convolution and by up-sampling; a map as output."""
    image = keras.Input((16, 16, 3))
    one = conv(conv(image, 8), 8)
    two = conv(layers.MaxPooling2D()(one), 12)
    x = conv(layers.MaxPooling2D()(two), 16)
    x = layers.Conv2DTranspose(12, 2, strides=2, padding="same", activation="relu")(x)
    x = conv(layers.Concatenate()([two, x]), 12)
    x = layers.UpSampling2D(interpolation="bilinear")(x)
    x = conv(layers.Concatenate()([layers.Cropping2D(1)(layers.ZeroPadding2D(1)(x)), one]), 8)
    return keras.Model(image, layers.Conv2D(2, 1, activation="sigmoid")(x), name="unet")


def squeeze_excite() -> Any:
    """Gates per channel through Reshape or kept 1x1, per position through one broadcast channel."""
    image = keras.Input((8, 8, 3))
    x = conv(image, 12, name="main")
    gate = layers.Dense(4, activation="swish", name="squeeze")(layers.GlobalAveragePooling2D()(x))
    gate = layers.Reshape((1, 1, 12))(layers.Dense(12, activation="sigmoid", name="excite")(gate))
    x = layers.Multiply()([x, gate])
    where = layers.Conv2D(1, 7, padding="same", activation="sigmoid", name="where")(x)
    x = conv(layers.Multiply()([where, x]), 10, name="second")
    kept = layers.GlobalMaxPooling2D(keepdims=True)(x)
    kept = layers.Conv2D(10, 1, activation="hard_sigmoid", name="gate")(kept)
    x = layers.Multiply()([kept, x])
    return keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)), name="squeeze_excite")


def vgg() -> Any:
    """A Sequential with two convolutions before Flatten, so that positions and channels are interleaved."""
    return keras.Sequential(
        [
            layers.Conv2D(8, 3, padding="same", activation="relu", input_shape=(8, 8, 3), name="conv1"),
            layers.MaxPooling2D(),
            layers.Conv2D(10, 3, padding="same", activation="relu", name="conv2"),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(20, activation="elu", name="fc1"),
            layers.Dense(6, name="fc2"),
        ],
        name="vgg",
    )


def one_dimensional() -> Any:
    x = signal = keras.Input((32, 2))
    x = layers.Conv1D(8, 5, padding="causal", activation="gelu")(x)
    x = layers.SeparableConv1D(12, 3, depth_multiplier=2, padding="same")(x)
    x = layers.PReLU(shared_axes=[1])(x)
    x = layers.DepthwiseConv1D(3, depth_multiplier=2, padding="same")(x)
    x = layers.LeakyReLU()(layers.BatchNormalization()(layers.MaxPooling1D()(x)))
    x = layers.Conv1DTranspose(6, 4, strides=2, padding="same")(layers.SpatialDropout1D(0.2)(x))
    x = layers.Flatten()(layers.AveragePooling1D()(x))
    return keras.Model(signal, layers.Dense(3)(x), name="one_dimensional")


def three_dimensional() -> Any:
    x = volume = keras.Input((6, 6, 6, 1))
    x = layers.Conv3D(6, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling3D()(layers.PReLU()(x))
    x = layers.UpSampling3D()(layers.Conv3DTranspose(5, 3, padding="same", activation="relu")(x))
    x = layers.GlobalAveragePooling3D()(layers.Conv3D(7, 3, activation="tanh")(x))
    return keras.Model(volume, layers.Dense(3)(x), name="three_dimensional")


def depthwise() -> Any:
    """Depth multipliers, separable and grouped convolutions."""
    x = image = keras.Input((8, 8, 3))
    x = conv(x, 8)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="relu")(x)
    x = layers.SeparableConv2D(12, 3, depth_multiplier=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(18, 3, groups=3, padding="same", activation="relu", name="grouped")(x)
    x = layers.Conv2D(36, 3, groups=18, padding="same", activation="relu", name="each")(x)
    x = conv(x, 9, 1)
    return keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)), name="depthwise")


def normalisations() -> Any:
    """Group normalisation by groups and by instance; layer normalisation over positions; all channels."""
    x = image = keras.Input((8, 8, 3))
    x = layers.Conv2D(12, 3, padding="same", name="in_groups")(x)
    x = layers.ReLU()(layers.GroupNormalization(4)(x))
    x = layers.Conv2D(10, 3, padding="same", name="by_instance")(x)
    x = layers.ReLU()(layers.GroupNormalization(-1)(x))
    x = layers.Conv2D(8, 3, padding="same", name="over_positions")(x)
    x = layers.ReLU()(layers.LayerNormalization(axis=[1, 2])(x))
    x = layers.Conv2D(9, 3, padding="same", name="over_channels")(x)
    x = layers.LayerNormalization()(x)
    x = layers.Conv2D(7, 3, padding="same", name="in_one_group")(x)
    x = layers.GroupNormalization(1)(x)
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="last")(x)
    return keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)), name="normalisations")


def autoencoder() -> Any:
    """A dense layer taken apart into a map: Reshape from a vector."""
    x = image = keras.Input((8, 8, 1))
    x = layers.Conv2D(6, 3, 2, padding="same", activation="relu")(x)
    x = layers.Dense(5, activation="relu", name="code")(layers.Reshape((-1,))(x))
    x = layers.Reshape((4, 4, 6))(layers.Dense(96, activation="relu", name="apart")(x))
    x = layers.Conv2DTranspose(4, 3, 2, padding="same", activation="relu")(x)
    x = layers.Reshape((64, 4))(x)
    x = layers.Conv1D(3, 3, padding="same", activation="relu")(x)
    return keras.Model(image, layers.Reshape((8, 8, 2))(layers.Dense(2)(x)), name="autoencoder")


def merges() -> Any:
    """Every joining layer, operations outside layers, several outputs, one of them in the middle."""
    image, other = keras.Input((8, 8, 3), name="image"), keras.Input((5,), name="other")
    x, y = conv(image, 8, name="left"), conv(image, 8, name="right")
    x = layers.Average()([x, y, conv(image, 8, name="third")])
    x = layers.Maximum()([x, conv(x, 8)])
    x = layers.Subtract()([x, layers.Minimum()([conv(x, 8), conv(x, 8)])])
    z = layers.Dense(8, activation="tanh", name="from_vector")(other)
    x = layers.Add()([x, z])
    x = conv(x, 10, name="operated")
    x = x * tf.nn.relu6(x + 3.0) / 6.0
    x = 1.0 - tf.concat([x, tf.nn.silu(conv(x, 4))], axis=-1)
    middle = conv(x, 6, name="middle")
    x = layers.Concatenate(axis=1)([conv(middle, 9), conv(middle, 9)])
    x = layers.Dense(3, name="end")(tf.reduce_mean(x, axis=[1, 2]))
    return keras.Model({"image": image, "other": other}, {"end": x, "middle": middle}, name="merges")


def siamese() -> Any:
    """A nested model and single layers, each called twice."""
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    stem = layers.Conv2D(6, 3, padding="same", activation="relu", name="shared_stem")
    inside = keras.Input((8, 8, 6))
    y = conv(conv(inside, 10, name="inner"), 8, name="inner2")
    tower = keras.Model(inside, layers.GlobalAveragePooling2D()(y), name="tower")
    project = layers.Dense(7, activation="relu", name="shared_project")
    one, two = (project(tower(stem(side))) for side in (left, right))
    x = layers.Concatenate()([layers.Subtract()([one, two]), layers.Multiply()([one, two])])
    return keras.Model([left, right], layers.Dense(2)(x), name="siamese")


def nested() -> Any:
    """Models in a model in a model, of which the inner ones are Sequential; flexible inner sizes."""
    head = keras.Sequential(
        [layers.Dense(9, activation="relu", input_shape=(8,), name="a"), layers.Dense(6, name="b")],
        name="head",
    )
    inside = keras.Input((None, None, 5))
    y = layers.Conv2D(8, 3, 2, padding="same", activation="relu", name="c")(inside)
    body = keras.Model(inside, head(layers.GlobalAveragePooling2D()(y)), name="body")
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(5, 3, activation="relu", name="d")(image)
    x = body(x)
    return keras.Model(image, layers.Dense(2, name="e")(layers.ReLU()(x)), name="nested")


def recurrent() -> Any:
    """LSTM, GRU of both kinds, a simple cell, two directions in three merge modes; an embedding."""
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(10, 7)(tokens)
    x = layers.LSTM(8, return_sequences=True)(x)
    x = layers.GRU(6, return_sequences=True)(x)
    x = layers.GRU(5, return_sequences=True, reset_after=False)(x)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    x = layers.Bidirectional(layers.GRU(5, return_sequences=True), merge_mode="sum")(x)
    x = layers.Bidirectional(
        layers.LSTM(4, return_sequences=True),
        backward_layer=layers.GRU(6, return_sequences=True, go_backwards=True),
    )(x)
    x = layers.TimeDistributed(layers.Dense(7, activation="relu"))(x)
    x = layers.SimpleRNN(6)(x)
    return keras.Model(tokens, layers.Dense(3)(x), name="recurrent")


def sequence_to_sequence() -> Any:
    """A decoder that starts in the encoder's states: their units are tied."""
    source, target = keras.Input((6, 3), name="source"), keras.Input((5, 4), name="target")
    _, hidden, cell = layers.LSTM(8, return_state=True, name="encoder")(source)
    x = layers.LSTM(8, return_sequences=True, name="decoder")(target, initial_state=[hidden, cell])
    x, *states = layers.Bidirectional(layers.GRU(4, return_sequences=True, return_state=True))(x)
    x = layers.Add()([x, layers.RepeatVector(5)(layers.Concatenate()(states))])
    return keras.Model([source, target], layers.Dense(2)(x), name="sequence_to_sequence")


def frames() -> Any:
    """Convolutions applied to every frame of a sequence."""
    video = keras.Input((4, 8, 8, 3))
    x = layers.TimeDistributed(layers.Conv2D(6, 3, activation="relu"))(video)
    x = layers.TimeDistributed(layers.BatchNormalization())(x)
    x = layers.TimeDistributed(layers.Flatten())(layers.TimeDistributed(layers.MaxPooling2D())(x))
    return keras.Model(video, layers.Dense(2)(layers.GRU(5)(x)), name="frames")


def transformer() -> Any:
    """Attention and normalisation keep the stream; the hidden layers of the perceptrons can be pruned."""
    x = tokens = keras.Input((6, 8))
    x = layers.Dense(8, name="stream")(x)
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(y, y)])
        y = layers.Dense(16, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(8)(y)])
    return keras.Model(tokens, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)), name="transformer")


SMALL: tuple[Network, ...] = (
    resnet,
    mobilenet,
    densenet,
    unet,
    squeeze_excite,
    vgg,
    one_dimensional,
    three_dimensional,
    depthwise,
    normalisations,
    autoencoder,
    merges,
    siamese,
    nested,
    recurrent,
    sequence_to_sequence,
    frames,
    transformer,
)

LARGE: tuple[Network, ...] = (mobilenet_v3, efficientnet, densenet_121, resnet_50_v2, xception, inception)
