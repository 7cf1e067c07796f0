"""Channel labels: which channels of a network can only be removed together.

Every tensor's last axis carries an array of labels, one for each channel. A layer that makes new
channels gives them fresh labels, one that joins tensors ties their labels, one that concatenates
concatenates the arrays, one that flattens tiles them. Labels that ended up tied are one *unit*: the
smallest thing that can be removed (the index-level dependency group of Fang et al., DepGraph, CVPR 2023).
No rule has to know offsets or strides: an axis of a weight is cut by looking its labels up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Channels", "Labels"]

Labels = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


class Channels:
    """Labels and what ties them: a disjoint-set forest (Tarjan 1975) with the reasons to keep some."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._kept: list[tuple[Labels, str]] = []

    def fresh(self, count: int) -> Labels:
        """`count` labels not seen before, tied to nothing."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count, dtype=np.int64)

    def tie(self, one: Labels, other: Labels) -> None:
        """Channel i of `one` lives and dies with channel i of `other`. ValueError if their counts differ."""
        for left, right in zip(one.tolist(), other.tolist(), strict=True):
            left, right = self._find(left), self._find(right)
            if left != right:
                self._parents[max(left, right)] = min(left, right)

    def keep(self, labels: Labels, reason: str) -> None:
        """These channels must never be removed. Of several reasons the last one said is told."""
        self._kept.append((labels, reason))

    def units(self) -> tuple[Labels, dict[int, str]]:
        """The unit of every label, numbered from 0 by their first label; and why some must be kept."""
        roots = np.array([self._find(label) for label in range(len(self._parents))], dtype=np.int64)
        _, numbers = np.unique(roots, return_inverse=True)
        unit_of = numbers.astype(np.int64).reshape(-1)
        reasons = {int(unit): reason for labels, reason in self._kept for unit in unit_of[labels]}
        return unit_of, reasons

    def _find(self, label: int) -> int:
        parents = self._parents
        while parents[label] != label:
            parents[label] = parents[parents[label]]
            label = parents[label]
        return label
