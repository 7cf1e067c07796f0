"""Keras 3 models in Keras 2 and back: every layer computes the same, and what does not is refused by name."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.compression import CompressionError, compress
from tasks.compression.backends.tensorflow import bridge
from tasks.compression.backends.tensorflow.load import load
from tests.compression.networks import digits
from tests.compression.networks import keras as keras2

# Keras 3 asks NumPy for a copy in a way that NumPy 2 will stop taking.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def keras() -> Any:
    keras2()  # sets the environment both are imported in
    import keras as keras3

    return keras3


def image(*layers: str | tuple[str, dict[str, Any]]) -> Callable[[], Any]:
    return _chain((8, 8, 3), layers)


def sequence(*layers: str | tuple[str, dict[str, Any]]) -> Callable[[], Any]:
    return _chain((6, 4), layers)


def _chain(shape: tuple[int, ...], layers: Any) -> Callable[[], Any]:
    def build() -> Any:
        x = inputs = keras().Input(shape)
        for layer in layers:
            name, options = (layer, {}) if isinstance(layer, str) else layer
            x = getattr(keras().layers, name)(**options)(x)
        return keras().Model(inputs, x)

    return build


def _functional(shape: tuple[int, ...], function: Callable[[Any, Any], Any]) -> Callable[[], Any]:
    def build() -> Any:
        inputs = keras().Input(shape)
        return keras().Model(inputs, function(keras(), inputs))

    return build


def _nested() -> Any:
    layers = keras().layers
    inner_in = keras().Input((4,))
    inner = keras().Model(inner_in, layers.Dense(4, activation="gelu")(inner_in), name="inner")
    head = keras().Sequential([keras().Input((4,)), layers.Dense(3)], name="head")
    left, right = keras().Input((4,), name="left"), keras().Input((4,), name="right")
    both = layers.Concatenate()([inner(left), inner(right)])  # shared
    shared = layers.Dense(4, name="shared")
    mixed = layers.Add()([shared(inner(left)), shared(right)])
    return keras().Model([left, right], [head(mixed), layers.Dense(2, name="second")(both)])


def _attention(k: Any, x: Any) -> Any:
    return k.layers.MultiHeadAttention(2, 3)(x, k.layers.Dense(4)(x))


def _operations(k: Any, x: Any) -> Any:
    y = k.ops.reshape(k.ops.matmul(x, k.ops.transpose(x, (0, 2, 1))), (-1, 36))
    y = k.ops.concatenate([y * 2.0 + 1.0, k.ops.relu(y), k.ops.sigmoid(y)], axis=-1)
    y = k.ops.maximum(y[:, 3:80], 0.1) - k.ops.mean(y, axis=1, keepdims=True)
    return k.ops.split(y / 3.0, 7, axis=1)[1] ** 2.0


def _embedded() -> Any:
    tokens = keras().Input((7,), dtype="int32")
    x = keras().layers.Embedding(11, 5, mask_zero=True)(tokens)
    return keras().Model(tokens, keras().layers.LSTM(3)(x))


def _embedded_floats() -> Any:
    tokens = keras().Input((7,))
    x = keras().layers.Embedding(2, 5)(tokens)
    return keras().Model(tokens, keras().layers.Dense(3)(x))


def _normalised() -> Any:
    layer = keras().layers.Normalization()
    layer.adapt(np.random.default_rng(0).normal(3, 2, (50, 4)).astype(np.float32))
    inputs = keras().Input((4,))
    return keras().Model(inputs, keras().layers.Dense(2)(layer(inputs)))


def _mixed() -> Any:
    policy = keras().dtype_policies.DTypePolicy("mixed_float16")
    inputs = keras().Input((4,))
    x = keras().layers.Dense(8, activation="relu", dtype=policy)(inputs)
    return keras().Model(inputs, keras().layers.Dense(2, dtype="float32")(x))


MODELS: dict[str, Callable[[], Any]] = {
    "convolutions": image(
        ("Conv2D", {"filters": 4, "kernel_size": 3, "activation": "silu"}),
        ("DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 2}),
        ("SeparableConv2D", {"filters": 5, "kernel_size": 2}),
        ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2}),
        "BatchNormalization",
        ("GroupNormalization", {"groups": 3}),
        "LayerNormalization",
        "PReLU",
    ),
    "activations": image(
        ("Conv2D", {"filters": 4, "kernel_size": 1, "activation": "hard_sigmoid"}),
        ("Activation", {"activation": "hard_silu"}),
        ("LeakyReLU", {"negative_slope": 0.1}),
        ("ReLU", {"max_value": 6.0}),
        "ELU",
        ("Dense", {"units": 3, "activation": "leaky_relu"}),
        ("Dense", {"units": 3, "activation": "mish"}),
        ("Dense", {"units": 3, "activation": "log_softmax"}),
        "Softmax",
    ),
    "shapes": image(
        ("ZeroPadding2D", {"padding": ((1, 2), (0, 1))}),
        ("Cropping2D", {"cropping": 1}),
        ("UpSampling2D", {"size": 2}),
        "MaxPooling2D",
        ("AveragePooling2D", {"pool_size": 2}),
        ("Permute", {"dims": (3, 1, 2)}),
        ("Reshape", {"target_shape": (-1, 3)}),
        "Flatten",
        ("RepeatVector", {"n": 2}),
        "GlobalMaxPooling1D",
        ("Dropout", {"rate": 0.5}),
    ),
    "preprocessing": image(
        ("Rescaling", {"scale": 1 / 255, "offset": -0.5}),
        ("Resizing", {"height": 5, "width": 5}),
        ("CenterCrop", {"height": 4, "width": 4}),
        ("RandomFlip", {"mode": "horizontal"}),
        ("GaussianNoise", {"stddev": 0.1}),
    ),
    "recurrent": sequence(
        ("LSTM", {"units": 3, "return_sequences": True}),
        ("GRU", {"units": 3, "return_sequences": True}),
        ("SimpleRNN", {"units": 3, "return_sequences": True}),
        ("Conv1D", {"filters": 4, "kernel_size": 2, "padding": "causal"}),
        ("Conv1DTranspose", {"filters": 4, "kernel_size": 2}),
        "GlobalAveragePooling1D",
    ),
    "attention": _functional((6, 4), _attention),
    "operations": _functional((6, 4), _operations),
    "nested": _nested,
    "embedding": _embedded,
    "indices that are floats": _embedded_floats,
    "normalization": _normalised,
    "mixed_precision": _mixed,
    "volumes": _functional(
        (4, 4, 4, 2), lambda k, x: k.layers.GlobalAveragePooling3D()(k.layers.Conv3D(3, 2)(x))
    ),
    "bidirectional": _functional(
        (6, 4),
        lambda k, x: k.layers.TimeDistributed(k.layers.Dense(2))(
            k.layers.Bidirectional(k.layers.LSTM(3, return_sequences=True))(x)
        ),
    ),
    "sequential": lambda: keras().Sequential(
        [keras().Input((4,)), keras().layers.Dense(5, "relu"), keras().layers.Dense(2)]
    ),
}


def scratch(folder: Path) -> Path:
    (folder / "scratch").mkdir()
    return folder / "scratch"


def randomise(model: Any) -> Any:
    """Weights unlike their beginnings: a bias left out of the copy shows."""
    generator = np.random.default_rng(1)
    for weight in model.weights:
        if "float" in str(weight.dtype) and "normalization/" not in weight.path:
            weight.assign(generator.uniform(0.2, 0.9, weight.shape).astype(np.float32))
    return model


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_answers_the_same_in_both(name: str) -> None:
    rebuilt = bridge.to_keras2(randomise(MODELS[name]()))
    tolerance = 5e-3 if name == "mixed_precision" else 1e-5
    assert isinstance(rebuilt.model, keras2().Model)
    assert (
        bridge.compare(rebuilt, tolerance=5e-3 if name == "mixed_precision" else bridge.TOLERANCE) < tolerance
    )
    back = bridge.to_keras3(rebuilt.model)
    assert isinstance(back.model, keras().Model)
    assert bridge.compare(back) < 1e-5
    assert [tuple(tensor.shape) for tensor in back.model.outputs] == [
        tuple(tensor.shape) for tensor in rebuilt.source.outputs
    ]


def test_a_counterpart_that_computes_otherwise_is_found_by_name() -> None:
    rebuilt = bridge.to_keras2(MODELS["recurrent"]())
    gru = next(layer for layer in rebuilt.model.layers if type(layer).__name__ == "GRU")
    gru.set_weights([weight + 0.05 for weight in gru.get_weights()])
    with pytest.raises(bridge.Differs) as caught:
        bridge.compare(rebuilt)
    assert caught.value.name == gru.name


def test_a_layer_without_counterpart_is_refused_by_name(tmp_path: Path) -> None:
    inputs = keras().Input((8, 8, 3))
    model = keras().Model(inputs, keras().layers.RMSNormalization(name="rms")(inputs))
    model.save(tmp_path / "model.keras")
    with pytest.raises(CompressionError) as caught:
        load(tmp_path / "model.keras", scratch(tmp_path), lambda warning: None)
    assert (caught.value.code, caught.value.layer) == ("unsupported_model", "rms")
    assert "tf_keras" in str(caught.value.hint)


def test_a_function_from_elsewhere_is_refused(tmp_path: Path) -> None:
    model = MODELS["sequential"]()
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as source:
        parts = {name: source.read(name) for name in source.namelist()}
    planted = {"module": "os", "class_name": "function", "config": "getcwd", "registered_name": "getcwd"}
    config = parts["config.json"].replace(b'"relu"', json.dumps(planted).encode())
    parts["config.json"] = config
    assert b"getcwd" in parts["config.json"]
    with zipfile.ZipFile(tmp_path / "planted.keras", "w") as target:
        for name, content in parts.items():
            target.writestr(name, content)
    with pytest.raises(CompressionError) as caught:
        load(tmp_path / "planted.keras", scratch(tmp_path), lambda warning: None)
    assert caught.value.code == "layer_not_allowed"
    assert "os.function" in caught.value.detail


@pytest.mark.parametrize(
    ("name", "activation"), [("model.keras", "relu"), ("model.keras", "hard_silu"), ("model.h5", "hard_silu")]
)
def test_a_keras3_model_comes_back_as_one(tmp_path: Path, name: str, activation: str) -> None:
    x, y = digits()
    layers = keras().layers
    keras().utils.set_random_seed(0)
    model = keras().Sequential(
        [
            keras().Input(x.shape[1:]),
            layers.Reshape((*x.shape[1:], 1)),
            layers.Conv2D(8, 3, strides=2, activation=activation, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(),
            layers.Dense(10, name="logits"),
        ]
    )
    loss = keras().losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(x, y, epochs=2, verbose=0)
    model.save(tmp_path / name)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    (tmp_path / "job").mkdir()
    steps = [{"technique": "prune"}, {"technique": "finetune", "epochs": 1}, {"technique": "quantize"}]
    spec = {"steps": steps, "outputs": ["tflite", "keras"]}
    report = compress(tmp_path / name, spec, dataset=tmp_path / "data.npz", workdir=tmp_path / "job").report
    assert "rebuilt_from_keras3" in {warning.code for warning in report.warnings}
    assert report.outputs[0].accuracy is not None
    assert report.outputs[0].accuracy.value > 0.7
    back = keras().saving.load_model(tmp_path / "job" / "out" / "model.keras")
    kernel = np.asarray(back.get_layer("conv").kernel)
    assert np.count_nonzero(kernel == 0) >= kernel.size // 2
    assert (back.predict(x[:200], verbose=0).argmax(-1) == y[:200]).mean() > 0.7
