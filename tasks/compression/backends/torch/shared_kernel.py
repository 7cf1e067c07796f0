"""A kernel trained with latent values, of which the network computes with the projection.

The optimiser updates the weights that the network shows. What it changed in them is added to the latent
values, and the projection of those is shown again: zero where a mask says so, else the nearest value of a
codebook. That is the straight-through estimator (Bengio, Léonard & Courville 2013; with latent weights
Courbariaux, Bengio & David 2015) for any optimiser and any layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tasks.compression.backends.torch._framework import torch
from tasks.compression.backends.torch.layouts import Array, Layout, from_rows, rows
from tasks.compression.codebook import codebooks
from tasks.compression.sharing_plan import Terms

__all__ = ["Codebook", "SharedKernel"]

_CELLS = 64  # for each value of a codebook, and no fewer in all than
_FEWEST_CELLS = 4096
_NARROWEST = 1e-30  # of a codebook's range, whose inverse is finite


class SharedKernel:
    """`weight` is a kernel that lies as `layout` says; `masked` says that zeros are made or kept in it: those
    it has at first are. With `terms` it shares values."""

    def __init__(
        self, name: str, weight: torch.Tensor, layout: Layout, *, masked: bool, terms: Terms | None
    ) -> None:
        self.name = name
        self.weight = weight
        self.latent = weight.detach().clone()
        self._shown = weight.detach().clone()
        self.mask: torch.Tensor | None = self.latent != 0 if masked else None
        self.codebook = None if terms is None else Codebook(self, layout, terms)

    def state(self) -> dict[str, torch.Tensor]:
        """What is needed beside the terms to go on."""
        found = {"latent": self.latent, "shown": self._shown}
        if self.mask is not None:
            found["mask"] = self.mask
        if self.codebook is not None:
            found["values"] = self.codebook.values
        return found

    def resume(self, state: Mapping[str, torch.Tensor]) -> None:
        """From what `state` gave; the weight is what was shown."""
        self.latent.copy_(state["latent"])
        self._show(state["shown"])
        if self.mask is not None:
            self.mask = state["mask"].clone()
        if self.codebook is not None:
            self.codebook.use(state["values"].clone())

    def hide(self, stays: torch.Tensor) -> None:
        """Make zero in what is shown, where not `stays`, from the next time on."""
        self.mask = stays

    def absorb(self) -> None:
        """Take what the optimiser did to the shown weights over into the latent ones. Those that a mask hides
        stay as they were, and may come back."""
        change = self.weight.detach() - self._shown
        self.latent.add_(change if self.mask is None else change * self.mask)

    def show(self, *, shared: bool) -> None:
        values = self.codebook.projected() if shared and self.codebook is not None else self.latent
        self._show(values if self.mask is None else values * self.mask)

    def _show(self, values: torch.Tensor) -> None:
        with torch.no_grad():
            self.weight.copy_(values)
        self._shown.copy_(values)


class Codebook:
    """`values` [rows, values] in rising order, which the rows of a kernel share, and for rows of more weights
    than it has cells a table of the nearest one over their range.

    A table, because a search for every weight at every step takes ten times as long. Within half a cell of
    the middle between two values a weight may get either.
    """

    def __init__(self, kernel: SharedKernel, layout: Layout, terms: Terms) -> None:
        self._kernel, self._layout, self.terms = kernel, layout, terms
        height, width = rows(kernel.latent, layout, terms.sharing).shape
        self._size = max(1, min(terms.sharing.clusters, width))
        cells = _CELLS * self._size if terms.sharing.per_channel else max(_CELLS * self._size, _FEWEST_CELLS)
        self._cells = cells if cells < width else 0
        self.use(kernel.latent.new_zeros([height, self._size]))

    def use(self, values: torch.Tensor) -> None:
        """Of rising values in every row."""
        self.values = values
        self._edges = ((values[:, 1:] + values[:, :-1]) / 2).contiguous()
        if self._cells:
            low, high = values[:, :1], values[:, -1:]
            grid = low + (high - low) * torch.linspace(0.0, 1.0, self._cells, dtype=values.dtype)
            self._table = self._searched(grid).flatten()

    def start(self) -> None:
        """By k-means of the latent weights as they are."""
        terms = self.terms
        found = codebooks(self._rows(), self._alive(), self._size, terms.initialization, terms.seed)
        self.use(torch.from_numpy(found).to(self.values.dtype))

    def move(self) -> None:
        """One of Lloyd's rounds: each value to the mean of the latent weights nearest to it."""
        old = self.values.numpy()
        edges = (old[:, 1:] + old[:, :-1]) / 2
        moved = [
            _means(row[alive], centres, between)
            for row, alive, centres, between in zip(self._rows(), self._alive(), old, edges, strict=True)
        ]
        self.use(torch.from_numpy(np.sort(moved, axis=1).astype(old.dtype)))

    def projected(self) -> torch.Tensor:
        """The nearest value for each latent weight; the latent weights themselves where any is not finite."""
        latent, sharing = self._kernel.latent, self.terms.sharing
        if not torch.isfinite(latent.sum()):
            return latent
        matrix = rows(latent, self._layout, sharing)
        shared = self._looked_up(matrix) if self._cells else self._searched(matrix)
        return from_rows(shared, latent, self._layout, sharing)

    def _searched(self, matrix: torch.Tensor) -> torch.Tensor:
        return self.values.gather(1, torch.searchsorted(self._edges, matrix.contiguous()))

    def _looked_up(self, matrix: torch.Tensor) -> torch.Tensor:
        low = self.values[:, :1]
        scale = (self._cells - 1.0) / (self.values[:, -1:] - low).clamp(min=_NARROWEST)
        # Half a cell on, so that cutting off rounds.
        cell = ((matrix - low) * scale).add_(0.5).clamp_(0.0, self._cells - 1.0)
        place = cell.to(torch.int32)
        place += self._cells * torch.arange(len(place), dtype=torch.int32)[:, None]
        return self._table.index_select(0, place.flatten()).reshape(place.shape)

    def _rows(self) -> Array:
        found: Array = rows(self._kernel.latent, self._layout, self.terms.sharing).numpy()
        return found

    def _alive(self) -> Array:
        """Where the weights are that the values are for, and not those the mask makes zero."""
        mask = self._kernel.mask
        if mask is None:
            return np.ones(self._rows().shape, np.bool_)
        found: Array = rows(mask, self._layout, self.terms.sharing).numpy()
        return found


def _means(values: Array, centres: Array, edges: Array) -> Array:
    """Of the values nearest to each centre; a centre nearest to none stays where it is."""
    places = np.searchsorted(edges, values)
    counts = np.bincount(places, minlength=len(centres))
    sums = np.bincount(places, weights=values, minlength=len(centres))
    return np.where(counts > 0, sums / np.maximum(counts, 1), centres)
