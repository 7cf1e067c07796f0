"""Which weights stay: masks from scores, of exactly as many weights as a sparsity leaves.

TensorFlow functions, for graphs as well as at once. Of equal scores the first stays, so that a mask never
holds more than was asked for, as a threshold would with weights that share values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.compression.backends.tensorflow._framework import tf

__all__ = ["block_mask", "global_masks", "keep_largest", "lamp_scores", "n_of_m_mask"]


def keep_largest(scores: Any, sparsity: Any, *, least: int = 1) -> Any:
    """True, in the shape of `scores`, for the largest of them that `sparsity` leaves: kept_weights() of
    them, and no fewer than `least`."""
    flat = tf.reshape(scores, [-1])
    left = tf.round(tf.cast(tf.size(flat), tf.float32) * (1.0 - tf.cast(sparsity, tf.float32)))
    count = tf.maximum(tf.cast(left, tf.int32), least)
    places = tf.math.top_k(flat, k=count, sorted=False).indices
    ones = tf.ones_like(places, tf.int32)
    return tf.reshape(tf.scatter_nd(places[:, None], ones, tf.shape(flat)) > 0, tf.shape(scores))


def lamp_scores(weight: Any) -> Any:
    """Layer-adaptive magnitudes (Lee et al. 2021, equation 4): a weight's square over the sum of the squares
    of all in its tensor that are no smaller. A tensor's largest weight scores 1."""
    squares = tf.square(tf.cast(tf.reshape(weight, [-1]), tf.float64))
    order = tf.math.top_k(squares, k=tf.size(squares)).indices
    falling = tf.gather(squares, order)
    scores = tf.math.divide_no_nan(falling, tf.cumsum(falling))
    return tf.reshape(tf.scatter_nd(order[:, None], scores, tf.shape(squares)), tf.shape(weight))


def global_masks(scores: Sequence[Any], sparsity: Any) -> list[Any]:
    """Masks that together leave `sparsity` of the weights of all tensors; each keeps its first best."""
    flat = tf.concat([_first_best_kept(tf.reshape(score, [-1])) for score in scores], axis=0)
    parts = tf.split(
        keep_largest(flat, sparsity, least=len(scores)), [int(np.prod(score.shape)) for score in scores]
    )
    return [tf.reshape(part, score.shape) for part, score in zip(parts, scores, strict=True)]


def block_mask(matrix: Any, sparsity: Any, block: tuple[int, int], pooling: str) -> Any:
    """A mask of whole blocks of a matrix of scores, whose sides the blocks divide."""
    rows, columns = (side // part for side, part in zip(matrix.shape, block, strict=True))
    blocks = tf.reshape(matrix, [rows, block[0], columns, block[1]])
    pool = tf.reduce_mean if pooling == "average" else tf.reduce_max
    kept = keep_largest(pool(blocks, axis=(1, 3)), sparsity)
    return tf.reshape(tf.broadcast_to(kept[:, None, :, None], blocks.shape), matrix.shape)


def n_of_m_mask(scores: Any, n: int, m: int) -> Any:
    """True for the `n` largest of every `m` neighbours along the last axis, which `m` divides."""
    groups = tf.reshape(scores, [-1, m])
    places = tf.math.top_k(groups, k=n).indices
    kept = tf.reduce_any(tf.one_hot(places, m, on_value=True, off_value=False), axis=1)
    return tf.reshape(kept, scores.shape)


def _first_best_kept(scores: Any) -> Any:
    best = tf.one_hot(tf.argmax(scores), tf.size(scores), on_value=True, off_value=False)
    return tf.where(best, tf.constant(np.inf, scores.dtype), scores)
