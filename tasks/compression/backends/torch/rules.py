"""Rules: how the masks of some weights follow from their values and a sparsity.

As `torch.nn.utils.prune` would mask them for l1_unstructured and, over several layers, global_unstructured;
with the contract's counts, order and further methods.
"""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from featherweight.spec import Block, NOfM, Prune
from tasks.compression.backends.torch._framework import torch
from tasks.compression.backends.torch.layers import Placed, kernels
from tasks.compression.backends.torch.layouts import Layout, layout_of
from tasks.compression.backends.torch.saliency import (
    Mask,
    Scores,
    block_mask,
    global_masks,
    keep_largest,
    lamp_masks,
    n_of_m_mask,
)

__all__ = ["Rule", "global_rule", "layer_rule"]


class Rule:
    """Masks for `weights`, the kernels of some layers.

    With `keep_zeros`, one for each of them, the zeros it has now stay: those of an earlier step.
    """

    def __init__(self, places: Sequence[Placed], keep_zeros: Sequence[bool]) -> None:
        self.weights: list[torch.Tensor] = []
        self._layouts: list[Layout] = []
        self._alive: list[Mask | None] = []
        for place, keep in zip(places, keep_zeros, strict=True):
            for weight in kernels(place.layer):
                # Layers that share a weight rank it once.
                if not any(weight is known for known in self.weights):
                    layout = layout_of(place.layer, weight)
                    self.weights.append(weight)
                    self._layouts.append(layout)
                    self._alive.append(layout.seen(weight) != 0 if keep else None)

    def masks(self, sparsity: float) -> list[torch.Tensor]:
        """A boolean mask for each weight, True where it stays."""
        masks = self._masks([self._scores(index) for index in range(len(self.weights))], sparsity)
        return [
            layout.stored(mask if alive is None else mask & alive)
            for mask, alive, layout in zip(masks, self._alive, self._layouts, strict=True)
        ]

    @abstractmethod
    def _masks(self, scores: list[Scores], sparsity: float) -> list[Mask]: ...

    def _scores(self, index: int) -> Scores:
        """In the contract's order; larger for a weight that is more worth keeping, below all others where it
        may not stay."""
        score = self._score(index)
        alive = self._alive[index]
        return score if alive is None else np.where(alive, score, -np.ones_like(score))

    def _score(self, index: int) -> Scores:
        return np.abs(self._layouts[index].seen(self.weights[index]))


class _EachWeight(Rule):
    """The smallest magnitudes of each weight tensor (Zhu & Gupta 2017)."""

    def _masks(self, scores: list[Scores], sparsity: float) -> list[Mask]:
        return [keep_largest(score, sparsity) for score in scores]


class _Random(_EachWeight):
    """An order drawn once, so that what is gone stays gone as sparsity rises."""

    def __init__(self, places: Sequence[Placed], keep_zeros: Sequence[bool], seed: Sequence[int]) -> None:
        super().__init__(places, keep_zeros)
        chance = np.random.default_rng(seed)
        self._order = [
            chance.random([weight.shape[axis] for axis in layout.axes]).astype(np.float32)
            for weight, layout in zip(self.weights, self._layouts, strict=True)
        ]

    def _score(self, index: int) -> Scores:
        return self._order[index]


class _Together(Rule):
    """The smallest scores of all weight tensors together: magnitudes, or LAMP's."""

    def __init__(self, places: Sequence[Placed], keep_zeros: Sequence[bool], *, lamp: bool) -> None:
        super().__init__(places, keep_zeros)
        self._lamp = lamp

    def _masks(self, scores: list[Scores], sparsity: float) -> list[Mask]:
        return lamp_masks(scores, sparsity) if self._lamp else global_masks(scores, sparsity)


class _Patterned(Rule):
    """Structure in each weight, seen as a matrix [everything else, output channels]."""

    def _masks(self, scores: list[Scores], sparsity: float) -> list[Mask]:
        return [
            self._masked(score, layout, sparsity) for score, layout in zip(scores, self._layouts, strict=True)
        ]

    @abstractmethod
    def _mask(self, matrix: Scores, sparsity: float) -> Mask: ...

    def _masked(self, score: Scores, layout: Layout, sparsity: float) -> Mask:
        outputs_last = score.swapaxes(-1, -2) if layout.transposed else score
        mask = self._mask(outputs_last.reshape(-1, outputs_last.shape[-1]), sparsity)
        mask = mask.reshape(outputs_last.shape)
        return mask.swapaxes(-1, -2) if layout.transposed else mask


class _Blocks(_Patterned):
    def __init__(self, places: Sequence[Placed], keep_zeros: Sequence[bool], pattern: Block) -> None:
        super().__init__(places, keep_zeros)
        self._pattern = pattern

    def _mask(self, matrix: Scores, sparsity: float) -> Mask:
        return block_mask(matrix, sparsity, self._pattern.block_size, self._pattern.pooling)


class _Groups(_Patterned):
    """N of M neighbours along the input channels."""

    def __init__(self, places: Sequence[Placed], keep_zeros: Sequence[bool], pattern: NOfM) -> None:
        super().__init__(places, keep_zeros)
        self._pattern = pattern

    def _mask(self, matrix: Scores, sparsity: float) -> Mask:
        return n_of_m_mask(matrix.T, self._pattern.n, self._pattern.m).T


def layer_rule(place: Placed, step: Prune, *, keep_zeros: bool, seed: int) -> Rule:
    """The rule for one layer, which the step's method and pattern can be applied to."""
    if isinstance(step.pattern, Block):
        return _Blocks([place], [keep_zeros], step.pattern)
    if isinstance(step.pattern, NOfM):
        return _Groups([place], [keep_zeros], step.pattern)
    if step.method == "random":
        return _Random([place], [keep_zeros], (seed, zlib.crc32(place.path.encode())))
    return _EachWeight([place], [keep_zeros])


def global_rule(places: Sequence[Placed], step: Prune, *, keep_zeros: Sequence[bool]) -> Rule:
    """The one rule for all layers of a step whose method ranks across them."""
    return _Together(places, keep_zeros, lamp=step.method == "lamp")
