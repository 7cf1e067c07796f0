"""Rules: how the masks of some weights follow from their values and a sparsity."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from featherweight.spec import Block, NOfM, Prune
from tasks.compression.backends.tensorflow._framework import keras, tf
from tasks.compression.backends.tensorflow.layers import Placed, kernels
from tasks.compression.backends.tensorflow.saliency import (
    block_mask,
    global_masks,
    keep_largest,
    lamp_scores,
    n_of_m_mask,
)

__all__ = ["TRANSPOSED", "Rule", "global_rule", "layer_rule"]

TRANSPOSED = (keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
"""Layers whose kernels end in [output channels, input channels]; those of others are the other way round."""


class Rule:
    """Masks for `weights`.

    `alive` has for each of them where it may stay, or None for anywhere: the zeros of an earlier step, which
    this one keeps.
    """

    def __init__(self, weights: Sequence[Any], alive: Sequence[Any]) -> None:
        self.weights = list(weights)
        self._alive = list(alive)

    def masks(self, sparsity: Any) -> list[Any]:
        """A boolean mask for each weight, True where it stays."""
        masks = self._masks([self._scores(index) for index in range(len(self.weights))], sparsity)
        return [
            mask if alive is None else tf.logical_and(mask, alive)
            for mask, alive in zip(masks, self._alive, strict=True)
        ]

    @abstractmethod
    def _masks(self, scores: list[Any], sparsity: Any) -> list[Any]: ...

    def _scores(self, index: int) -> Any:
        """Larger for a weight that is more worth keeping; below all others where it may not stay."""
        score = self._score(index)
        alive = self._alive[index]
        return score if alive is None else tf.where(alive, score, -tf.ones_like(score))

    def _score(self, index: int) -> Any:
        return tf.abs(self.weights[index])


class _EachWeight(Rule):
    """The smallest magnitudes of each weight tensor (Zhu & Gupta 2017)."""

    def _masks(self, scores: list[Any], sparsity: Any) -> list[Any]:
        return [keep_largest(score, sparsity) for score in scores]


class _Random(_EachWeight):
    """An order drawn once, so that what is gone stays gone as sparsity rises."""

    def __init__(self, weights: Sequence[Any], alive: Sequence[Any], seed: Sequence[int]) -> None:
        super().__init__(weights, alive)
        chance = np.random.default_rng(seed)
        self._order = [tf.constant(chance.random(weight.shape), tf.float32) for weight in weights]

    def _score(self, index: int) -> Any:
        return self._order[index]


class _Together(Rule):
    """The smallest scores of all weight tensors together: magnitudes, or LAMP's."""

    def __init__(self, weights: Sequence[Any], alive: Sequence[Any], lamp: bool) -> None:
        super().__init__(weights, alive)
        self._lamp = lamp

    def _score(self, index: int) -> Any:
        return lamp_scores(self.weights[index]) if self._lamp else super()._score(index)

    def _masks(self, scores: list[Any], sparsity: Any) -> list[Any]:
        return global_masks(scores, sparsity)


class _Patterned(Rule):
    """Structure in each weight, seen as a matrix [everything else, output channels]."""

    def __init__(self, weights: Sequence[Any], alive: Sequence[Any], transposed: bool) -> None:
        super().__init__(weights, alive)
        self._transposed = transposed

    def _masks(self, scores: list[Any], sparsity: Any) -> list[Any]:
        return [self._from_matrix(self._mask(self._matrix(score), sparsity), score) for score in scores]

    @abstractmethod
    def _mask(self, matrix: Any, sparsity: Any) -> Any: ...

    def _matrix(self, values: Any) -> Any:
        return tf.reshape(self._swapped(values), [-1, values.shape[-2 if self._transposed else -1]])

    def _from_matrix(self, matrix: Any, like: Any) -> Any:
        return self._swapped(tf.reshape(matrix, self._swapped(like).shape))

    def _swapped(self, values: Any) -> Any:
        axes = list(range(len(values.shape)))
        return tf.transpose(values, [*axes[:-2], axes[-1], axes[-2]]) if self._transposed else values


class _Blocks(_Patterned):
    def __init__(
        self, weights: Sequence[Any], alive: Sequence[Any], transposed: bool, pattern: Block
    ) -> None:
        super().__init__(weights, alive, transposed)
        self._pattern = pattern

    def _mask(self, matrix: Any, sparsity: Any) -> Any:
        return block_mask(matrix, sparsity, self._pattern.block_size, self._pattern.pooling)


class _Groups(_Patterned):
    """N of M neighbours along the input channels, which lie next to each other in a .tflite."""

    def __init__(self, weights: Sequence[Any], alive: Sequence[Any], transposed: bool, pattern: NOfM) -> None:
        super().__init__(weights, alive, transposed)
        self._pattern = pattern

    def _mask(self, matrix: Any, sparsity: Any) -> Any:
        return tf.transpose(n_of_m_mask(tf.transpose(matrix), self._pattern.n, self._pattern.m))


def layer_rule(place: Placed, step: Prune, *, keep_zeros: bool, seed: int) -> Rule:
    """The rule for one layer, which the step's method and pattern can be applied to."""
    weights = kernels(place.layer)
    alive = _alive(weights, keep_zeros)
    transposed = isinstance(place.layer, TRANSPOSED)
    if isinstance(step.pattern, Block):
        return _Blocks(weights, alive, transposed, step.pattern)
    if isinstance(step.pattern, NOfM):
        return _Groups(weights, alive, transposed, step.pattern)
    if step.method == "random":
        return _Random(weights, alive, (seed, zlib.crc32(place.path.encode())))
    return _EachWeight(weights, alive)


def global_rule(places: Sequence[Placed], step: Prune, *, keep_zeros: Sequence[bool]) -> Rule:
    """The one rule for all layers of a step whose method ranks across them."""
    weights: list[Any] = []
    alive: list[Any] = []
    for place, keep in zip(places, keep_zeros, strict=True):
        found = kernels(place.layer)
        weights += found
        alive += _alive(found, keep)
    return _Together(weights, alive, lamp=step.method == "lamp")


def _alive(weights: Sequence[Any], keep_zeros: bool) -> list[Any]:
    return [tf.not_equal(weight, 0) if keep_zeros else None for weight in weights]
