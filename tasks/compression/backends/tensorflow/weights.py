"""How the weights of Keras layers are changed in place."""

from __future__ import annotations

from typing import Any

from tasks.compression.at_once import Weights
from tasks.compression.backends.tensorflow._framework import tf
from tasks.compression.backends.tensorflow.prunable import PRUNING
from tasks.compression.backends.tensorflow.rows import from_rows, rows
from tasks.compression.backends.tensorflow.rules import Rule
from tasks.compression.pending import Sharing
from tasks.compression.samples import Array

__all__ = ["WEIGHTS"]


def _make_zeros(rule: Rule, sparsity: float) -> None:
    for weight, stays in zip(rule.weights, rule.masks(tf.constant(sparsity, tf.float32)), strict=True):
        weight.assign(tf.where(stays, weight, tf.zeros_like(weight)))


def _matrix(kernel: Any, layer: Any, sharing: Sharing) -> Array:
    matrix: Array = rows(kernel, layer, sharing).numpy()
    return matrix


def _share(kernel: Any, layer: Any, sharing: Sharing, matrix: Array) -> None:
    kernel.assign(from_rows(tf.constant(matrix), kernel, layer, sharing))


WEIGHTS = Weights(pruning=PRUNING, make_zeros=_make_zeros, matrix=_matrix, share=_share)
