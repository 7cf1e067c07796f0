"""Quantisation-aware training of networks of many kinds: what is rounded, and what the caller is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from featherweight.report import Report
from featherweight.spec import CompressionSpec, QuantizeAware
from tasks.compression import CompressionError, compress
from tasks.compression.litert import Program
from tasks.compression.tflite import tensors
from tests.compression.networks import keras, save_model

Array = npt.NDArray[Any]
Run = Callable[..., tuple[Report, Path]]

QAT = {"technique": "quantize_aware"}
TRAIN = {"technique": "finetune", "epochs": 1, "batch_size": 32}
SIDE, SAMPLES = 8, 160


def network(*inner: Any, shape: tuple[int, ...] = (SIDE, SIDE, 2)) -> Any:
    layers = keras().layers
    keras().utils.set_random_seed(0)
    model = keras().Sequential(
        [layers.InputLayer(shape), *inner, layers.Flatten(), layers.Dense(3, name="end")]
    )
    for weight in model.weights:
        if any(part in weight.name for part in ("gamma", "beta", "moving_mean")):
            weight.assign_add(np.random.default_rng(1).normal(size=weight.shape) * 0.3)
    return model


def normalised() -> Any:
    """Of every kind: after a convolution, a rectified one, a separable one and a dense layer."""
    layers = keras().layers
    return network(
        layers.BatchNormalization(name="first"),
        layers.Conv2D(4, 3, padding="same", name="conv"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(scale=False),
        layers.SeparableConv2D(6, 3, use_bias=False, name="separable"),
        layers.BatchNormalization(center=False),
        layers.ReLU(6.0),
        layers.Flatten(),
        layers.Dense(8, use_bias=False),
        layers.BatchNormalization(),
        layers.Activation("relu"),
    )


def nested() -> Any:
    layers, models = keras().layers, keras()
    block = models.Sequential([layers.Conv2D(4, 3, activation="relu", name="end"), layers.MaxPooling2D()])
    return network(layers.DepthwiseConv2D(3), models.Sequential([block], name="encoder"))


def branched() -> Any:
    layers, models = keras().layers, keras()
    models.utils.set_random_seed(0)
    given = models.Input((SIDE, SIDE, 2))
    found = layers.Conv2D(4, 3, padding="same", activation="relu")(given)
    gate = layers.Conv2D(4, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(found))
    found = layers.Add()([layers.Multiply()([found, gate]), layers.Conv2D(4, 1)(given)])
    found = layers.Concatenate()([layers.ReLU()(found), layers.Conv2D(2, 1, activation="relu")(given)])
    return models.Model(given, layers.Dense(3, activation="softmax", name="end")(layers.Flatten()(found)))


def signals() -> Any:
    layers = keras().layers
    inner = [layers.Conv1D(6, 3, activation="relu"), layers.MaxPooling1D(2), layers.Conv1D(6, 3)]
    return network(*inner, layers.BatchNormalization(), layers.ReLU(), shape=(16, 4))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(model: Any, *steps: dict[str, Any], **spec: Any) -> tuple[Report, Path]:
        chance = np.random.default_rng(0)
        x = chance.normal(size=(SAMPLES, *model.input_shape[1:])).astype(np.float32)
        y = x.reshape(SAMPLES, -1)[:, :40].sum(axis=1)
        np.savez(tmp_path / "data.npz", x=x, y=np.digitize(y, np.quantile(y, [0.33, 0.67])))
        path = save_model(model, tmp_path / "model.keras")
        document = {"steps": list(steps), "outputs": ["tflite", "keras"], **spec}
        outcome = compress(path, document, dataset=tmp_path / "data.npz", workdir=tmp_path / "work")
        return outcome.report, tmp_path / "work" / "out"

    return run


def types(out: Path) -> set[str]:
    return {item.dtype for item in tensors((out / "model.tflite").read_bytes())}


@pytest.mark.ends
@pytest.mark.parametrize("make", [normalised, nested, branched, signals])
def test_whole_network_is_integers_and_answers_as_it_was_trained(run: Run, make: Callable[[], Any]) -> None:
    model = make()
    report, out = run(model, {**QAT, "io_dtype": "int8", "on_unsupported": "error"}, TRAIN)
    assert types(out) == {"int8", "int32"}
    likeness = report.outputs[0]
    assert likeness.max_abs_difference is not None
    spread = max(1.0, abs(Program((out / "model.tflite").read_bytes()).predict(samples(model))).max())
    assert likeness.max_abs_difference < 0.06 * spread
    delivered = keras().models.load_model(out / "model.keras", compile=False)
    assert [layer.name for layer in delivered.layers] == [layer.name for layer in model.layers]
    assert [weight.shape for weight in delivered.weights] == [weight.shape for weight in model.weights]


def samples(model: Any) -> Array:
    return np.random.default_rng(1).normal(size=(32, *model.input_shape[1:])).astype(np.float32)


def test_float_network_has_the_weights_that_were_trained(run: Run) -> None:
    model = nested()
    _, out = run(model, QAT, TRAIN)
    delivered = keras().models.load_model(out / "model.keras", compile=False)
    changed = [
        abs(new - old).max() for old, new in zip(model.get_weights(), delivered.get_weights(), strict=True)
    ]
    assert min(changed) > 0


def test_frozen_normalisation_stays_as_it_is(run: Run) -> None:
    model = normalised()
    _, out = run(model, QAT, {**TRAIN, "technique": "distill", "freeze_batch_norm": True})
    delivered = keras().models.load_model(out / "model.keras", compile=False)
    for old, new in zip(model.layers, delivered.layers, strict=True):
        if isinstance(old, keras().layers.BatchNormalization):
            assert all(
                np.array_equal(a, b) for a, b in zip(old.get_weights(), new.get_weights(), strict=True)
            )
    assert not np.array_equal(model.get_layer("conv").kernel, delivered.get_layer("conv").kernel)


def test_frozen_layer_stays_as_it_is(run: Run) -> None:
    model = nested()
    model.layers[0].trainable = False
    _, out = run(model, QAT, TRAIN)
    delivered = keras().models.load_model(out / "model.keras", compile=False)
    same = [np.array_equal(a, b) for a, b in zip(model.get_weights(), delivered.get_weights(), strict=True)]
    frozen = len(model.layers[0].get_weights())
    assert all(same[:frozen])
    assert not any(same[frozen:])


def test_layers_that_cannot_learn_it_are_left_float_and_reported(run: Run) -> None:
    layers = keras().layers
    model = network(
        layers.LSTM(6, name="memory"), layers.Dense(6, activation="elu", name="bent"), shape=(6, 4)
    )
    report, _ = run(model, QAT, TRAIN)
    said = {item.layer: item.message for item in report.warnings if item.code == "computed_in_float"}
    assert set(said) == {"memory", "bent"}
    assert "LSTM" in said["memory"]
    assert "elu" in said["bent"]
    skipped = {layer.name: layer.skipped for layer in report.layers}
    assert skipped["memory"] is not None
    assert skipped["end"] is None
    details = report.steps[1].details["quantize_aware"]
    assert set(details["left_float"]) == {"memory", "bent"}
    assert details["layers"]["end"] == "int8"
    with pytest.raises(CompressionError, match="LSTM") as caught:
        run(model, {**QAT, "on_unsupported": "error"}, TRAIN)
    assert (caught.value.code, caught.value.layer) == ("layer_not_supported", "memory")
    assert (caught.value.pointer, caught.value.stage) == ("/steps/0/layers", "load")


def test_network_without_a_layer_that_can_learn_it_is_refused(run: Run) -> None:
    model = network(keras().layers.LSTM(6, name="memory"), shape=(6, 4))
    with pytest.raises(CompressionError, match="no selected layer") as caught:
        run(model, {**QAT, "layers": {"include": ["memory"]}}, TRAIN)
    assert (caught.value.code, caught.value.pointer) == ("layer_not_supported", "/steps/0/layers")


def test_channel_without_weights_keeps_its_bias(run: Run) -> None:
    """A channel that pruning emptied has no range of its own to give its bias a scale."""
    conv = keras().layers.Conv2D(4, 3, name="conv", bias_initializer="ones")
    model = network(conv, keras().layers.ReLU())
    kernel = conv.kernel.numpy()
    kernel[..., 1:3] = 0.0
    conv.kernel.assign(kernel)
    report, out = run(model, QAT, {**TRAIN, "learning_rate": 1e-5})
    delivered = keras().models.load_model(out / "model.keras", compile=False)
    assert not delivered.get_layer("conv").kernel.numpy()[..., 1:3].any()
    assert report.outputs[0].max_abs_difference is not None
    assert report.outputs[0].max_abs_difference < 0.05


def test_ranges_begin_with_those_of_the_samples() -> None:
    from tasks.compression.backends.tensorflow.qat.ranges import calibrate
    from tasks.compression.backends.tensorflow.qat.simulation import simulated

    model = network(keras().layers.Conv2D(4, 3, activation="relu", name="conv"))
    step = QuantizeAware(technique="quantize_aware")
    quantized = {layer.name for layer in model.layers}
    simulation = simulated(model, quantized, set(), step)
    x = samples(model)
    calibrate(simulation.model, x)
    ranges = {weight.name: float(weight) for weight in simulation.model.weights if weight.shape == ()}
    (low,) = [value for name, value in ranges.items() if "quantize_layer" in name and "_min" in name]
    assert low == pytest.approx(x.min())
    activations = model.get_layer("conv")(x).numpy()
    assert ranges["quant_conv/post_activation_max:0"] == pytest.approx(activations.max(), rel=0.05)
    assert abs(simulation.model(x) - model(x)).numpy().max() < 0.1


def test_kernel_before_a_rectifier_of_its_own_has_its_bits_too(run: Run) -> None:
    layers = keras().layers
    inner = [layers.Conv2D(4, 3), layers.ReLU(), layers.Flatten(), layers.Dense(8), layers.Activation("relu")]
    report, _ = run(network(*inner), {**QAT, "weight_bits": 4}, TRAIN)
    assert set(report.steps[1].details["quantize_aware"]["layers"].values()) == {"int4"}


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([QAT], "right after it"),
        ([QAT, {"technique": "prune"}, TRAIN], "right after it"),
        ([QAT, TRAIN, TRAIN], "nothing can follow"),
        ([QAT, TRAIN, {"technique": "prune"}], "nothing can follow"),
        ([QAT, TRAIN, {"technique": "quantize"}], "already decides"),
        ([QAT, TRAIN, QAT, TRAIN], "already decides"),
        ([{**QAT, "weight_bits": 1}, TRAIN], "greater than or equal to 2"),
        ([{**QAT, "weight_bits": 9}, TRAIN], "less than or equal to 8"),
        ([{**QAT, "activation_bits": 4}, TRAIN], "Input should be 8"),
        ([{**QAT, "io_dtype": "int16"}, TRAIN], "int8"),
    ],
)
def test_orders_and_numbers_that_make_no_sense_are_refused(steps: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CompressionSpec.model_validate({"steps": steps})


def test_integer_file_is_its_only_output_with_an_effect() -> None:
    with pytest.raises(ValidationError, match="needs the output tflite"):
        CompressionSpec.model_validate({"steps": [QAT, TRAIN], "outputs": ["keras"]})
