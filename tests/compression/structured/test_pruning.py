"""From a model to a smaller one that behaves like any other: saved, loaded, compiled, converted."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tasks.compression.backends.tensorflow._framework import keras, lite
from tasks.compression.backends.tensorflow.structured import count, dependencies, remove
from tasks.compression.errors import CompressionError
from tasks.compression.structured import (
    PruningRequest,
    Rounds,
    Target,
    carry_out,
    joined,
    prune,
)
from tests.compression.structured.masked import as_list
from tests.compression.structured.networks import (
    SMALL,
    Network,
    merges,
    mobilenet,
    nested,
    randomised,
    ready,
    resnet,
    sample,
    squeeze_excite,
    unet,
    vgg,
)

layers = keras.layers
HALF = PruningRequest(Target("macs", 0.5))


def saved_and_loaded(model: Any, path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
        return keras.models.load_model(path)


@pytest.mark.ends
@pytest.mark.parametrize("network", SMALL, ids=lambda network: network.__name__)
def test_pruned_model_is_the_same_after_saving_and_loading(network: Network, tmp_path: Path) -> None:
    pruned = prune(dependencies(ready(network)), PruningRequest(Target("channels", 0.3))).model
    x = sample(pruned)

    loaded = saved_and_loaded(pruned, tmp_path / "pruned.keras")

    for one, other in zip(as_list(loaded(x)), as_list(pruned(x)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_pruned_model_survives_the_h5_format(tmp_path: Path) -> None:
    pruned = prune(dependencies(ready(nested)), HALF).model
    x = sample(pruned)

    loaded = saved_and_loaded(pruned, tmp_path / "pruned.h5")

    np.testing.assert_array_equal(loaded(x), pruned(x))


@pytest.mark.ends
@pytest.mark.parametrize("network", [resnet, mobilenet, unet, squeeze_excite, vgg])
def test_pruned_model_runs_in_litert(network: Network) -> None:
    pruned = prune(dependencies(ready(network)), PruningRequest(Target("macs", 0.5), round_to=2)).model
    x = sample(pruned, 1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = lite.TFLiteConverter.from_keras_model(pruned).convert()
        interpreter = Interpreter(model_content=program, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    np.testing.assert_allclose(output, np.asarray(pruned(x)), atol=1e-4 * max(1, np.abs(output).max()))


def test_report_says_what_the_new_model_is() -> None:
    model = ready(mobilenet)
    before = count(model)

    pruned = prune(dependencies(model), HALF)

    after, report = count(pruned.model), pruned.report
    assert (report.parameters_before, report.macs_before) == (before.parameters, before.macs)
    assert (report.parameters_after, report.macs_after) == (after.parameters, after.macs)
    told = {layer.name: (layer.parameters_after, layer.macs_after) for layer in report.layers}
    assert told == {layer.name: (layer.parameters, layer.macs) for layer in after.layers}
    for change in report.layers:
        layer = pruned.model.get_layer(change.name)
        assert change.channels_after == layer.output_shape[-1]
        assert change.channels_before == model.get_layer(change.name).output_shape[-1]
    assert [(one.name, one.reason) for one in report.untouched] == [
        ("predictions", "they are an output of the model")
    ]
    json.dumps(asdict(report), allow_nan=False)


def test_original_is_left_as_it_is() -> None:
    model = ready(resnet)
    before = model.get_weights()

    prune(dependencies(model), HALF)

    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_trainable_flags_dtypes_and_regularisers_stay() -> None:
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="frozen", trainable=False, kernel_regularizer="l2")(image)
    x = layers.BatchNormalization(name="half", dtype="mixed_float16", momentum=0.7)(x)
    model = randomised(keras.Model(image, layers.Dense(2)(layers.GlobalMaxPooling2D()(x))))

    pruned = prune(dependencies(model), HALF).model

    assert not pruned.get_layer("frozen").trainable
    assert pruned.get_layer("frozen").kernel_regularizer is not None
    assert pruned.get_layer("half").dtype_policy.name == "mixed_float16"
    assert pruned.get_layer("half").momentum == 0.7


def test_compiled_model_is_compiled_again_and_trains() -> None:
    model = randomised(resnet())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.legacy.SGD(0.01), loss, metrics=["accuracy"])

    pruned = prune(dependencies(model), HALF)

    assert pruned.report.remarks == ()
    assert pruned.model.loss.get_config()["from_logits"]
    pruned.model.fit(sample(model, 8), np.arange(8), verbose=0)


def test_loss_of_the_callers_own_is_lost_with_a_remark() -> None:
    def own(y: Any, z: Any) -> Any:
        return y - z

    model = randomised(vgg())
    model.compile("sgd", own)

    pruned = prune(dependencies(model), HALF)

    assert [remark.code for remark in pruned.report.remarks] == ["compile_lost"]
    assert pruned.model.optimizer is None


def test_several_named_inputs_and_outputs_stay() -> None:
    pruned = prune(dependencies(ready(merges)), HALF).model

    assert pruned.input_names == ["image", "other"]
    assert set(pruned(sample(pruned))) == {"end", "middle"}


def test_statistics_of_an_input_normalisation_stay() -> None:
    normalise = layers.Normalization()
    normalise.adapt(np.random.default_rng(0).normal(3, 2, (50, 8, 8, 3)))
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, activation="relu")(normalise(image))
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))

    pruned = prune(dependencies(model), HALF).model

    np.testing.assert_array_equal(pruned.layers[1].mean, normalise.mean)
    np.testing.assert_array_equal(pruned.layers[1](sample(model)), normalise(sample(model)))


def test_layers_of_the_callers_own_are_rebuilt_and_kept() -> None:
    class Doubled(layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return 2 * x

    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, name="first")(image)
    x = layers.Conv2D(5, 3, name="second")(x)
    x = layers.GlobalMaxPooling2D()(Doubled(name="doubled")(x))
    pruned = prune(
        dependencies(randomised(keras.Model(image, layers.Dense(2)(x)))),
        PruningRequest(Target("channels", 0.2)),
    )

    assert pruned.model.get_layer("first").filters < 6
    assert pruned.model.get_layer("second").filters == 5


def test_model_that_cannot_be_rebuilt_is_refused() -> None:
    class Configless(layers.Layer):  # type: ignore[misc]
        def __init__(self, function: Any) -> None:
            super().__init__()
            self.function = function

        def call(self, x: Any) -> Any:
            return self.function(x)

    vector = keras.Input((4,))
    x = layers.Dense(2)(layers.Dense(8)(Configless(lambda x: 2 * x)(vector)))
    with pytest.raises(CompressionError) as caught:
        prune(dependencies(keras.Model(vector, x)), HALF)

    assert caught.value.code == "unsupported_model"


def test_removing_nothing_gives_the_same_model() -> None:
    model = ready(merges)
    graph = dependencies(model)
    x = sample(model)

    same = remove(graph, graph.everything())

    for one, other in zip(as_list(same(x)), as_list(model(x)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_rounds_end_at_the_target() -> None:
    def amounts(count: int, pace: Any = "geometric") -> list[float]:
        rounds = Rounds.of(dependencies(ready(resnet)), PruningRequest(Target("macs", 0.75)), count, pace)
        return [round(rounds.target(number).amount, 6) for number in range(1, count + 1)]

    assert amounts(2) == [0.5, 0.75]
    assert amounts(3, "linear") == [0.25, 0.5, 0.75]
    assert amounts(1) == [0.75]
    with pytest.raises(ValueError, match="at least one"):
        amounts(0)


@pytest.mark.parametrize("ranking", ["local", "global"])
@pytest.mark.parametrize("measure", ["macs", "parameters", "channels"])
def test_rounds_meet_the_target_of_the_original(ranking: Any, measure: Any) -> None:
    request = PruningRequest(Target(measure, 0.5), ranking=ranking, shares={"s0b0_a": 0.25})
    model = ready(resnet)
    once = prune(dependencies(model), request).report

    reports, sizes, current = [], [model.count_params()], model
    rounds = Rounds.of(dependencies(model), request, 3)
    for number in (1, 2, 3):
        made = rounds.plan(dependencies(current), number)
        current = carry_out(made).model
        reports.append(made.report)
        sizes.append(current.count_params())

    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4
    report = joined(reports)
    assert report.target == request.target
    assert report.reached == pytest.approx(once.reached, abs=0.06)
    assert (report.parameters_before, report.macs_before) == (once.parameters_before, once.macs_before)
    assert report.parameters_after == current.count_params()
    assert current.get_layer("s0b0_a").filters == 6


def test_rounds_rank_what_training_returned_anew() -> None:
    """Of the channels left by the first round, the one that was strongest is weak by the second."""
    image = keras.Input((4,))
    x = layers.Dense(8, name="wide")(image)
    model = randomised(keras.Model(image, layers.Dense(2, name="head")(x)))
    rounds = Rounds.of(
        dependencies(model), PruningRequest(Target("channels", 0.5), criterion="l2"), 2, "linear"
    )
    smaller = carry_out(rounds.plan(dependencies(model), 1)).model
    kernel, bias = smaller.get_layer("wide").get_weights()
    strongest = int(np.linalg.norm(kernel, axis=0).argmax())
    kernel[:, strongest] *= 1e-6
    smaller.get_layer("wide").set_weights([kernel, bias])
    head, offset = smaller.get_layer("head").get_weights()
    head[strongest] *= 1e-6
    smaller.get_layer("head").set_weights([head, offset])

    kept = rounds.plan(dependencies(smaller), 2).kept_channels("wide")

    assert len(kept) == 4
    assert strongest not in kept
