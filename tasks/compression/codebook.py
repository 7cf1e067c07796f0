"""The few values that weights are to share: one-dimensional k-means (Lloyd 1982; Han, Mao & Dally 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Initialization", "codebook", "codebooks", "distinct", "nearest"]

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
_Array64 = npt.NDArray[np.float64]
Initialization = Literal["linear", "kmeans_plus_plus", "density"]

MAX_ROUNDS = 100


def codebook(values: Array, clusters: int, initialization: Initialization, seed: Sequence[int]) -> Array:
    """`clusters` values in rising order for finite `values` of any shape to share, the means of k-means.

    Values that take no more than `clusters` distinct ones are their own codebook. What is left of it then
    repeats the largest. ValueError for no values at all.
    """
    if not values.size:
        raise ValueError("there are no values to share")
    different, counts = np.unique(values.astype(np.float64), return_counts=True)
    if len(different) <= clusters:
        centres = different
    else:
        centres = _refined(different, counts, _start(different, counts, clusters, initialization, seed))
    return np.pad(centres, (0, clusters - len(centres)), mode="edge").astype(np.float32)


def codebooks(
    matrix: Array, alive: Mask, clusters: int, initialization: Initialization, seed: Sequence[int]
) -> Array:
    """The codebooks [rows, clusters] of the rows of a matrix, for values that are `alive` and finite; zeros
    for a row without any."""
    books = np.zeros((len(matrix), clusters), np.float32)
    for index, (row, chosen) in enumerate(zip(matrix, alive & np.isfinite(matrix), strict=True)):
        if chosen.any():
            books[index] = codebook(row[chosen], clusters, initialization, [*seed, index])
    return books


def distinct(matrix: Array, alive: Mask) -> int:
    """The most distinct values alive in any row of a matrix."""
    return max(len(np.unique(row[chosen])) for row, chosen in zip(matrix, alive, strict=True))


def nearest(values: Array, centres: Array) -> Array:
    """The value of `centres` (rising) nearest to each of `values`."""
    return centres[np.searchsorted((centres[1:] + centres[:-1]) / 2, values)]


def _start(
    different: _Array64,
    counts: npt.NDArray[np.int64],
    clusters: int,
    initialization: Initialization,
    seed: Sequence[int],
) -> _Array64:
    if initialization == "linear":
        return np.linspace(different[0], different[-1], clusters)
    if initialization == "density":
        below = (np.cumsum(counts) - counts / 2) / counts.sum()
        return np.interp((np.arange(clusters) + 0.5) / clusters, below, different)
    return _plus_plus(different, counts, clusters, np.random.default_rng(seed))


def _plus_plus(
    different: _Array64, counts: npt.NDArray[np.int64], clusters: int, chance: np.random.Generator
) -> _Array64:
    """Each centre drawn with a probability in proportion to the squared distance from those before it
    (Arthur & Vassilvitskii 2007, section 2.2)."""
    chosen = [chance.choice(different, p=counts / counts.sum())]
    distances = np.square(different - chosen[0])
    while len(chosen) < clusters:
        odds = np.cumsum(distances * counts)
        place = np.searchsorted(odds, chance.uniform(0, odds[-1]), side="right")
        chosen.append(different[min(place, len(different) - 1)])
        distances = np.minimum(distances, np.square(different - chosen[-1]))
    return np.sort(np.array(chosen))


def _refined(different: _Array64, counts: npt.NDArray[np.int64], centres: _Array64) -> _Array64:
    """Lloyd's rounds until none changes a centre. Clusters of sorted values are intervals, and their means
    differences of running sums. A centre nearest to no value stays where it is."""
    mass = np.concatenate([[0], np.cumsum(counts)])
    moment = np.concatenate([[0.0], np.cumsum(different * counts)])
    for _ in range(MAX_ROUNDS):
        inner = np.searchsorted(different, (centres[1:] + centres[:-1]) / 2)
        edges = np.concatenate([[0], inner, [len(different)]])
        held = np.diff(mass[edges])
        moved = np.where(held > 0, np.diff(moment[edges]) / np.maximum(held, 1), centres)
        if np.array_equal(moved, centres):
            break
        centres = np.sort(moved)
    return centres
