"""How the weights of PyTorch layers are changed in place."""

from __future__ import annotations

from tasks.compression.at_once import Weights
from tasks.compression.backends.torch._framework import nn, torch
from tasks.compression.backends.torch.layouts import from_rows, layout_of, rows
from tasks.compression.backends.torch.prunable import PRUNING
from tasks.compression.backends.torch.rules import Rule
from tasks.compression.pending import Sharing
from tasks.compression.samples import Array

__all__ = ["WEIGHTS"]


def _make_zeros(rule: Rule, sparsity: float) -> None:
    with torch.no_grad():
        for weight, stays in zip(rule.weights, rule.masks(sparsity), strict=True):
            weight.masked_fill_(~stays, 0.0)


def _matrix(kernel: torch.Tensor, layer: nn.Module, sharing: Sharing) -> Array:
    matrix: Array = rows(kernel.detach(), layout_of(layer, kernel), sharing).numpy()
    return matrix


def _share(kernel: torch.Tensor, layer: nn.Module, sharing: Sharing, matrix: Array) -> None:
    with torch.no_grad():
        kernel.copy_(from_rows(torch.from_numpy(matrix), kernel, layout_of(layer, kernel), sharing))


WEIGHTS = Weights(pruning=PRUNING, make_zeros=_make_zeros, matrix=_matrix, share=_share)
