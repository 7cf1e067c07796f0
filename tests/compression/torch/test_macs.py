"""Costs, against formulas written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tasks.compression.backends.torch.structured import count
from tests.compression.torch.channel_models import network, of


def test_lenet_layer_by_layer() -> None:
    found = network("lenet")
    cost = count(found.model, found.signature)
    assert {layer.name: layer.macs for layer in cost.layers} == {
        "conv1": 28 * 28 * 6 * 25,
        "conv2": 10 * 10 * 16 * 6 * 25,
        "fc1": 400 * 120,
        "fc2": 120 * 84,
        "fc3": 84 * 10,
    }
    assert (cost.macs, cost.parameters) == (416_520, 61_706)


@pytest.mark.parametrize(
    ("shape", "layer", "macs"),
    [
        ((3, 8, 8), lambda: nn.Conv2d(3, 5, 3), 6 * 6 * 5 * 3 * 9),
        ((3, 8, 8), lambda: nn.Conv2d(3, 5, (1, 3), 2, (0, 1)), 4 * 4 * 5 * 3 * 3),
        ((6, 8, 8), lambda: nn.Conv2d(6, 4, 3, padding=1, groups=2), 8 * 8 * 4 * 3 * 9),
        ((3, 8, 8), lambda: nn.Conv2d(3, 6, 3, groups=3), 6 * 6 * 6 * 9),
        ((3, 8, 8), lambda: nn.ConvTranspose2d(3, 5, 2, 2), 8 * 8 * 5 * 3 * 4),
        ((3, 10), lambda: nn.Conv1d(3, 4, 3, padding=1), 10 * 4 * 3 * 3),
        ((2, 4, 4, 4), lambda: nn.Conv3d(2, 3, 2), 27 * 3 * 2 * 8),
        ((7,), lambda: nn.Linear(7, 5), 35),
        ((6, 7), lambda: nn.Linear(7, 5), 6 * 35),
        ((3, 8, 8), lambda: nn.BatchNorm2d(3), 0),
        ((3, 8, 8), lambda: nn.MaxPool2d(2), 0),
    ],
)
def test_macs_of_a_layer(shape: tuple[int, ...], layer: Callable[[], nn.Module], macs: int) -> None:
    found = of(nn.Sequential(layer()), (shape,))
    assert count(found.model, found.signature).macs == macs


class Applied(nn.Module):
    def __init__(self, layer: nn.Module, apply: Any) -> None:
        super().__init__()
        self.layer, self.apply_to = layer, apply

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.apply_to(self.layer, x)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("layer", "apply", "macs"),
    [
        (lambda: nn.LSTM(6, 5, batch_first=True), lambda m, x: m(x)[0], 4 * 4 * (6 * 5 + 5 * 5)),
        (lambda: nn.GRU(6, 5, batch_first=True), lambda m, x: m(x)[0], 4 * 3 * (6 * 5 + 5 * 5)),
        (
            lambda: nn.RNN(6, 5, 2, batch_first=True, bidirectional=True),
            lambda m, x: m(x)[0],
            4 * 2 * (30 + 25 + 50 + 25),
        ),
        (
            lambda: nn.MultiheadAttention(6, 2, batch_first=True),
            lambda m, x: m(x, x, x, need_weights=False)[0],
            4 * 4 * 36 + 2 * 4 * 4 * 6,
        ),
        (lambda: nn.Identity(), lambda m, x: torch.matmul(m(x), x.transpose(1, 2)), 4 * 4 * 6),
        (lambda: nn.Identity(), lambda m, x: torch.einsum("btc,bsc->bts", m(x), x), 4 * 4 * 6),
        (
            lambda: nn.Identity(),
            lambda m, x: nn.functional.scaled_dot_product_attention(m(x), x, x),
            2 * 4 * 4 * 6,
        ),
    ],
)
def test_macs_of_sequences(layer: Any, apply: Any, macs: int) -> None:
    found = of(Applied(layer(), apply), ((4, 6),))
    assert count(found.model, found.signature).macs == macs


def test_shared_layer_costs_at_every_call() -> None:
    found = network("two_heads")
    shared = next(layer for layer in count(found.model, found.signature).layers if layer.name == "shared")
    assert (shared.parameters, shared.macs) == (72, 2 * 64)
