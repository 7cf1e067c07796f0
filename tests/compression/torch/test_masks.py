"""Masks: those of torch.nn.utils.prune, and of TensorFlow's rules for the same weights transposed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune as reference

from featherweight.spec import Prune
from tasks.compression.backends.tensorflow import rules as tensorflow_rules
from tasks.compression.backends.tensorflow.layers import Placed as KerasPlaced
from tasks.compression.backends.torch.layers import Placed, kernels, kind_of
from tasks.compression.backends.torch.prunability import DEPTHWISE, KERNELS, TRANSPOSED_KINDS
from tasks.compression.backends.torch.rules import global_rule, layer_rule
from tasks.compression.backends.torch.saliency import global_masks, keep_largest, lamp_scores
from tasks.compression.prunability import kept_weights, zero_share_of, zero_share_together
from tests.compression.networks import keras
from tests.compression.torch.prunable_networks import Array, Everything, SmallCnn

LAYERS = {
    "conv": (lambda: nn.Conv2d(8, 12, 3), lambda: keras().layers.Conv2D(12, 3), (None, 9, 9, 8)),
    "conv1d": (lambda: nn.Conv1d(4, 8, 5), lambda: keras().layers.Conv1D(8, 5), (None, 9, 4)),
    "transposed": (
        lambda: nn.ConvTranspose2d(8, 12, 3),
        lambda: keras().layers.Conv2DTranspose(12, 3),
        (None, 9, 9, 8),
    ),
    "dense": (lambda: nn.Linear(24, 8), lambda: keras().layers.Dense(8), (None, 24)),
    "table": (lambda: nn.Embedding(16, 8), lambda: keras().layers.Embedding(16, 8), (None, 3)),
}
TO_KERAS = {
    "conv": (2, 3, 1, 0),
    "conv1d": (2, 1, 0),
    "transposed": (2, 3, 1, 0),
    "dense": (1, 0),
    "table": (0, 1),
}


def both(kind: str, *, rounded: bool = False, zeros: bool = False) -> tuple[Placed, KerasPlaced]:
    """A layer of either framework with the same kernel, transposed; `rounded` to few values, so that many
    tie."""
    ours, theirs, shape = LAYERS[kind]
    layer, built = ours(), theirs()
    built.build(shape)
    values = np.random.default_rng(3).normal(size=tuple(layer.weight.shape)).astype(np.float32)
    if rounded:
        values = np.round(values * 2) / 2
    elif zeros:
        values[np.random.default_rng(4).random(values.shape) < 0.3] = 0
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(values))
    built.weights[0].assign(values.transpose(TO_KERAS[kind]))
    return Placed(kind, layer), KerasPlaced(kind, built)


def keras_masks(masks: list[Any], *kinds: str) -> list[Array]:
    """As PyTorch's kernels lie."""
    return [
        mask.numpy().transpose(np.argsort(TO_KERAS[kind])) for mask, kind in zip(masks, kinds, strict=True)
    ]


STEPS: dict[str, dict[str, Any]] = {
    "magnitude": {},
    "random": {"method": "random"},
    "average_blocks": {"pattern": {"type": "block", "block_size": (2, 4)}},
    "largest_blocks": {"pattern": {"type": "block", "block_size": (4, 2), "pooling": "max"}},
    "groups": {"pattern": {"type": "n_of_m", "n": 1, "m": 4}},
}
# Patterns are for matrices that inputs are multiplied by, which tables of embeddings are not.
PAIRS = [(kind, step) for kind in sorted(LAYERS) for step in STEPS if kind != "table" or "_" not in step]
PAIRS.remove(("table", "groups"))


@pytest.mark.parametrize("case", ["plain", "ties", "zeros"])
@pytest.mark.parametrize(("kind", "step"), PAIRS)
def test_kernel_and_its_transposition_get_the_same_zeros(kind: str, step: str, case: str) -> None:
    asked = Prune.model_validate({"technique": "prune", **STEPS[step]})
    ours, theirs = both(kind, rounded=case == "ties", zeros=case == "zeros")
    options = {"keep_zeros": case == "zeros", "seed": 5}
    rule, other = layer_rule(ours, asked, **options), tensorflow_rules.layer_rule(theirs, asked, **options)
    for sparsity in (0.0, 0.35, 0.5, 0.97):
        (mask,) = rule.masks(sparsity)
        (expected,) = keras_masks(other.masks(sparsity), kind)
        assert mask.numpy().tolist() == expected.tolist()
        assert 1.0 - expected.mean() >= zero_share_of([expected.size], asked, sparsity) - 1e-9


@pytest.mark.parametrize("case", ["plain", "ties", "zeros"])
@pytest.mark.parametrize("method", ["global_magnitude", "lamp"])
def test_layers_together_get_the_same_zeros(method: str, case: str) -> None:
    kinds = sorted(LAYERS)
    pairs = [both(kind, rounded=case == "ties", zeros=case == "zeros") for kind in kinds]
    asked = Prune(technique="prune", method=method)
    keep = [case == "zeros"] * len(kinds)
    rule = global_rule([ours for ours, _ in pairs], asked, keep_zeros=keep)
    other = tensorflow_rules.global_rule([theirs for _, theirs in pairs], asked, keep_zeros=keep)
    for sparsity in (0.2, 0.8, 0.995):
        expected = keras_masks(other.masks(sparsity), *kinds)
        assert [mask.numpy().tolist() for mask in rule.masks(sparsity)] == [
            mask.tolist() for mask in expected
        ]
        left, sizes = sum(mask.sum() for mask in expected), [mask.size for mask in expected]
        assert 1.0 - left / sum(sizes) >= zero_share_together(sizes, sparsity) - 1e-9


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.8])
def test_magnitude_of_a_layer_is_l1_unstructured(sparsity: float) -> None:
    layer = nn.Conv2d(5, 16, 3)
    rule = layer_rule(Placed("conv", layer), Prune(technique="prune"), keep_zeros=False, seed=0)
    (mask,) = rule.masks(sparsity)
    reference.l1_unstructured(layer, "weight", amount=sparsity)
    assert torch.equal(mask, layer.weight_mask.bool())


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.8])
def test_magnitude_of_all_layers_is_global_unstructured(sparsity: float) -> None:
    model = SmallCnn()
    layers = [model.conv, model.mixed, model.logits]
    places = [Placed(str(index), layer) for index, layer in enumerate(layers)]
    asked = Prune(technique="prune", method="global_magnitude")
    masks = global_rule(places, asked, keep_zeros=[False] * 3).masks(sparsity)
    reference.global_unstructured(
        [(layer, "weight") for layer in layers], pruning_method=reference.L1Unstructured, amount=sparsity
    )
    for layer, mask in zip(layers, masks, strict=True):
        assert torch.equal(mask, layer.weight_mask.bool())


def test_weight_of_two_layers_is_ranked_once() -> None:
    table, last = nn.Embedding(10, 6), nn.Linear(6, 10, bias=False)
    last.weight = table.weight
    asked = Prune(technique="prune", method="global_magnitude")
    rule = global_rule([Placed("table", table), Placed("last", last)], asked, keep_zeros=[False, False])
    (mask,) = rule.masks(0.5)
    assert int(mask.sum()) == 30


def test_of_equal_scores_the_first_stay() -> None:
    mask = keep_largest(np.ones((4, 5), np.float32), 0.7)
    assert mask.reshape(-1).tolist() == [True] * 6 + [False] * 14


def test_scores_that_are_no_numbers_count_as_the_largest() -> None:
    scores = np.array([1, np.nan, 3, np.inf, 2, 0.5], np.float32)
    assert keep_largest(scores, 0.5).tolist() == [False, True, True, True, False, False]
    assert keep_largest(np.full(6, np.nan, np.float32), 0.5).sum() == 3


def test_lamp_is_the_papers_quotient() -> None:
    falling = np.sort(np.random.default_rng(0).random(54).astype(np.float32))[::-1]
    squares = np.square(falling.astype(np.float64))
    expected = [value / squares[squares >= value].sum() for value in squares]
    assert lamp_scores(falling) == pytest.approx(np.array(expected))
    assert not lamp_scores(np.zeros(5, np.float32)).any()
    assert lamp_scores(np.array([2, 0, -1], np.float32)).tolist() == [1, 0, -1]


@pytest.mark.parametrize("sparsity", [0.5, 0.98, 0.999])
def test_global_masks_leave_every_tensor_something(sparsity: float) -> None:
    chance = np.random.default_rng(0)
    tensors = [1 + chance.random((40, 20)), chance.random((10, 10)) / 100, np.zeros((5, 4))]
    masks = global_masks(tensors, sparsity)
    assert all(mask.any() for mask in masks)
    assert sum(map(np.count_nonzero, masks)) == max(3, kept_weights(920, sparsity))


def test_kernels_are_those_of_the_table() -> None:
    for name, layer in Everything().named_children():
        kind = kind_of(layer)
        starts = KERNELS.get(kind, ())
        named = dict(layer.named_parameters())
        told = [key for key in named if key in starts or key.startswith(("weight_ih_l", "weight_hh_l"))]
        assert [id(weight) for weight in kernels(layer)] == [id(named[key]) for key in told], name
        assert bool(told) == (kind in KERNELS)
    assert kind_of(Everything().depthwise) == f"{DEPTHWISE}Conv1d"
    assert set(KERNELS) >= TRANSPOSED_KINDS
    assert all(hasattr(nn, kind) for kind in KERNELS)
