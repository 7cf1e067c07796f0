"""Factors of a kernel: the truncated SVD of a matrix, Tucker-2 of a convolution's.

A kernel has the axes [taps..., inputs S, outputs T]; one without taps, or with a single one, is a matrix.
All is computed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Spectra", "merged", "spectra", "svd", "tucker"]

Array = npt.NDArray[np.float64]

ITERATIONS = 10
SETTLED = 1e-7
"""HOOI ends when the energy grows by less than this share of it."""


@dataclass(frozen=True)
class Spectra:
    """The squared singular values of the kernel unfolded along its inputs and along its outputs, largest
    first. Of a matrix both are the same."""

    inputs: Array
    outputs: Array


def spectra(kernel: npt.NDArray[np.floating]) -> Spectra:
    """Of a kernel [taps..., S, T]; S and T values, or min(S, T) of each for a matrix."""
    if kernel.size == kernel.shape[-2] * kernel.shape[-1]:
        values, _ = _modes(_gram(_unfolded(kernel, _shorter(kernel))))
        return Spectra(values, values)
    return Spectra(*(_modes(_gram(_unfolded(kernel, axis)))[0] for axis in (-2, -1)))


def svd(matrix: npt.NDArray[np.floating], rank: int) -> tuple[Array, Array]:
    """The best approximation of [S, T] of that rank (Eckart & Young 1936) as [S, rank] @ [rank, T], the
    singular values shared evenly between the two."""
    if _shorter(matrix) == -2:
        right, left = svd(matrix.T, rank)
        return left.T, right.T
    whole = np.asarray(matrix, np.float64)
    vectors = _modes(_gram(_unfolded(whole, -1)))[1][:, :rank]
    columns = whole @ vectors  # The left singular vectors times their values.
    values = np.linalg.norm(columns, axis=0)
    root = np.sqrt(np.where(values > 0, values, 1.0))
    return columns / root, root[:, None] * vectors.T


def tucker(kernel: npt.NDArray[np.floating], inputs: int, outputs: int) -> tuple[Array, Array, Array]:
    """Tucker-2 (Kim et al. 2016, equation 3): K[..., s, t] ≈ Σ C[..., i, o] U[s, i] V[t, o].

    Returns U [S, inputs], C [taps..., inputs, outputs] and V [T, outputs], the columns of U and V
    orthonormal. It begins with the leading singular vectors of both unfoldings (HOSVD, De Lathauwer et al.
    2000a) and betters each with the other held fast (HOOI, De Lathauwer et al. 2000b). A rank as large as
    its axis leaves that axis as it is: its matrix is the identity.
    """
    whole = np.asarray(kernel, np.float64)
    left, right = _basis(whole, -2, inputs), _basis(whole, -1, outputs)
    energy = _energy(_projected(whole, left, right))
    for _ in range(ITERATIONS):
        left = _basis(_along(whole, right, -1), -2, inputs)
        right = _basis(_along(whole, left, -2), -1, outputs)
        before, energy = energy, _energy(_projected(whole, left, right))
        if energy - before <= SETTLED * energy:
            break
    return left, _projected(whole, left, right), right


def merged(kernels: Sequence[npt.NDArray[np.floating]]) -> Array:
    """The kernel [taps..., S, T] of layers one after another, of which at most one has taps, the others'
    axes of taps being 1."""
    whole = np.asarray(kernels[0], np.float64)
    for kernel in kernels[1:]:
        whole = whole @ np.asarray(kernel, np.float64)
    return whole


def _shorter(kernel: npt.NDArray[Any]) -> int:
    return -2 if kernel.shape[-2] < kernel.shape[-1] else -1


def _basis(kernel: Array, axis: int, rank: int) -> Array:
    """The `rank` leading left singular vectors of the unfolding along `axis`, as columns."""
    size = kernel.shape[axis]
    return np.eye(size) if rank >= size else _modes(_gram(_unfolded(kernel, axis)))[1][:, :rank]


def _modes(gram: Array) -> tuple[Array, Array]:
    """Eigenvalues, largest first and none below 0, and eigenvectors as columns."""
    values, vectors = np.linalg.eigh(gram)
    return np.clip(values[::-1], 0.0, None), vectors[:, ::-1]


def _gram(unfolding: Array) -> Array:
    """Its eigenvalues are the squared singular values: of a long unfolding far quicker than an SVD."""
    product: Array = unfolding @ unfolding.T
    return product


def _unfolded(kernel: npt.NDArray[np.floating], axis: int) -> Array:
    unfolding: Array = np.moveaxis(np.asarray(kernel, np.float64), axis, 0).reshape(kernel.shape[axis], -1)
    return unfolding


def _projected(kernel: Array, left: Array, right: Array) -> Array:
    return _along(_along(kernel, left, -2), right, -1)


def _along(kernel: Array, basis: Array, axis: int) -> Array:
    """The kernel in the coordinates of `basis` along an axis."""
    product: Array = np.moveaxis(np.tensordot(kernel, basis, axes=(axis, 0)), -1, axis)
    return product


def _energy(kernel: Array) -> float:
    return float(np.square(kernel).sum())
