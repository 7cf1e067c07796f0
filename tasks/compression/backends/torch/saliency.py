"""Which weights stay: masks from scores, of exactly as many weights as a sparsity leaves.

Of equal scores the first stays, so that a mask never holds more than was asked for, as a threshold would with
weights that share values. Scores that are no numbers count as the largest: a training that has diverged is
not to look as if it had not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.compression.prunability import kept_weights

__all__ = [
    "Mask",
    "Scores",
    "block_mask",
    "global_masks",
    "keep_largest",
    "lamp_masks",
    "lamp_scores",
    "n_of_m_mask",
]

Scores = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]


def keep_largest(scores: Scores, sparsity: float, *, least: int = 1) -> Mask:
    """True, in the shape of `scores`, for the largest of them that `sparsity` leaves: kept_weights() of
    them, and no fewer than `least`."""
    return _first_largest(scores, max(least, kept_weights(scores.size, sparsity)))


def global_masks(scores: Sequence[Scores], sparsity: float) -> list[Mask]:
    """Masks that together leave `sparsity` of the weights of all tensors; each keeps its first best."""
    kept = keep_largest(
        np.concatenate([_first_best_kept(score) for score in scores]), sparsity, least=len(scores)
    )
    ends = np.cumsum([score.size for score in scores])[:-1]
    return [part.reshape(score.shape) for part, score in zip(np.split(kept, ends), scores, strict=True)]


def lamp_masks(magnitudes: Sequence[Scores], sparsity: float) -> list[Mask]:
    """Likewise by lamp_scores(). Within a tensor they fall with the magnitudes, so that how many stay says
    which. Weights that may not stay are below zero."""
    falling = [np.sort(values, axis=None)[::-1] for values in magnitudes]
    kept = global_masks([lamp_scores(values) for values in falling], sparsity)
    return [
        _first_largest(values, int(np.count_nonzero(mask)))
        for values, mask in zip(magnitudes, kept, strict=True)
    ]


def lamp_scores(falling: Scores) -> Scores:
    """Layer-adaptive magnitudes (Lee et al. 2021, equation 4): a weight's square over the sum of the squares
    of all in its tensor that are no smaller. A tensor's largest weight scores 1, one below zero -1. Of
    magnitudes from the largest to the smallest."""
    squares = np.square(np.maximum(falling, 0).astype(np.float64))
    sums = np.cumsum(squares)
    scores = np.divide(squares, sums, out=np.zeros_like(squares), where=sums != 0)
    return np.where(falling < 0, -1.0, scores)


def block_mask(matrix: Scores, sparsity: float, block: tuple[int, int], pooling: str) -> Mask:
    """A mask of whole blocks of a matrix of scores, whose sides the blocks divide."""
    height, width = block
    rows, columns = matrix.shape[0] // height, matrix.shape[1] // width
    blocks = matrix.reshape(rows, height, columns, width)
    pool = np.mean if pooling == "average" else np.max
    kept = keep_largest(pool(blocks, axis=(1, 3)), sparsity)
    return kept.repeat(height, axis=0).repeat(width, axis=1)


def n_of_m_mask(scores: Scores, n: int, m: int) -> Mask:
    """True for the `n` largest of every `m` neighbours along the last axis, which `m` divides."""
    groups = np.nan_to_num(scores.reshape(-1, m), nan=np.inf, posinf=np.inf, neginf=-np.inf)
    kept = np.zeros(groups.shape, np.bool_)
    np.put_along_axis(kept, np.argsort(-groups, axis=1, kind="stable")[:, :n], True, axis=1)
    return kept.reshape(scores.shape)


def _first_largest(scores: Scores, count: int) -> Mask:
    """True for so many of the largest."""
    flat = np.nan_to_num(scores.ravel(), nan=np.inf, posinf=np.inf, neginf=-np.inf)
    count = min(flat.size, count)
    smallest = np.partition(flat, flat.size - count)[flat.size - count]
    kept = flat > smallest
    missing = count - np.count_nonzero(kept)
    kept[np.flatnonzero(flat == smallest)[:missing]] = True
    mask: Mask = kept.reshape(scores.shape)
    return mask


def _first_best_kept(scores: Scores) -> Scores:
    flat = scores.flatten()
    flat[flat.argmax()] = np.inf
    return flat
