"""Clustering at once and while a training runs, with pruning and after it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from featherweight.spec import Cluster
from tasks.compression import CompressionError
from tasks.compression.backends.tensorflow import rows as tensorflow_rows
from tasks.compression.backends.torch.cluster import check
from tasks.compression.backends.torch.layouts import from_rows, layout_of, rows
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.projection import Projection
from tasks.compression.backends.torch.shared_kernel import SharedKernel
from tasks.compression.pending import Sharing
from tasks.compression.sharing_plan import Terms
from tests.compression.networks import keras
from tests.compression.torch.prunable_networks import (
    Array,
    Everything,
    SmallCnn,
    codes,
    constant,
    context,
    done,
    kernel,
    network,
    share,
    trained,
)

PATHS = ("conv", "mixed", "logits")
PRUNE = {"technique": "prune", "schedule": {**constant(0.6), "begin_step": 0, "end_step": 30, "frequency": 1}}


def step(**options: Any) -> dict[str, Any]:
    return {"technique": "cluster", "clusters": 5, **options}


def cnn() -> Network:
    return network(SmallCnn(), 1, 12, 12)


def values(weights: Array) -> int:
    """Distinct ones beside zero."""
    return len(np.unique(weights[weights != 0]))


def run(given: Network, steps: int, *asked: dict[str, Any]) -> tuple[Network, Any]:
    """The network after a training that carries the steps out."""
    given, _ = done(given, *asked, trains=True)
    around = context()
    return trained(given, Projection(given, steps, around), steps, around), around


@pytest.mark.parametrize("initialization", ["linear", "density", "kmeans_plus_plus"])
def test_values_at_once_are_the_means_of_their_weights(initialization: str) -> None:
    before = {path: kernel(cnn(), path) for path in PATHS}
    after, around = done(cnn(), step(initialization=initialization))
    for path, was in before.items():
        weights = kernel(after, path)
        assert 2 <= len(np.unique(weights)) <= 5
        for value in np.unique(weights):
            assert was[weights == value].mean() == pytest.approx(value, abs=1e-5)
    assert around.record.details == {
        "clusters": 5,
        "initialization": initialization,
        "per_channel": False,
        "begin": None,
        "layers": dict.fromkeys(PATHS, 5),
    }
    assert after.shared == dict.fromkeys(PATHS, Sharing(5, per_channel=False))


@pytest.mark.parametrize("carried_out", ["at_once", "training"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["per_tensor", "per_channel"])
def test_every_kernel_of_every_kind_shares(per_channel: bool, carried_out: str) -> None:
    given = network(Everything(), 5)
    asked = [{**PRUNE, "layers": {"include": ["recurrent", "up"]}}, step(clusters=3, per_channel=per_channel)]
    if carried_out == "at_once":
        after, around = done(given, *asked)
    else:
        given, around = done(given, *asked, trains=True)
        part = Projection(given, 30, around)
        part.begin(given.model)
        for number in range(1, 31):
            part.before_step(number)
            with torch.no_grad():
                for weight in given.model.parameters():
                    weight.add_(0.01 * torch.randn(weight.shape))
            part.after_step(number)
        after = part.outcome(part_less(given, part), 30, around)
    for path, count in {"words": 1, "attention": 2, "recurrent": 8, "along": 1, "up": 1, "last": 1}.items():
        for index in range(count):
            weights = kernel(after, path, index)
            pruned = path in ("recurrent", "up")
            if pruned:
                assert share(weights) == pytest.approx(0.6, abs=0.01)
            channels = (
                np.moveaxis(weights, 1 if path in ("words", "up") else 0, 0) if per_channel else [weights]
            )
            assert max(values(channel) if pruned else len(np.unique(channel)) for channel in channels) <= 3
            assert not per_channel or len(np.unique(weights)) > 4
    skipped = {warning.layer for warning in around.record.warnings if warning.code == "layer_not_shared"}
    assert skipped == {"depthwise", "norm"}


def part_less(given: Network, part: Projection) -> Network:
    part.unwrap(given.model)
    return given


@pytest.mark.parametrize("kind", ["conv", "transposed", "dense"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_rows_are_those_of_the_transposed_kernel(kind: str, per_channel: bool) -> None:
    layers = keras().layers
    ours, theirs = {
        "conv": (nn.Conv2d(3, 5, 2), layers.Conv2D(5, 2)),
        "transposed": (nn.ConvTranspose2d(3, 5, 2), layers.Conv2DTranspose(5, 2)),
        "dense": (nn.Linear(3, 5), layers.Dense(5)),
    }[kind]
    theirs.build((None, 4, 4, 3) if kind != "dense" else (None, 3))
    weight, sharing = ours.weight.detach(), Sharing(2, per_channel)
    axes = (2, 3, 1, 0) if kind != "dense" else (1, 0)
    theirs.kernel.assign(weight.numpy().transpose(axes))
    layout = layout_of(ours, weight)
    matrix = rows(weight, layout, sharing)
    expected = tensorflow_rows.rows(theirs.kernel, theirs, sharing).numpy()
    assert np.sort(matrix.numpy(), axis=1).tolist() == np.sort(expected, axis=1).tolist()
    assert torch.equal(from_rows(matrix, weight, layout, sharing), weight)


def test_zeros_of_pruning_stay_and_are_not_counted() -> None:
    for after in (done(cnn(), PRUNE, step(clusters=3))[0], run(cnn(), 30, PRUNE, step(clusters=3))[0]):
        for path in PATHS:
            weights = kernel(after, path)
            assert np.count_nonzero(weights) == round(weights.size * 0.4)
            assert 2 <= values(weights) <= 3


def test_pruning_goes_on_while_weights_are_shared() -> None:
    points = [{"step": 3, "sparsity": 0.3}, {"step": 27, "sparsity": 0.8}]
    schedule = {"type": "custom", "points": points, "frequency": 2}
    prune = {"technique": "prune", "method": "lamp", "schedule": schedule}
    given, _ = done(cnn(), prune, step(clusters=6, begin=0.4), trains=True)
    around = context()
    part = Projection(given, 30, around)
    assert part.settled == 27
    counts: dict[int, tuple[float, int]] = {}

    def look(number: int) -> None:
        counts[number] = (part.sparsity() or 0.0, values(kernel(given, "logits")))

    after = {number: (lambda number=number: look(number)) for number in (5, 11, 12, 20, 30)}
    final = trained(given, part, 30, around, after=after)
    assert counts[5][0] == pytest.approx(0.3 + 0.5 * 3 / 24, abs=0.01)
    assert counts[11][1] > 100
    assert counts[12][1] <= 6
    assert counts[20][0] == pytest.approx(0.3 + 0.5 * 17 / 24, abs=0.02)
    kernels = [kernel(final, path) for path in PATHS]
    size = sum(item.size for item in kernels)
    assert sum(map(np.count_nonzero, kernels)) == pytest.approx(0.2 * size, abs=1)
    assert all(2 <= values(item) <= 6 for item in kernels)
    for path, item in zip(PATHS, kernels, strict=True):
        assert around.record.layers[path].target_sparsity == pytest.approx(share(item))
    assert codes(around) == []


@pytest.mark.parametrize("later", ["training", "pruning"])
def test_later_steps_keep_zeros_and_shared_values(later: str) -> None:
    first, _ = run(cnn(), 30, {**PRUNE, "layers": {"include": ["mixed"]}}, step())
    before = {path: kernel(first, path) for path in PATHS}
    asked = [] if later == "training" else [PRUNE]
    after, _ = run(first, 30, *asked)
    for path, was in before.items():
        weights = kernel(after, path)
        assert (weights != was).any()
        if later == "pruning" or path == "mixed":
            assert share(weights) == pytest.approx(0.6, abs=0.01)
        assert values(weights) <= values(was)
    assert not kernel(after, "mixed")[before["mixed"] == 0].any()


def test_overrides_and_exclusions_hold_for_their_layers_alone() -> None:
    asked = step(
        clusters=16,
        layers={"include": ["*"], "exclude": ["conv"]},
        overrides=[
            {"layers": {"include": ["log*"]}, "clusters": 3},
            {"layers": {"include": ["logits", "conv"]}, "clusters": 5},
        ],
    )
    after, around = done(cnn(), asked)
    assert [len(np.unique(kernel(after, path))) for path in PATHS] == [72, 16, 3]
    assert around.record.details["layers"] == {"mixed": 16, "logits": 3}
    assert codes(around) == ["override_unused"]


@pytest.mark.parametrize("carried_out", ["at_once", "training"])
def test_clusters_above_the_weights_of_a_layer_are_said(carried_out: str) -> None:
    asked = step(clusters=200)
    _, around = done(cnn(), asked) if carried_out == "at_once" else run(cnn(), 4, asked)
    (said,) = around.record.warnings
    assert (said.code, said.layer) == ("nothing_shared", "conv")
    assert "72 different weights" in said.message


def test_layer_that_cannot_share_is_refused_by_name() -> None:
    asked = Cluster.model_validate(step(on_unsupported="error"))
    with pytest.raises(CompressionError) as caught:
        check(network(Everything(), 5), asked, "/steps/0")
    error = caught.value
    assert (error.code, error.layer, error.pointer) == ("layer_not_supported", "depthwise", "/steps/0/layers")


def test_update_of_the_optimiser_goes_to_the_latent_weights() -> None:
    layer = nn.Linear(40, 50)
    before = layer.weight.detach().clone()
    terms = Terms(Sharing(4, per_channel=False), "density", 0, [0])
    shared = SharedKernel("w", layer.weight, layout_of(layer, layer.weight), masked=True, terms=terms)
    stays = torch.rand(before.shape) < 0.5
    shared.hide(stays)
    assert shared.codebook is not None
    shared.codebook.start()
    shared.show(shared=True)
    shown = layer.weight.detach().clone()
    assert len(torch.unique(shown)) == 5
    assert torch.equal(shown != 0, stays)
    layer.weight.data += 0.25
    shared.absorb()
    assert torch.allclose(shared.latent, before + 0.25 * stays, atol=1e-6)
    for _ in range(50):
        shared.codebook.move()
    shared.show(shared=True)
    moved = layer.weight.detach()
    for value in torch.unique(moved[stays]):
        assert float(shared.latent[moved == value].mean()) == pytest.approx(float(value), abs=1e-4)


@pytest.mark.parametrize("per_channel", [False, True])
def test_large_kernel_shows_the_nearest_values_within_half_a_cell(per_channel: bool) -> None:
    layer = nn.Linear(600, 40)
    before = layer.weight.detach().clone()
    terms = Terms(Sharing(4, per_channel), "density", 0, [0])
    shared = SharedKernel("w", layer.weight, layout_of(layer, layer.weight), masked=False, terms=terms)
    assert shared.codebook is not None
    shared.codebook.start()
    shared.show(shared=True)
    values = shared.codebook.values.expand(40, 4)
    distances = abs(before[:, :, None] - values[:, None])
    cells = 64 * 4 if per_channel else 4096
    cell = (values[:, -1:] - values[:, :1]) / (cells - 1)
    shown = abs(before - layer.weight.detach())
    assert (shown <= distances.amin(2) + cell + 1e-6).all()
    assert (shown > distances.amin(2) + 1e-6).float().mean() < 0.02
    assert (layer.weight.detach()[:, :, None] == values[:, None]).any(2).all()


def test_codebook_of_no_width_at_all_is_a_codebook() -> None:
    layer = nn.Linear(600, 40)
    terms = Terms(Sharing(4, per_channel=False), "density", 0, [0])
    nn.init.constant_(layer.weight, 0.3)
    shared = SharedKernel("w", layer.weight, layout_of(layer, layer.weight), masked=False, terms=terms)
    assert shared.codebook is not None
    shared.codebook.start()
    layer.weight.data += torch.randn(40, 600)
    shared.absorb()
    shared.show(shared=True)
    assert torch.unique(layer.weight).tolist() == [pytest.approx(0.3)]


def test_weights_that_are_no_numbers_do_not_hide_behind_a_codebook() -> None:
    layer = nn.Linear(6, 4)
    terms = Terms(Sharing(3, per_channel=False), "linear", 0, [0])
    shared = SharedKernel("w", layer.weight, layout_of(layer, layer.weight), masked=False, terms=terms)
    assert shared.codebook is not None
    shared.codebook.start()
    shared.show(shared=True)
    assert len(torch.unique(layer.weight)) == 3
    layer.weight.data.fill_(float("nan"))
    shared.absorb()
    shared.show(shared=True)
    assert torch.isnan(layer.weight).all()


def test_training_goes_on_from_what_was_kept() -> None:
    asked = [PRUNE, step(per_channel=True)]
    whole, _ = done(cnn(), *asked, trains=True)
    part = Projection(whole, 40, context())
    kept: dict[str, Any] = {}
    trained(
        whole,
        part,
        35,
        context(),
        after={30: lambda: kept.update({key: value.clone() for key, value in part.state_dict().items()})},
    )
    again, _ = done(cnn(), *asked, trains=True)
    other = Projection(again, 40, context())
    other.begin(again.model)
    other.load_state_dict(kept)
    state = other.state_dict()
    assert set(state) == set(kept)
    assert all(torch.equal(state[key], value) for key, value in kept.items())
    for path in PATHS:
        weights = kernel(again, path)
        assert np.count_nonzero(weights) == round(weights.size * 0.4)
        assert torch.equal(torch.from_numpy(weights), kept[f"{path}.weight/shown"])
