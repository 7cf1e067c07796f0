"""Low-rank decomposition: the factors, the choice of ranks, and the network that computes with them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherweight.spec import Decompose
from tasks.compression import CompressionError, compress, ignore
from tasks.compression.backends.tensorflow._framework import keras
from tasks.compression.backends.tensorflow.decompose import check, decompose
from tasks.compression.backends.tensorflow.layers import copied, placed_layers
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.structured import count
from tasks.compression.context import Context
from tasks.compression.lowrank.factors import merged, spectra, svd, tucker
from tasks.compression.lowrank.ranks import Size, options
from tasks.compression.progress import Progress
from tests.compression.networks import save_model
from tests.compression.structured.masked import as_list
from tests.compression.structured.networks import SMALL, randomised, ready, sample
from tests.compression.structured.networks import Network as Builder

layers = keras.layers
HALF = {"type": "parameters", "keep": 0.5}


def low_rank(model: Any, **options: Any) -> tuple[Any, Context]:
    """The decomposed model, and the context with what the handler recorded."""
    progress = Progress(ignore, [("decompose", 1.0)])
    progress.begin()
    context = Context(0, "/steps/0", None, 0, None, progress, Path())
    step = Decompose.model_validate({"technique": "decompose", **options})
    return decompose(Network(model), step, context).model, context


def codes(context: Context) -> list[tuple[str, str | None]]:
    return [(warning.code, warning.layer) for warning in context.record.warnings]


def truncated(model: Any, new: Any, details: dict[str, Any]) -> Any:
    """The original with each decomposed kernel set to what its parts, as they stand in `new`, multiply to."""
    by_path = {place.path: place.layer for place in placed_layers(new)}
    reference = copied(model)
    for place in placed_layers(reference):
        if place.path not in details["layers"]:
            continue
        parts = [by_path[path] for path in details["layers"][place.path]["layers"]]
        kernels = [getattr(part, "layer", part).kernel.numpy() for part in parts]
        getattr(place.layer, "layer", place.layer).kernel.assign(merged(kernels))
    return reference


def of_tucker_rank(shape: tuple[int, ...], inputs: int, outputs: int) -> Any:
    rng = np.random.default_rng(3)
    core = rng.normal(size=(*shape[:-2], inputs, outputs))
    left, right = rng.normal(size=(shape[-2], inputs)), rng.normal(size=(shape[-1], outputs))
    return np.einsum("...io,si,to->...st", core, left, right).astype(np.float32)


@pytest.mark.parametrize("shape", [(20, 12), (12, 20), (7, 7)])
@pytest.mark.parametrize("rank", [1, 3, 7])
def test_svd_is_the_best_approximation_of_its_rank(shape: tuple[int, int], rank: int) -> None:
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    left, right = svd(matrix, rank)
    u, s, v = np.linalg.svd(matrix.astype(np.float64))
    assert (left.shape, right.shape) == ((shape[0], rank), (rank, shape[1]))
    np.testing.assert_allclose(left @ right, u[:, :rank] * s[:rank] @ v[:rank], atol=1e-6)
    np.testing.assert_allclose(spectra(matrix).inputs, s**2, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=1))


@pytest.mark.parametrize("shape", [(3, 3, 6, 8), (5, 4, 4), (2, 3, 2, 5, 3)])
def test_tucker_at_full_rank_is_the_kernel(shape: tuple[int, ...]) -> None:
    kernel = np.random.default_rng(0).normal(size=shape)
    left, core, right = tucker(kernel, shape[-2], shape[-1])
    np.testing.assert_allclose(core, kernel)
    np.testing.assert_array_equal(left, np.eye(shape[-2]))
    np.testing.assert_array_equal(right, np.eye(shape[-1]))


def test_tucker_finds_a_kernel_of_low_rank_exactly() -> None:
    kernel = of_tucker_rank((3, 3, 12, 10), 4, 5)
    left, core, right = tucker(kernel, 4, 5)
    assert core.shape == (3, 3, 4, 5)
    np.testing.assert_allclose(left.T @ left, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(np.einsum("...io,si,to->...st", core, left, right), kernel, atol=1e-4)


def test_iterations_better_the_singular_vectors_they_begin_with() -> None:
    kernel = np.random.default_rng(5).normal(size=(3, 3, 16, 16))

    def leading(axis: int) -> Any:
        unfolded = np.moveaxis(kernel, axis, 0).reshape(16, -1)
        return np.linalg.svd(unfolded, full_matrices=False)[0][:, :4]

    begun = np.einsum("...st,si,to->...io", kernel, leading(-2), leading(-1))
    _, core, _ = tucker(kernel, 4, 4)
    assert np.square(core).sum() > 1.02 * np.square(begun).sum()
    assert np.square(core).sum() < np.square(kernel).sum()


@pytest.mark.ends
@pytest.mark.parametrize("network", SMALL, ids=lambda network: network.__name__)
def test_network_computes_what_the_original_does_with_truncated_weights(network: Builder) -> None:
    model = ready(network)
    x = sample(model)
    before = as_list(model(x, training=False))

    new, context = low_rank(model, rank={"type": "energy", "keep": 0.7})

    details = context.record.details
    assert details["layers"]
    reference = truncated(model, new, details)
    assert new.output_names == model.output_names
    for one, other in zip(as_list(new(x)), as_list(reference(x)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-4)
    for one, other in zip(as_list(model(x)), before, strict=True):
        np.testing.assert_array_equal(one, other)
    cost = count(new)
    assert (details["parameters_after"], details["macs_after"]) == (cost.parameters, cost.macs)
    for key in ("parameters", "macs"):
        saved = sum(one[f"{key}_before"] - one[f"{key}_after"] for one in details["layers"].values())
        assert details[f"{key}_before"] - details[f"{key}_after"] == saved > 0


def one_layer(layer: Any, shape: tuple[int, ...], kernel: Any = None) -> Any:
    model = randomised(keras.Sequential([layers.InputLayer(shape), layer]))
    if kernel is not None:
        getattr(layer, "layer", layer).kernel.assign(kernel)
    return model


CONVOLUTIONS: list[tuple[Callable[[], Any], tuple[int, ...]]] = [
    (lambda: layers.Conv2D(14, 3, strides=2, padding="same", activation="relu", name="one"), (9, 8, 12)),
    (lambda: layers.Conv2D(14, (3, 5), strides=(1, 2), name="one"), (9, 8, 12)),
    (lambda: layers.Conv2D(14, 3, dilation_rate=2, padding="same", use_bias=False, name="one"), (9, 8, 12)),
    (lambda: layers.Conv1D(14, 3, dilation_rate=2, padding="causal", activation="tanh", name="one"), (9, 12)),
    (lambda: layers.Conv3D(14, 2, strides=2, padding="same", name="one"), (5, 4, 3, 12)),
    (lambda: layers.Conv2D(14, 1, strides=2, padding="same", activation="relu", name="one"), (9, 8, 12)),
    (lambda: layers.Conv1D(14, 1, padding="causal", name="one"), (9, 12)),
    (lambda: layers.Dense(14, activation="softmax", name="one"), (12,)),
    (lambda: layers.TimeDistributed(layers.Dense(14, activation="relu"), name="one"), (5, 12)),
    (lambda: layers.TimeDistributed(layers.Conv2D(14, 3, padding="same"), name="one"), (2, 5, 4, 12)),
]


@pytest.mark.parametrize(("make", "shape"), CONVOLUTIONS)
def test_kernel_of_low_rank_loses_nothing(make: Callable[[], Any], shape: tuple[int, ...]) -> None:
    layer = make()
    model = one_layer(layer, shape)
    kernel = getattr(layer, "layer", layer).kernel
    getattr(layer, "layer", layer).kernel.assign(0.1 * of_tucker_rank(tuple(kernel.shape), 4, 4))
    x = sample(model)

    new, context = low_rank(model, rank={"type": "energy", "keep": 1.0})

    assert set(context.record.details["layers"]["one"]["ranks"]) == {4}
    assert new.count_params() < model.count_params()
    np.testing.assert_allclose(new(x), model(x), atol=1e-4)
    assert [layer.trainable for layer in new.layers] == [True] * len(new.layers)


def test_names_and_shapes_are_as_documented() -> None:
    image = keras.Input((8, 8, 16))
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="conv")(image)
    x = layers.Conv2D(16, 1, strides=2, name="point")(x)
    model = keras.Model(image, layers.Dense(16, name="dense")(layers.Flatten()(x)))

    new, _ = low_rank(randomised(model), rank={"type": "fixed", "rank": 4})

    def options(name: str, *keys: str) -> list[Any]:
        config = new.get_layer(name).get_config()
        return [config[key] for key in keys]

    what = ("filters", "kernel_size", "strides", "padding", "activation", "use_bias")
    assert options("conv_in", *what) == [4, (1, 1), (1, 1), "valid", "linear", False]
    assert options("conv_core", *what) == [4, (3, 3), (2, 2), "same", "linear", False]
    assert options("conv", *what) == [16, (1, 1), (1, 1), "valid", "relu", True]
    assert options("point_in", *what) == [4, (1, 1), (2, 2), "valid", "linear", False]
    assert options("point", *what) == [16, (1, 1), (1, 1), "valid", "linear", True]
    assert options("dense_in", "units", "use_bias") == [4, False]
    assert options("dense", "units", "use_bias") == [16, True]
    assert type(new) is type(model)


def test_axis_at_its_full_rank_has_no_layer_of_its_own() -> None:
    model = one_layer(layers.Conv2D(24, 3, name="conv", activation="relu"), (6, 6, 3))
    new, context = low_rank(model, rank={"type": "fixed", "rank": 6})
    assert [layer.name for layer in new.layers] == ["conv_core", "conv"]
    assert context.record.details["layers"]["conv"]["ranks"] == [3, 6]
    model = one_layer(layers.Conv2D(3, 3, name="conv", activation="relu"), (6, 6, 24))
    new, _ = low_rank(model, rank={"type": "fixed", "rank": 6})
    assert [layer.name for layer in new.layers] == ["conv_in", "conv"]
    assert new.get_layer("conv").get_config()["activation"] == "relu"


def test_name_that_is_taken_gets_a_number() -> None:
    vector = keras.Input((16,), name="dense_in")
    model = randomised(keras.Model(vector, layers.Dense(16, name="dense")(vector)))
    new, context = low_rank(model, rank=HALF)
    assert context.record.details["layers"]["dense"]["layers"] == ["dense_in_1", "dense"]
    again, context = low_rank(new, rank={"type": "fixed", "rank": 1})
    assert context.record.details["layers"]["dense"]["layers"] == ["dense_in_2", "dense"]
    x = sample(model)
    np.testing.assert_allclose(truncated(new, again, context.record.details)(x), again(x), atol=1e-4)


def test_shared_layer_stays_shared() -> None:
    vector = keras.Input((12,))
    dense = layers.Dense(12, activation="tanh", name="shared")
    model = randomised(keras.Model(vector, layers.Concatenate()([dense(vector), dense(dense(vector))])))
    new, context = low_rank(model, rank=HALF)
    x = sample(model)
    assert new.count_params() == context.record.details["parameters_after"] <= 0.5 * model.count_params()
    np.testing.assert_allclose(new(x), truncated(model, new, context.record.details)(x), atol=1e-5)


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("round_to", [1, 4])
def test_share_of_parameters_takes_the_largest_ranks_that_fit(keep: float, round_to: int) -> None:
    conv, dense = layers.Conv2D(20, 3, name="conv"), layers.Dense(30, name="dense")
    model = keras.Sequential([layers.InputLayer((4, 4, 16)), conv, layers.Flatten(), dense])
    randomised(model)

    _, context = low_rank(model, rank={"type": "parameters", "keep": keep}, round_to=round_to)

    found = context.record.details["layers"]
    for name in ("conv", "dense"):
        assert found[name]["parameters_after"] <= keep * found[name]["parameters_before"]
        assert all(rank % round_to == 0 for rank in found[name]["ranks"])
    (rank,) = found["dense"]["ranks"]
    more = (rank + round_to) * (80 + 30) + 30
    assert more > keep * found["dense"]["parameters_before"] or more >= found["dense"]["parameters_before"]
    inputs, outputs = found["conv"]["ranks"]
    size = Size(taps=9, inputs=16, outputs=20, bias=20, places_in=16, places_out=4)
    for wider in ((min(inputs + round_to, 16), outputs), (inputs, min(outputs + round_to, 20))):
        assert (
            wider == (inputs, outputs)
            or size.parameters_at(*wider) > keep * size.parameters
            or not size.shrinks(*wider)
        )


def test_ranks_rounded_up_keep_more_energy() -> None:
    model = one_layer(layers.Conv2D(40, 3, name="conv"), (6, 6, 40))
    found = [
        low_rank(model, rank={"type": "energy", "keep": 0.5}, round_to=size)[1].record.details["layers"]
        for size in (1, 8)
    ]
    plain, rounded = (one["conv"] for one in found)
    assert [-(-rank // 8) * 8 for rank in plain["ranks"]] == rounded["ranks"]
    assert rounded["energy_kept"] > plain["energy_kept"]


def test_energy_kept_is_that_of_the_stored_weights() -> None:
    layer = layers.Dense(20, name="dense")
    model = one_layer(layer, (30,))
    values = np.linalg.svd(layer.kernel.numpy().astype(np.float64), compute_uv=False) ** 2
    _, context = low_rank(model, rank={"type": "energy", "keep": 0.6})
    found = context.record.details["layers"]["dense"]
    (rank,) = found["ranks"]
    assert values[:rank].sum() >= 0.6 * values.sum() > values[: rank - 1].sum()
    assert found["energy_kept"] == pytest.approx(values[:rank].sum() / values.sum(), abs=1e-5)
    assert found["relative_error"] == pytest.approx((1 - found["energy_kept"]) ** 0.5, abs=1e-4)


def test_budget_is_met_by_the_layers_that_lose_least() -> None:
    """Of two layers of a size the one of nearly low rank gives."""
    easy, hard = layers.Dense(24, name="easy"), layers.Dense(24, name="hard")
    model = randomised(keras.Sequential([layers.InputLayer((24,)), easy, hard]))
    rng = np.random.default_rng(0)
    easy.kernel.assign(of_tucker_rank((24, 24), 3, 3) + 0.01 * rng.normal(size=(24, 24)))

    _, context = low_rank(model, rank={"type": "budget", "keep": 0.7})

    details = context.record.details
    assert details["parameters_after"] <= 0.7 * details["parameters_before"]
    assert set(details["layers"]) == {"easy"}
    assert details["left_alone"] == {"hard": "the budget is met without it"}
    assert codes(context) == []
    assert details["layers"]["easy"]["energy_kept"] > 0.99


def test_budget_comes_close_to_the_best_there_is() -> None:
    sides = [(12, 10), (8, 14), (16, 16)]
    model = keras.Sequential([layers.InputLayer((12,)), *(layers.Dense(t) for _, t in sides)])
    randomised(model)
    kernels = [layer.kernel.numpy() for layer in model.layers]
    choices = []
    for kernel in kernels:
        size = Size(1, *kernel.shape, bias=kernel.shape[1], places_in=1, places_out=1)
        found = options(size, spectra(kernel), 1)
        pairs = list(zip(found.parameters.tolist(), found.loss.tolist(), strict=True))
        choices.append([(size.parameters, 0.0), *pairs])
    total = sum(each[0][0] for each in choices)
    for keep in (0.4, 0.6, 0.8):
        _, context = low_rank(model, rank={"type": "budget", "keep": keep})
        details = context.record.details
        assert details["parameters_after"] <= keep * total
        lost = sum(1 - one["energy_kept"] for one in details["layers"].values())
        ways = [
            sum(loss for _, loss in way)
            for way in product(*choices)
            if sum(cost for cost, _ in way) <= keep * total
        ]
        assert min(ways) - 1e-5 <= lost <= min(ways) + 0.1


@pytest.mark.parametrize(
    ("rank", "layer"),
    [({"type": "parameters", "keep": 0.01}, "dense"), ({"type": "budget", "keep": 0.01}, None)],
)
def test_share_out_of_reach_is_carried_out_as_far_as_it_goes(rank: dict[str, Any], layer: str | None) -> None:
    model = one_layer(layers.Dense(20, name="dense"), (20,))
    _, context = low_rank(model, rank=rank)
    assert context.record.details["layers"]["dense"]["ranks"] == [1]
    assert codes(context) == [("rank_not_low_enough", layer)]


@pytest.mark.parametrize("kind", ["parameters", "budget", "energy"])
def test_layer_that_would_not_become_smaller_stays_and_is_named(kind: str) -> None:
    vector = keras.Input((16,))
    x = layers.Dense(16, name="wide")(vector)
    model = randomised(keras.Model(vector, layers.Dense(1, name="narrow")(x)))
    new, context = low_rank(model, rank={"type": kind, "keep": 0.4})
    assert ("not_decomposed", "narrow") in codes(context)
    assert set(context.record.details["left_alone"]) == {"narrow"}
    assert context.record.layers["narrow"].skipped
    assert [layer.name for layer in new.layers[1:]] == ["wide_in", "wide", "narrow"]


def test_layer_that_would_compute_more_stays() -> None:
    """Its input is four times as many places as its output."""
    model = one_layer(layers.Conv2D(64, 2, strides=2, name="conv"), (8, 8, 64))
    new, context = low_rank(model, rank={"type": "fixed", "rank": 40})
    assert new is model
    assert "multiply-accumulates" in context.record.details["left_alone"]["conv"]


def test_kernel_of_zeros_becomes_rank_one() -> None:
    model = one_layer(layers.Dense(8, name="dense"), (8,), np.zeros((8, 8)))
    new, context = low_rank(model)
    assert context.record.details["layers"]["dense"]["energy_kept"] == 1.0
    np.testing.assert_allclose(new(sample(model)), model(sample(model)), atol=1e-6)


def test_what_is_lost_with_a_kernel_is_said() -> None:
    layer = layers.Dense(16, name="dense", kernel_regularizer="l2", kernel_constraint="non_neg")
    model = one_layer(layer, (16,))
    layer.kernel.assign(layer.kernel.numpy() * (np.arange(16) % 2))
    new, context = low_rank(model, rank=HALF)
    assert codes(context) == [
        ("zeros_lost", "dense"),
        ("kernel_penalty_dropped", "dense"),
        ("kernel_penalty_dropped", "dense"),
    ]
    assert new.losses == []


def unsupported() -> Any:
    image = keras.Input((8, 8, 8))
    x = layers.Conv2D(8, 3, groups=2, name="grouped")(image)
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, name="depthwise")(x))
    x = layers.Conv2DTranspose(8, 3, name="transposed")(x)
    x = layers.LSTM(8, name="recurrent")(layers.Reshape((-1, 8))(x))
    return keras.Model(image, layers.Dense(8, name="dense")(x))


def test_kinds_without_a_decomposition_are_left_alone_or_refused_by_name() -> None:
    model = randomised(unsupported())
    new, context = low_rank(model, rank=HALF)
    assert set(context.record.details["layers"]) == {"dense"}
    named = {layer for code, layer in codes(context) if code == "not_decomposed"}
    assert named == {"grouped", "depthwise", "transposed", "recurrent"}
    step = Decompose(technique="decompose", on_unsupported="error")
    with pytest.raises(CompressionError, match="2 groups") as caught:
        check(Network(model), step, "/steps/0")
    assert (caught.value.code, caught.value.layer) == ("layer_not_supported", "grouped")
    assert caught.value.pointer == "/steps/0/layers"
    assert new.get_layer("grouped").groups == 2


def test_weights_that_are_not_finite_are_refused_by_name() -> None:
    model = one_layer(layers.Dense(8, name="dense"), (8,), np.full((8, 8), np.nan))
    with pytest.raises(CompressionError) as caught:
        low_rank(model)
    assert (caught.value.code, caught.value.layer) == ("bad_model", "dense")


def test_layers_of_a_nested_model_keep_their_paths(tmp_path: Path) -> None:
    inner = keras.Sequential([layers.InputLayer((16,)), layers.Dense(16, name="wide")], name="encoder")
    model = keras.Sequential([layers.InputLayer((16,)), inner, layers.Dense(3, name="head")])
    path = save_model(randomised(model), tmp_path / "nested.keras")
    spec = {"steps": [{"technique": "decompose", "rank": HALF, "layers": {"include": ["encoder/wide"]}}]}
    report = compress(path, spec, workdir=tmp_path / "work").report
    shown = {layer.name: layer for layer in report.layers}
    assert list(shown) == ["encoder/wide_in", "encoder/wide", "head"]
    assert [layer.made_from for layer in report.layers] == ["encoder/wide", "encoder/wide", None]
    assert [layer.parameters_before for layer in report.layers] == [None, 272, 51]


def test_layers_decomposed_twice_go_back_to_the_originals(tmp_path: Path) -> None:
    model = one_layer(layers.Dense(32, name="dense"), (32,))
    path = save_model(model, tmp_path / "dense.keras")
    steps = [
        {"technique": "decompose", "rank": {"type": "fixed", "rank": 12}},
        {"technique": "decompose", "rank": {"type": "fixed", "rank": 4}},
    ]
    report = compress(path, {"steps": steps}, workdir=tmp_path / "work").report
    made = {layer.name: layer.made_from for layer in report.layers}
    assert made == dict.fromkeys(("dense_in_in", "dense_in", "dense_in_1", "dense"), "dense")
