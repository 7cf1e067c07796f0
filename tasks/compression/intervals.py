"""95 % intervals of what was measured on a finite test split, and of how it changed."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["bootstrap", "paired", "wilson"]

Z = 1.959963984540054  # the normal distribution's 97.5 % quantile
RESAMPLES = 1000
_FEW_VALUES = 32


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The score interval of a share of `hits` in `n` trials (Wilson 1927), without continuity correction.

    Unlike the normal approximation it stays within 0 and 1 and keeps its width at shares of 0 and 1.
    ValueError for n < 1 or hits outside 0..n.
    """
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"{hits} hits in {n} trials")
    share = hits / n
    scale = 1 + Z * Z / n
    centre = (share + Z * Z / (2 * n)) / scale
    half = Z / scale * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    # At the ends the exact value is 0 or 1; rounding must not put the estimate outside its interval.
    return min(max(0.0, centre - half), share), max(min(1.0, centre + half), share)


def bootstrap(values: npt.NDArray[np.float64], seed: int) -> tuple[float, float]:
    """The percentile interval of the mean of `values`, from 1,000 seeded resamples (Efron 1979)."""
    if values.size < 1:
        raise ValueError("no values")
    generator = np.random.default_rng(seed)
    # One resample at a time: a matrix of all of them would be gigabytes for a large test split.
    means = [values[generator.integers(0, values.size, values.size)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def paired(
    before: npt.NDArray[np.float64], after: npt.NDArray[np.float64], seed: int
) -> tuple[float, float, float]:
    """The mean of ``after - before`` over the same samples and its percentile interval, from 1,000 seeded
    resamples of the pairs (Efron 1979). ValueError for other shapes than two vectors of one length."""
    if before.shape != after.shape or before.ndim != 1 or before.size < 1:
        raise ValueError(f"{before.shape} and {after.shape} are no pairs")
    change = after - before
    values, counts = np.unique(change, return_counts=True)
    if len(values) > _FEW_VALUES:
        return (float(change.mean()), *bootstrap(change, seed))
    # Of hits the changes are -1, 0 and 1: drawing samples with replacement is drawing how many of each.
    drawn = np.random.default_rng(seed).multinomial(change.size, counts / change.size, size=RESAMPLES)
    low, high = np.quantile(drawn @ values / change.size, [0.025, 0.975])
    return float(change.mean()), float(low), float(high)
