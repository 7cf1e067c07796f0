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

__all__ = ["Mask", "Scores", "block_mask", "global_masks", "keep_largest", "lamp_scores", "n_of_m_mask"]

Scores = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]


def keep_largest(scores: Scores, sparsity: float, *, least: int = 1) -> Mask:
    """True, in the shape of `scores`, for the largest of them that `sparsity` leaves: kept_weights() of
    them, and no fewer than `least`."""
    flat = np.nan_to_num(scores.ravel(), nan=np.inf, posinf=np.inf, neginf=-np.inf)
    count = min(flat.size, max(least, kept_weights(flat.size, sparsity)))
    smallest = np.partition(flat, flat.size - count)[flat.size - count]
    kept = flat > smallest
    missing = count - np.count_nonzero(kept)
    kept[np.flatnonzero(flat == smallest)[:missing]] = True
    mask: Mask = kept.reshape(scores.shape)
    return mask


def lamp_scores(weight: Scores) -> Scores:
    """Layer-adaptive magnitudes (Lee et al. 2021, equation 4): a weight's square over the sum of the squares
    of all in its tensor that are no smaller. A tensor's largest weight scores 1."""
    squares = np.square(weight.ravel().astype(np.float64))
    order = np.argsort(-squares, kind="stable")
    falling = squares[order]
    sums = np.cumsum(falling)
    scores = np.zeros_like(squares)
    scores[order] = np.divide(falling, sums, out=np.zeros_like(falling), where=sums != 0)
    return scores.reshape(weight.shape)


def global_masks(scores: Sequence[Scores], sparsity: float) -> list[Mask]:
    """Masks that together leave `sparsity` of the weights of all tensors; each keeps its first best."""
    kept = keep_largest(
        np.concatenate([_first_best_kept(score) for score in scores]), sparsity, least=len(scores)
    )
    ends = np.cumsum([score.size for score in scores])[:-1]
    return [part.reshape(score.shape) for part, score in zip(np.split(kept, ends), scores, strict=True)]


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


def _first_best_kept(scores: Scores) -> Scores:
    flat = scores.flatten()
    flat[flat.argmax()] = np.inf
    return flat
