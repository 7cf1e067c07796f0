"""95 % intervals of what was measured on a finite test split."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["bootstrap", "wilson"]

Z = 1.959963984540054  # the normal distribution's 97.5 % quantile
RESAMPLES = 1000


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
