"""A kernel trained with latent values, of which the network computes with the projection.

The optimiser updates the weights that the network shows. What it changed in them is added to the latent
values, and the projection of those is shown again: zero where a mask says so, else the nearest value of a
codebook. That is the straight-through estimator (Bengio, Léonard & Courville 2013; with latent weights
Courbariaux, Bengio & David 2015) for any optimiser and any layer.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from tasks.compression.backends.tensorflow._framework import tf
from tasks.compression.backends.tensorflow.rows import from_rows, rows
from tasks.compression.codebook import codebooks
from tasks.compression.sharing_plan import Terms

__all__ = ["Codebook", "SharedKernel"]

Array = npt.NDArray[Any]

_CELLS = 64  # for each value of a codebook, and no fewer in all than
_FEWEST_CELLS = 4096


class SharedKernel:
    """`weight` is a kernel of `layer`; `masked` says that zeros are made or kept in it: those it has at first
    are. With `terms` it shares values."""

    def __init__(self, weight: Any, layer: Any, *, masked: bool, terms: Terms | None) -> None:
        self.weight = weight
        self.latent = tf.Variable(weight, trainable=False)
        self._shown = tf.Variable(weight, trainable=False)
        self.mask: Any = (
            tf.Variable(tf.cast(tf.not_equal(weight, 0), weight.dtype), trainable=False) if masked else None
        )
        self.codebook = None if terms is None else Codebook(self, layer, terms)

    @property
    def state(self) -> list[Any]:
        own = [self.latent, self._shown, *([] if self.mask is None else [self.mask])]
        return own + ([] if self.codebook is None else self.codebook.state)

    def hide(self, stays: Any) -> None:
        """Make zero in what is shown, where not `stays`, from the next time on."""
        self.mask.assign(tf.cast(stays, self.mask.dtype))

    def absorb(self) -> None:
        """Take what the optimiser did to the shown weights over into the latent ones. Those that a mask hides
        stay as they were, and may come back."""
        change = self.weight - self._shown
        self.latent.assign_add(change if self.mask is None else change * self.mask)

    def show(self, *, shared: bool) -> None:
        values = (
            self.codebook.projected() if shared and self.codebook is not None else self.latent.read_value()
        )
        values = values if self.mask is None else values * self.mask
        self.weight.assign(values)
        self._shown.assign(values)


class Codebook:
    """The values that the rows of a kernel share, and a table of the nearest one over their range.

    A table, because a search for every weight at every step can take longer than the rest of the step. Within
    half a cell of the middle between two values a weight may get either.
    """

    def __init__(self, kernel: SharedKernel, layer: Any, terms: Terms) -> None:
        self._kernel, self._layer, self.terms = kernel, layer, terms
        height, width = rows(kernel.latent, layer, terms.sharing).shape
        self._size = max(1, min(terms.sharing.clusters, width))
        cells = _CELLS * self._size
        self._cells = cells if terms.sharing.per_channel else max(cells, _FEWEST_CELLS)
        self._values = tf.Variable(tf.zeros([height, self._size], kernel.weight.dtype), trainable=False)
        self._table = tf.Variable(tf.zeros([height, self._cells], kernel.weight.dtype), trainable=False)

    @property
    def state(self) -> list[Any]:
        return [self._values, self._table]

    def start(self) -> None:
        """By k-means of the latent weights as they are."""
        found = tf.numpy_function(self._found, [self._rows(), self._alive()], tf.float32)
        self._set(tf.cast(tf.reshape(found, self._values.shape), self._values.dtype))

    def move(self) -> None:
        """One of Lloyd's rounds: each value to the mean of the latent weights nearest to it."""
        values, alive, old = self._rows(), self._alive(), self._values
        height = old.shape[0]
        places = tf.searchsorted(_edges(old), values)
        places += self._size * tf.range(height)[:, None]
        counts = tf.math.unsorted_segment_sum(alive, places, height * self._size)
        sums = tf.math.unsorted_segment_sum(values * alive, places, height * self._size)
        means = tf.reshape(tf.math.divide_no_nan(sums, counts), old.shape)
        self._set(tf.sort(tf.where(tf.reshape(counts, old.shape) > 0, means, old)))

    def projected(self) -> Any:
        """The nearest value for each latent weight; the latent weights themselves where any is not finite."""
        latent = self._kernel.latent.read_value()
        finite = tf.math.is_finite(tf.reduce_sum(latent))
        return tf.cond(finite, lambda: self._looked_up(latent), lambda: latent)

    def _looked_up(self, latent: Any) -> Any:
        values = rows(latent, self._layer, self.terms.sharing)
        low, high = self._values[:, :1], self._values[:, -1:]
        scale = tf.math.divide_no_nan(self._cells - 1.0, high - low)
        # Half a cell on, so that cutting off rounds.
        cell = tf.raw_ops.ClipByValue(
            t=values * scale + (0.5 - low * scale), clip_value_min=0.0, clip_value_max=self._cells - 1.0
        )
        place = tf.cast(cell, tf.int32)
        if self._values.shape[0] > 1:
            place += self._cells * tf.range(self._values.shape[0])[:, None]
        found = tf.gather(tf.reshape(self._table, [-1]), place)
        return from_rows(found, latent, self._layer, self.terms.sharing)

    def _rows(self) -> Any:
        return rows(self._kernel.latent, self._layer, self.terms.sharing)

    def _alive(self) -> Any:
        """1 for the weights that the values are for, 0 for those the mask makes zero."""
        mask = self._kernel.mask
        return tf.ones_like(self._rows()) if mask is None else rows(mask, self._layer, self.terms.sharing)

    def _found(self, values: Array, alive: Array) -> Array:
        return codebooks(values, alive > 0, self._size, self.terms.initialization, self.terms.seed)

    def _set(self, values: Any) -> None:
        low, high = values[:, :1], values[:, -1:]
        grid = low + (high - low) * tf.cast(tf.linspace(0.0, 1.0, self._cells), values.dtype)
        places = tf.searchsorted(_edges(values), grid)
        self._values.assign(values)
        self._table.assign(tf.gather(values, places, batch_dims=1))


def _edges(values: Any) -> Any:
    """Between each value of a row and the next; a value that is alone is the nearest to all."""
    if values.shape[1] == 1:
        return tf.fill(values.shape, values.dtype.max)
    return (values[:, 1:] + values[:, :-1]) / 2
