"""Which channels go together, worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tasks.compression.backends.tensorflow._framework import keras, tf
from tasks.compression.backends.tensorflow.structured import dependencies, remove
from tasks.compression.errors import CompressionError
from tasks.compression.structured import Dependencies, Group
from tests.compression.structured.networks import (
    SMALL,
    Network,
    depthwise,
    normalisations,
    randomised,
    ready,
    resnet,
    siamese,
    squeeze_excite,
    transformer,
    vgg,
)

layers = keras.layers


def group_of(graph: Dependencies, maker: str) -> Group:
    return next(group for group in graph.groups if maker in group.makers)


def without(graph: Dependencies, maker: str, *channels: int) -> Any:
    """Everything but some channels of one layer."""
    made = next(layer.made for layer in graph.layers if layer.name == maker)
    alive = graph.everything()
    alive[made[list(channels)]] = False
    return alive


def weights(model: Any, name: str) -> list[Any]:
    found: list[Any] = model.get_layer(name).get_weights()
    return found


def test_residual_additions_tie_stem_shortcut_and_branch() -> None:
    graph = dependencies(ready(resnet))

    assert {frozenset(group.makers) for group in graph.groups} == {
        frozenset({"stem", "s0b0_b"}),
        frozenset({"s0b0_a"}),
        frozenset({"s1b0_a"}),
        frozenset({"s1b0_b", "s1b0_shortcut"}),
        frozenset({"s2b0_a"}),
        frozenset({"s2b0_b", "s2b0_shortcut"}),
        frozenset({"head"}),
    }


def test_flatten_cuts_one_row_for_every_position() -> None:
    model = ready(vgg)
    graph = dependencies(model)

    pruned = remove(graph, without(graph, "conv2", 1, 4))

    rows = weights(model, "fc1")[0].reshape(4, 4, 10, 20)  # height, width, channels, units
    expected = np.delete(rows, [1, 4], axis=2).reshape(4 * 4 * 8, 20)
    np.testing.assert_array_equal(weights(pruned, "fc1")[0], expected)
    np.testing.assert_array_equal(
        weights(pruned, "conv2")[0], np.delete(weights(model, "conv2")[0], [1, 4], 3)
    )
    np.testing.assert_array_equal(weights(pruned, "conv2")[1], np.delete(weights(model, "conv2")[1], [1, 4]))
    np.testing.assert_array_equal(weights(pruned, "conv1")[0], weights(model, "conv1")[0])


def test_concatenation_cuts_rows_at_the_offset_of_the_branch() -> None:
    image = keras.Input((4, 4, 2))
    left = layers.Conv2D(5, 1, name="left")(image)
    right = layers.Conv2D(6, 1, name="right")(image)
    x = layers.BatchNormalization(name="bn")(layers.Concatenate()([left, right, left]))
    model = randomised(keras.Model(image, layers.Conv2D(3, 1, name="after")(x)))
    graph = dependencies(model)

    pruned = remove(graph, without(graph, "left", 3))

    gone = [3, 5 + 6 + 3]
    np.testing.assert_array_equal(weights(pruned, "after")[0], np.delete(weights(model, "after")[0], gone, 2))
    for after, before in zip(weights(pruned, "bn"), weights(model, "bn"), strict=True):
        np.testing.assert_array_equal(after, np.delete(before, gone))


def test_gate_is_cut_with_what_it_gates() -> None:
    group = group_of(dependencies(ready(squeeze_excite)), "main")

    assert set(group.makers) == {"main", "excite"}


def test_depth_multiplier_and_grouped_convolution() -> None:
    model = ready(depthwise)
    graph = dependencies(model)

    grouped = group_of(graph, "grouped")
    assert (len(grouped.units), grouped.widths, grouped.treated_by) == (6, (3,), ("each",))

    pruned = remove(graph, without(graph, "grouped", 2))

    gone = [2, 6 + 2, 12 + 2]  # the same of each of three groups
    np.testing.assert_array_equal(
        weights(pruned, "grouped")[0], np.delete(weights(model, "grouped")[0], gone, 3)
    )
    assert pruned.get_layer("each").groups == 15
    twice = [channel for first in gone for channel in (2 * first, 2 * first + 1)]
    np.testing.assert_array_equal(weights(pruned, "each")[1], np.delete(weights(model, "each")[1], twice))


def test_normalisation_over_channels_keeps_them_and_group_normalisation_loses_whole_groups() -> None:
    graph = dependencies(ready(normalisations))

    assert len(group_of(graph, "in_groups").units) == 4
    assert len(group_of(graph, "by_instance").units) == 10
    assert len(group_of(graph, "over_positions").units) == 8
    assert "layer_normalization" in (group_of(graph, "over_channels").kept or "")
    assert "all together" in (group_of(graph, "in_one_group").kept or "")


def test_lstm_unit_has_four_gates() -> None:
    steps = keras.Input((5, 3))
    x = layers.LSTM(4, name="cell")(steps)
    model = randomised(keras.Model(steps, layers.Dense(2, name="head")(x)))
    graph = dependencies(model)

    pruned = remove(graph, without(graph, "cell", 1))

    kernel, recurrent, bias = weights(model, "cell")
    gates = [1, 5, 9, 13]
    expected = [
        np.delete(kernel, gates, 1),
        np.delete(np.delete(recurrent, 1, 0), gates, 1),
        np.delete(bias, gates),
    ]
    for after, before in zip(weights(pruned, "cell"), expected, strict=True):
        np.testing.assert_array_equal(after, before)
    np.testing.assert_array_equal(weights(pruned, "head")[0], np.delete(weights(model, "head")[0], 1, 0))


def test_shared_layers_are_one_layer_with_one_group() -> None:
    graph = dependencies(ready(siamese))

    assert [layer.name for layer in graph.layers].count("shared_stem") == 1
    assert len(group_of(graph, "shared_project").units) == 7
    assert group_of(graph, "tower/inner").makers == ("tower/inner",)


def test_layer_shared_by_streams_of_different_origin_ties_them() -> None:
    image = keras.Input((4, 4, 3))
    shared = layers.Conv2D(5, 1, name="shared")
    left, right = layers.Conv2D(6, 1, name="left")(image), layers.Conv2D(6, 1, name="right")(image)
    x = layers.Concatenate()([shared(left), shared(right)])
    graph = dependencies(keras.Model(image, layers.Conv2D(2, 1)(x)))

    assert set(group_of(graph, "left").makers) == {"left", "right"}
    assert group_of(graph, "shared").widths == (1,)


def test_channels_joined_to_an_input_are_kept_with_the_reason() -> None:
    image = keras.Input((4, 4, 3))
    x = layers.Add()([image, layers.Conv2D(3, 1, name="residue")(image)])
    graph = dependencies(keras.Model(image, layers.Conv2D(2, 1)(x)))

    assert group_of(graph, "residue").kept == "they are joined to an input of the model"


def test_layers_without_a_rule_keep_what_goes_in_and_out_and_are_named() -> None:
    graph = dependencies(ready(transformer))

    assert len(graph.opaque) == 2
    assert all("attention" in name for name in graph.opaque)
    assert group_of(graph, "stream").kept is not None
    hidden = [group for group in graph.groups if len(group.units) == 16]
    assert len(hidden) == 2
    assert all(group.kept is None for group in hidden)


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (lambda: layers.Activation("softmax"), "softmax mixes"),
        (lambda: layers.Softmax(), "softmax mixes"),
        (lambda: layers.Activation(tf.nn.log_softmax), "may mix"),
        (lambda: layers.Permute((2, 3, 1)), "moves the channels"),
        (lambda: layers.Reshape((4, 5, 4)), "cuts through the channels"),
        (lambda: layers.UnitNormalization(), "cannot be followed"),
        (lambda: layers.Conv2D(5, 1, activation=keras.activations.softmax), "softmax mixes"),
    ],
)
def test_layers_that_mix_or_move_channels_keep_them(between: Any, reason: str) -> None:
    image = keras.Input((4, 4, 3))
    x = between()(layers.Conv2D(5, 1, name="before")(image))
    graph = dependencies(keras.Model(image, layers.Dense(2)(layers.Flatten()(x))))
    kept = [group.kept for group in graph.groups if group.kept and "output" not in group.kept]

    assert len(kept) == 1
    assert reason in kept[0]


def test_subclass_of_a_layer_has_no_rule() -> None:
    class Own(layers.Dense):  # type: ignore[misc]
        pass

    vector = keras.Input((4,))
    graph = dependencies(keras.Model(vector, layers.Dense(2)(Own(5, name="own")(vector))))

    assert list(graph.opaque) == ["own"]


@pytest.mark.ends
@pytest.mark.parametrize("network", SMALL, ids=lambda network: network.__name__)
def test_outputs_are_never_pruned(network: Network) -> None:
    graph = dependencies(ready(network))
    kept = {unit for group in graph.groups if group.kept for unit in group.units.tolist()}

    for tensor in graph.graph.outputs:
        assert kept >= set(graph.labels[tensor.number].tolist())


def test_subclassed_and_unbuilt_models_are_refused() -> None:
    class Own(keras.Model):  # type: ignore[misc]
        pass

    for model in (Own(), keras.Sequential([layers.Dense(3)])):
        with pytest.raises(CompressionError) as caught:
            dependencies(model)
        assert caught.value.code == "unsupported_model"


def test_layer_shared_by_outer_and_nested_model_is_refused_by_name() -> None:
    shared = layers.Dense(4, name="shared")
    inside = keras.Input((4,))
    vector = keras.Input((4,))
    x = keras.Model(inside, shared(inside), name="nest")(shared(vector))

    with pytest.raises(CompressionError) as caught:
        dependencies(keras.Model(vector, layers.Dense(2)(x)))

    assert caught.value.layer in ("shared", "nest/shared")


def test_shared_layer_that_cannot_be_followed_in_one_call_is_kept_in_the_other() -> None:
    vector = keras.Input((4,))
    reshape = layers.Reshape((4, 6), name="reshape")
    one = reshape(layers.Dense(24, name="divides")(vector))
    two = reshape(layers.Dense(8, name="cuts")(layers.Reshape((3, 1))(layers.Dense(3)(vector))))
    graph = dependencies(keras.Model(vector, layers.Dense(2)(layers.Add()([one, two]))))

    assert "reshape" in (group_of(graph, "divides").kept or "")
    assert "reshape" in (group_of(graph, "cuts").kept or "")


def test_nested_model_is_given_a_dict_by_the_names_of_its_inputs() -> None:
    wide, narrow = keras.Input((4,), name="z"), keras.Input((3,), name="a")
    inside = layers.Concatenate()(
        [layers.Dense(2, name="from_z")(wide), layers.Dense(2, name="from_a")(narrow)]
    )
    nest = keras.Model([wide, narrow], inside, name="nest")
    vector = keras.Input((5,))
    given = {"a": layers.Dense(3, name="to_a")(vector), "z": layers.Dense(4, name="to_z")(vector)}
    graph = dependencies(keras.Model(vector, layers.Dense(2)(nest(given))))
    consumed = {
        layer.name: layer.parameters[0].axes[0].labels.tolist() for layer in graph.layers if layer.makes
    }

    assert consumed["nest/from_z"] == group_of(graph, "to_z").units.tolist()
    assert consumed["nest/from_a"] == group_of(graph, "to_a").units.tolist()


def test_label_counts_that_do_not_fit_are_opaque_rather_than_wrong() -> None:
    image = keras.Input((None, None, 3))
    x = layers.Conv2D(5, 1, name="before")(image)
    x = layers.Reshape((-1, 5))(x)
    x = layers.GlobalMaxPooling1D()(x)
    graph = dependencies(keras.Model(image, layers.Dense(2)(x)))

    assert group_of(graph, "before").kept is None
