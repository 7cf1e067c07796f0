"""Targets, floors, rounding, selections: what was asked for is what goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tasks.compression.backends.tensorflow._framework import keras, tf
from tasks.compression.backends.tensorflow.structured import dependencies
from tasks.compression.errors import CompressionError
from tasks.compression.structured import (
    LayerChange,
    Plan,
    PruningRequest,
    Target,
    importance,
    plan,
)
from tests.compression.structured.networks import (
    autoencoder,
    densenet,
    depthwise,
    mobilenet,
    nested,
    randomised,
    ready,
    recurrent,
    resnet,
    squeeze_excite,
    unet,
    vgg,
)

layers = keras.layers


def request(measure: Any = "macs", amount: float = 0.5, **options: Any) -> PruningRequest:
    return PruningRequest(Target(measure, amount), **options)


def changes(made: Plan) -> dict[str, LayerChange]:
    return {layer.name: layer for layer in made.report.layers}


def left(made: Plan) -> dict[str, float]:
    """The share of channels left in every layer."""
    return {
        layer.name: layer.channels_after / layer.channels_before
        for layer in made.report.layers
        if layer.channels_before and layer.channels_after
    }


@pytest.mark.parametrize("network", [resnet, mobilenet, densenet, unet, recurrent, autoencoder])
@pytest.mark.parametrize("ranking", ["local", "global"])
@pytest.mark.parametrize("measure", ["macs", "parameters"])
def test_cost_target_is_met_and_not_overshot_by_more_than_a_channel(
    network: Any, ranking: Any, measure: Any
) -> None:
    model = ready(network)
    graph = dependencies(model)
    cost = getattr(graph, measure)
    whole = cost(graph.everything())
    dearest = max(whole - cost(_without_one(graph, group)) for group in graph.groups if group.kept is None)

    made = plan(dependencies(model), request(measure, 0.4, ranking=ranking))

    assert 0.6 * whole - dearest <= cost(made.alive) <= 0.6 * whole
    assert made.report.met
    assert made.report.reached == pytest.approx(1 - cost(made.alive) / whole)


def _without_one(graph: Any, group: Any) -> Any:
    alive = graph.everything()
    alive[group.units[0]] = False
    return alive


def test_local_ranking_takes_the_same_share_of_every_layer() -> None:
    made = plan(
        dependencies(randomised(resnet(widths=(8, 16, 32)))), request("channels", 0.25, ranking="local")
    )

    assert set(left(made).values()) == {0.75, 1.0}
    assert [name for name, share in left(made).items() if share == 1] == ["head"]
    assert made.report.reached == pytest.approx(0.25)


def test_channels_target_is_never_exceeded() -> None:
    for ranking in ("local", "global"):
        made = plan(dependencies(ready(densenet)), request("channels", 0.33, ranking=ranking))  # type: ignore[arg-type]
        assert 0.25 < made.report.reached <= 0.33
        assert made.report.met


def test_global_ranking_removes_the_least_important_of_all() -> None:
    model = ready(vgg)
    scores = importance(dependencies(model), "geometric_median")

    made = plan(dependencies(model), request("channels", 0.3, criterion="geometric_median", ranking="global"))

    prunable = np.concatenate([group.units for group in made.graph.groups if group.kept is None])
    gone = prunable[~made.alive[prunable]]
    assert len(gone) == int(0.3 * len(prunable))
    assert scores[gone].max() <= scores[prunable[made.alive[prunable]]].min()


@pytest.mark.parametrize("network", [resnet, mobilenet, depthwise, autoencoder, squeeze_excite])
@pytest.mark.parametrize("ranking", ["local", "global"])
def test_rounded_layers_keep_multiples_or_stay_as_they_are(network: Any, ranking: Any) -> None:
    made = plan(dependencies(ready(network)), request(amount=0.3, ranking=ranking, round_to=4))

    for layer in made.report.layers:
        assert layer.channels_after == layer.channels_before or (layer.channels_after or 0) % 4 == 0


def test_no_layer_falls_below_the_floors() -> None:
    options: dict[str, Any] = {"amount": 0.9, "min_channels": 5, "min_share": 0.5, "ranking": "global"}
    made = plan(dependencies(ready(resnet)), request(**options))

    assert all(share >= 0.5 for share in left(made).values())
    assert all((layer.channels_after or 5) >= 5 for layer in made.report.layers)
    assert not made.report.met
    assert [remark.code for remark in made.report.remarks] == ["target_not_reached"]


def test_taylor_weighs_what_is_lost_against_the_cost_saved() -> None:
    """Two layers of equal importance, one of them a hundred times as dear: it is the one to shrink."""
    image = keras.Input((20, 20, 4))
    x = layers.Conv2D(8, 3, padding="same", name="dear")(image)
    x = layers.Conv2D(8, 1, name="between")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))
    for variable in model.weights:
        variable.assign(tf.ones_like(variable))
    batches = [(np.ones((2, 20, 20, 4), "f"), np.zeros((2, 2), "f"))]
    options: Any = {"criterion": "taylor", "ranking": "global", "min_share": 0.0}

    made = plan(dependencies(model), request("macs", 0.3, **options), batches=batches, loss="mse")

    assert left(made)["dear"] < 0.75
    assert left(made)["between"] == 1.0


def test_some_channel_of_every_layer_stays() -> None:
    made = plan(dependencies(ready(mobilenet)), request("parameters", 0.99))

    assert min(layer.channels_after for layer in made.report.layers if layer.channels_after is not None) == 1


def test_excluded_layer_keeps_its_channels_and_those_tied_to_them() -> None:
    made = plan(dependencies(ready(resnet)), request(exclude=("s1b0_shortcut",)))

    assert left(made)["s1b0_b"] == left(made)["s1b0_shortcut"] == 1.0
    assert {one.reason for one in made.report.untouched if one.name == "s1b0_b"} == {
        "s1b0_shortcut is excluded"
    }


def test_excluded_normalisation_keeps_what_goes_through_it() -> None:
    made = plan(dependencies(ready(resnet)), request(exclude=("s0b0_a_bn",)))

    assert left(made)["s0b0_a"] == 1.0


def test_only_included_layers_are_pruned() -> None:
    made = plan(dependencies(ready(vgg)), request("channels", 0.5, include=("fc*",)))

    assert {name for name, share in left(made).items() if share < 1} == {"fc1"}


def test_group_with_a_layer_not_included_is_left() -> None:
    made = plan(dependencies(ready(resnet)), request("channels", 0.5, include=("*_a", "s1b0_b")))

    assert left(made)["s1b0_b"] == 1.0


def test_patterns_match_paths_and_bare_names_of_nested_layers() -> None:
    for pattern in ("body/head/a", "a"):
        made = plan(dependencies(ready(nested)), request("channels", 0.4, include=(pattern,)))
        assert {name for name, share in left(made).items() if share < 1} == {"body/head/a"}


def test_share_of_a_layer_is_apart_from_the_target() -> None:
    made = plan(
        dependencies(ready(vgg)),
        request("channels", 0.25, ranking="local", shares={"fc1": 0.8, "conv1": 0.0}),
    )

    assert left(made)["fc1"] == pytest.approx(0.2)
    assert left(made)["conv1"] == 1.0
    assert left(made)["conv2"] == pytest.approx(0.8)


def test_smallest_of_several_shares_of_a_group_counts() -> None:
    made = plan(
        dependencies(ready(resnet)),
        request("channels", 0.0, shares={"s1b0_b": 0.5, "s1b0_shortcut": 0.25, "*_a": 0.5}),
    )

    assert left(made)["s1b0_b"] == 0.75


def test_share_without_effect_is_told() -> None:
    made = plan(dependencies(ready(vgg)), request("channels", 0.5, shares={"fc2": 0.5}))

    assert [(remark.code, "fc2" in remark.message) for remark in made.report.remarks] == [("no_effect", True)]


@pytest.mark.parametrize("where", ["include", "exclude", "shares"])
def test_pattern_that_matches_nothing_is_refused(where: str) -> None:
    value: Any = {"conv7*": 0.5} if where == "shares" else ("conv7*",)
    with pytest.raises(CompressionError) as caught:
        plan(dependencies(ready(vgg)), request(**{where: value}))

    assert caught.value.code == "layer_not_found"
    assert "conv7*" in caught.value.detail


@pytest.mark.parametrize(
    "options",
    [
        {"measure": "channels", "amount": 0.0},
        {"measure": "channels", "amount": 0.01, "ranking": "local"},
        {"include": ("fc2",)},
        {"round_to": 64},
        {"criterion": "batchnorm_scale"},
    ],
)
def test_request_that_would_change_nothing_is_refused(options: Any) -> None:
    with pytest.raises(CompressionError) as caught:
        plan(dependencies(ready(vgg)), request(**options))

    assert caught.value.code == "nothing_to_do"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Target("flops", 0.5),  # type: ignore[arg-type]
        lambda: Target("macs", 1.0),
        lambda: Target("macs", float("nan")),
        lambda: request(criterion="l3"),
        lambda: request(ranking="both"),
        lambda: request(round_to=0),
        lambda: request(min_channels=0),
        lambda: request(min_share=1.0),
        lambda: request(shares={"a": -0.1}),
    ],
)
def test_values_out_of_bounds_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()


def test_choice_is_the_same_each_time() -> None:
    model = ready(mobilenet)
    one, other = (plan(dependencies(model), request(criterion="random", seed=5)).alive for _ in range(2))

    np.testing.assert_array_equal(one, other)
