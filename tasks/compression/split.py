"""Divides samples between training, validation, calibration and test: seeded, and class by class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["draw", "stratified"]

Indices = npt.NDArray[np.int64]


def stratified(
    indices: Indices, labels: npt.NDArray[Any] | None, share: float, seed: int
) -> tuple[Indices, Indices]:
    """Divide `indices` into (kept, held out) with ``round(n * share)`` held out.

    `labels` are class numbers by sample (indexed by `indices`), and every class is divided alike, to
    within one sample (largest remainders); None divides at random. Both parts come back sorted.
    """
    count = round(len(indices) * share)
    generator = np.random.default_rng(seed)
    order = generator.permutation(indices)
    held = order[:count] if labels is None else _per_class(order, labels[order], count)
    kept = np.setdiff1d(indices, held, assume_unique=True)
    return np.sort(kept), np.sort(held)


def draw(indices: Indices, count: int, seed: int) -> Indices:
    """`count` of `indices` at random without repetition, all of them when there are not so many; sorted."""
    generator = np.random.default_rng(seed)
    return np.sort(generator.permutation(indices)[:count])


def _per_class(order: Indices, classes: npt.NDArray[Any], count: int) -> Indices:
    names, sizes = np.unique(classes, return_counts=True)
    if not len(names):
        return order
    quotas = _quotas(sizes, count)
    return np.concatenate([order[classes == name][:quota] for name, quota in zip(names, quotas, strict=True)])


def _quotas(sizes: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """`count` seats by largest remainder; ties go to the first class."""
    exact = sizes * (count / sizes.sum())
    quotas: npt.NDArray[np.int64] = np.floor(exact).astype(np.int64)
    missing = count - int(quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[:missing]] += 1
    return quotas
