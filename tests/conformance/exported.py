"""The digit classifier that PyTorch's conformance is shown on, and the kernels of what is delivered of it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tests.compression.networks import digits

__all__ = ["every_kernel", "export", "kernels_of", "save_digit_classifier"]

Array = npt.NDArray[Any]


class DigitClassifier(nn.Module):
    """As the Keras one of conftest, for images (28, 28)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, stride=2)
        self.mixed = nn.Conv2d(8, 12, 3, stride=2)
        self.logits = nn.Linear(12 * 6 * 6, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(image.unsqueeze(1)))
        return self.logits(torch.relu(self.mixed(x)).flatten(1))


def save_digit_classifier(path: Path) -> Path:
    """Trained once in a process."""
    path.write_bytes(_classifier())
    return path


def export(model: nn.Module, *shape: int) -> bytes:
    """The archive of a model for one input of that shape beside the batch axis, which is open."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = torch.export.Dim("batch", min=1, max=4096)
        program = torch.export.export(model.eval(), (torch.zeros(2, *shape),), dynamic_shapes=({0: batch},))
        torch.export.save(program, content)
    return content.getvalue()


def kernels_of(path: Path, *names: str) -> Mapping[str, Array]:
    """The kernels of layers in an archive, output channels last, inputs before."""
    held = every_kernel(path)
    return {name: held[name] for name in names}


def every_kernel(path: Path) -> Mapping[str, Array]:
    """The same of all layers that have a matrix."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        held = torch.export.load(path).state_dict
    return {
        name.removesuffix(".weight"): _outputs_last(value.detach().numpy())
        for name, value in held.items()
        if value.dim() > 1
    }


def _outputs_last(kernel: Array) -> Array:
    return kernel.transpose(*range(2, kernel.ndim), 1, 0)


@cache
def _classifier() -> bytes:
    torch.manual_seed(0)
    model, (x, y) = DigitClassifier(), digits()
    optimiser = torch.optim.Adam(model.parameters(), 0.003)
    order = np.random.default_rng(0)
    for _ in range(4):
        for chosen in np.array_split(order.permutation(len(x)), len(x) // 64):
            optimiser.zero_grad()
            answers = model(torch.from_numpy(x[chosen]))
            nn.functional.cross_entropy(answers, torch.from_numpy(y[chosen])).backward()
            optimiser.step()
    return export(model, 28, 28)
