"""Originals made and trained by PyTorch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

__all__ = ["lenet_5", "resnet_8", "train_on_digits", "train_on_images"]

BATCH = 128
SHIFT = 4  # pixels of 32, as in He et al. 2016


def lenet_5() -> nn.Module:
    """Caffe's, with the names and the kind of initial weights that the Keras original has."""
    layers = {
        "conv1": nn.Conv2d(1, 20, 5),
        "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(20, 50, 5),
        "pool2": nn.MaxPool2d(2),
        "flatten": nn.Flatten(),
        "ip1": nn.Linear(50 * 4 * 4, 500),
        "relu": nn.ReLU(),
        "ip2": nn.Linear(500, 10),
    }
    for layer in layers.values():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is not None
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(OrderedDict(layers))


class _Block(nn.Module):
    def __init__(self, given: int, made: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, made, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(made)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(made, made, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(made)
        self.shortcut = nn.Conv2d(given, made, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        answer: torch.Tensor = self.relu(inner + self.shortcut(x))
        return answer


class _ResNet8(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.block1, self.block2, self.block3 = _Block(16, 16, 1), _Block(16, 32, 2), _Block(32, 64, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block3(self.block2(self.block1(self.stem(x))))
        answer: torch.Tensor = self.head(self.pool(x).flatten(1))
        return answer


def resnet_8() -> nn.Module:
    """MLPerf Tiny's network for CIFAR-10 (He et al. 2016 with one block to a stack), from [n, 3, 32, 32] to
    10 logits."""
    return _ResNet8()


def train_on_digits(model: nn.Module, x: np.ndarray, y: np.ndarray, epochs: int) -> None:
    """By Adam at a rate that falls from 0.001 along a cosine, as the Keras originals are trained."""
    optimiser = torch.optim.Adam(model.parameters(), 1e-3, eps=1e-7)
    _train(model, optimiser, torch.from_numpy(x), torch.from_numpy(y.astype(np.int64)), epochs, shift=0)


def train_on_images(model: nn.Module, x: np.ndarray, y: np.ndarray, epochs: int) -> None:
    """By momentum at a rate that falls from 0.1 along a cosine; images mirrored and moved by chance."""
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    _train(model, optimiser, torch.from_numpy(x), torch.from_numpy(y.astype(np.int64)), epochs, shift=SHIFT)


def _train(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    x: torch.Tensor,
    y: torch.Tensor,
    epochs: int,
    *,
    shift: int,
) -> None:
    steps = -(-len(x) // BATCH) * epochs
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, steps, eta_min=0.01 * optimiser.param_groups[0]["lr"]
    )
    model.train()
    for places in _batches(len(x), epochs):
        samples = _moved(x[places], shift) if shift else x[places]
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(samples), y[places]).backward()
        optimiser.step()
        rate.step()
    model.eval()


def _batches(count: int, epochs: int) -> Iterator[torch.Tensor]:
    for _ in range(epochs):
        yield from torch.randperm(count).split(BATCH)


def _moved(images: torch.Tensor, most: int) -> torch.Tensor:
    """Every other image mirrored and the batch moved by up to `most` pixels, zeros where nothing was."""
    mirrored = torch.rand(len(images), 1, 1, 1) < 0.5
    images = torch.where(mirrored, images.flip(3), images)
    down, right = torch.randint(0, 2 * most + 1, (2,)).tolist()
    padded = nn.functional.pad(images, [most] * 4)
    return padded[:, :, down : down + images.shape[2], right : right + images.shape[3]]
