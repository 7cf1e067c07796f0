"""The network that conformance of PyTorch is shown on, trained and exported once, and its weights read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tests.compression.networks import digits

__all__ = ["DigitCnn", "kernels", "save_trained"]

Array = npt.NDArray[np.float32]


class DigitCnn(nn.Module):
    """The same as the Keras one of the other suites, for images (28, 28)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, stride=2)
        self.mixed = nn.Conv2d(8, 12, 3, stride=2)
        self.logits = nn.Linear(12 * 6 * 6, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.mixed(torch.relu(self.conv(x.unsqueeze(1)))))
        return self.logits(x.flatten(1))


def save_trained(path: Path) -> Path:
    """Four epochs of digits, exported for any number of samples."""
    torch.manual_seed(0)
    model, (x, y) = DigitCnn(), (torch.tensor(array) for array in digits())
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(4):
        for chosen in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimiser.step()
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(model.eval(), (x[:2],), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return path


def kernels(path: Path) -> dict[str, Array]:
    """The matrices of a ``.pt2``, by their layers' names, output channels last and inputs before."""
    weights = torch.export.load(path).state_dict
    return {
        name.removesuffix(".weight"): _channels_last(value.detach().numpy())
        for name, value in weights.items()
        if value.dim() > 1
    }


def _channels_last(kernel: Array) -> Array:
    return np.transpose(kernel, (*range(2, kernel.ndim), 1, 0))
