"""Masks against plain NumPy, and the counts they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tasks.compression.backends.tensorflow.saliency import (
    block_mask,
    global_masks,
    keep_largest,
    lamp_scores,
    n_of_m_mask,
)
from tasks.compression.prunability import kept_weights

Array = npt.NDArray[Any]


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.987, 0.9999])
def test_the_largest_stay_and_no_more_than_asked_for(sparsity: float) -> None:
    scores = abs(drawn(7, 31))
    mask = keep_largest(scores, sparsity).numpy()
    assert np.count_nonzero(mask) == kept_weights(scores.size, sparsity)
    if not mask.all():
        assert scores[mask].min() > scores[~mask].max()


def test_of_equal_scores_the_first_stay() -> None:
    mask = keep_largest(np.ones((4, 5), np.float32), 0.7).numpy()
    assert mask.reshape(-1).tolist() == [True] * 6 + [False] * 14


def test_lamp_is_the_papers_quotient() -> None:
    weight = drawn(6, 9)
    squares = np.square(weight.astype(np.float64))
    expected = [[value / squares[squares >= value].sum() for value in row] for row in squares]
    assert lamp_scores(weight).numpy() == pytest.approx(np.array(expected))
    assert lamp_scores(weight).numpy().max() == 1.0


def test_lamp_of_zeros_is_zero() -> None:
    assert not lamp_scores(np.zeros((3, 3), np.float32)).numpy().any()


@pytest.mark.parametrize("sparsity", [0.5, 0.98, 0.999])
def test_global_masks_leave_every_tensor_something(sparsity: float) -> None:
    # The second tensor's weights are all smaller than any of the first's, the third's are all zero.
    tensors = [1 + abs(drawn(40, 20)), abs(drawn(10, 10)) / 100, np.zeros((5, 4), np.float32)]
    masks = [mask.numpy() for mask in global_masks(tensors, sparsity)]
    assert [mask.shape for mask in masks] == [tensor.shape for tensor in tensors]
    assert all(mask.any() for mask in masks)
    assert sum(map(np.count_nonzero, masks)) == max(3, kept_weights(920, sparsity))
    assert tensors[1][masks[1]].min() >= tensors[1].max() or sparsity < 0.9


@pytest.mark.parametrize(("pooling", "pool"), [("average", np.mean), ("max", np.max)])
def test_blocks_stay_or_go_as_a_whole(pooling: str, pool: Any) -> None:
    scores = abs(drawn(6, 8))
    mask = block_mask(scores, 0.75, (3, 2), pooling).numpy()
    blocks = pool(scores.reshape(2, 3, 4, 2), axis=(1, 3))
    kept = np.sort(blocks.reshape(-1))[-2]
    assert np.array_equal(mask, np.repeat(np.repeat(blocks >= kept, 3, axis=0), 2, axis=1))


def test_n_of_m_keeps_the_largest_of_each_group() -> None:
    scores = abs(drawn(3, 8))
    mask = n_of_m_mask(scores, 1, 4).numpy()
    groups = scores.reshape(-1, 4)
    assert np.array_equal(mask.reshape(-1, 4).argmax(1), groups.argmax(1))
    assert np.count_nonzero(mask) == 6
