"""The layers in a decomposed layer's place, whatever the framework: their kernels, names, and exactness."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tasks.compression.context import Context
from tasks.compression.lowrank.choice import Target
from tasks.compression.lowrank.factors import merged
from tasks.compression.lowrank.ranks import Ranks

__all__ = ["Kernel", "all_factored", "free_name", "pointwise", "relative_error", "stored"]

Kernel = npt.NDArray[np.float32]

TargetT = TypeVar("TargetT", bound=Target)
MadeT = TypeVar("MadeT")


def all_factored(
    found: Sequence[TargetT],
    ranks: Mapping[str, Ranks],
    factored: Callable[[TargetT, Ranks], MadeT],
    context: Context,
) -> list[MadeT]:
    """What `factored` makes of those that have ranks, in order; progress is told."""
    made = []
    for number, target in enumerate(found, start=1):
        if target.path in ranks:
            made.append(factored(target, ranks[target.path]))
        context.progress.advance(number, len(found))
    return made


def relative_error(kernel: npt.NDArray[Any], parts: Sequence[npt.NDArray[Any]]) -> float:
    """||K - K'|| / ||K||, in the Frobenius norm, of the kernel K' that the stored parts amount to; its square
    is the share of the energy lost. 0 for a kernel of zeros."""
    whole = kernel.astype(np.float64)
    size = float(np.linalg.norm(whole))
    return float(np.linalg.norm(whole - merged(parts))) / size if size else 0.0


def pointwise(matrix: npt.NDArray[Any], kernel: npt.NDArray[Any]) -> Kernel:
    """A matrix [inputs, outputs] as a kernel with as many taps' axes as `kernel`, each of one tap."""
    return stored(matrix.reshape([1] * (kernel.ndim - 2) + list(matrix.shape)))


def stored(kernel: npt.NDArray[Any]) -> Kernel:
    """As layers hold it."""
    return np.ascontiguousarray(kernel, np.float32)


def free_name(wanted: str, names: set[str]) -> str:
    """`wanted`, with a number where it is among the `names` of the network; it is added to them."""
    name, number = wanted, 0
    while name in names:
        number += 1
        name = f"{wanted}_{number}"
    names.add(name)
    return name
