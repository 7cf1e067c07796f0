"""Training batches out of arrays, shuffled anew each epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.compression.backends.torch._framework import torch
from tasks.compression.backends.torch.joint import target
from tasks.compression.samples import Tensors, arrays_of

__all__ = ["Batch", "Batches"]

Tensor = Any
Augment = Callable[[tuple[Tensor, ...], int], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Batch:
    """`inputs` as the network takes them, `labels` and the teacher's `answers` one for each output, and the
    `weights` of the samples: None where there are none."""

    inputs: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    answers: tuple[Tensor, ...] | None
    weights: Tensor | None


@dataclass(frozen=True)
class Batches:
    """``ceil(len(indices) / size)`` batches an epoch, of which the last may be smaller. Which samples are in
    a batch follows from the seed, the epoch and the batch's place in it alone.

    `dtypes` are what the network takes. `augment` changes the inputs of a batch, given its number in the
    whole training. With `reconstruct` the inputs, as they are then, take the place of the labels.
    """

    x: Tensors
    dtypes: Sequence[str]
    labels: Tensors
    indices: npt.NDArray[np.int64]
    size: int
    seed: int
    answers: Tensors | None = None
    weights: npt.NDArray[Any] | None = None
    augment: Augment | None = None
    reconstruct: bool = False

    def of_epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Those of the epoch with that number, from 0, but for the `first` ones."""
        order = np.random.Generator(np.random.Philox(key=[self.seed, epoch])).permutation(self.indices)
        count = math.ceil(len(order) / self.size)
        for step in range(first, count):
            yield self._batch(order[step * self.size : (step + 1) * self.size], epoch * count + step)

    def _batch(self, chosen: npt.NDArray[np.int64], number: int) -> Batch:
        # Rows of a mapped array are read here, one batch at a time.
        given = tuple(torch.from_numpy(_plain(array[chosen])) for array in arrays_of(self.x))
        if self.augment is not None:
            given = self.augment(given, number)
        inputs = tuple(
            values.to(getattr(torch, dtype)) for values, dtype in zip(given, self.dtypes, strict=True)
        )
        labels = _rows(self.labels, chosen)
        return Batch(
            inputs,
            (given[0].to(torch.float32),) if self.reconstruct else labels,
            None if self.answers is None else _rows(self.answers, chosen),
            None if self.weights is None else torch.from_numpy(self.weights[chosen]),
        )


def _plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Of a type that PyTorch computes with: for wide unsigned integers it has hardly any operation."""
    wide = array.dtype.kind == "u" and array.dtype.itemsize > 1
    return np.ascontiguousarray(array, np.int64 if wide else None)


def _rows(arrays: Tensors, chosen: npt.NDArray[np.int64]) -> tuple[Tensor, ...]:
    return tuple(target(array[chosen]) for array in arrays_of(arrays))
