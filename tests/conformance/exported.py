"""The digit classifier that PyTorch's conformance is shown on, and the kernels of what is delivered of it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tests.compression.networks import digits

__all__ = [
    "DigitClassifier",
    "every_kernel",
    "export",
    "kernels_of",
    "save_digit_classifier",
    "trained",
    "trained_classifier",
]

Array = npt.NDArray[Any]
Module = TypeVar("Module", bound=nn.Module)


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


def export(model: nn.Module, *shape: int, most: int = 4096) -> bytes:
    """The archive of a model for one input of that shape beside the batch axis, open up to `most`."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = torch.export.Dim("batch", min=1, max=most)
        program = torch.export.export(model.eval(), (torch.zeros(2, *shape),), dynamic_shapes=({0: batch},))
        torch.export.save(program, content)
    return content.getvalue()


def kernels_of(path: Path, *names: str) -> Mapping[str, Array]:
    """The kernels of layers in an archive, output channels last, inputs before."""
    held = every_kernel(path)
    return {name: held[name] for name in names}


def every_kernel(path: Path) -> Mapping[str, Array]:
    """The same of all layers that have a matrix; of one in integers, the values that those stand for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchao.quantization.pt2e  # noqa: F401 - brings the operators of such a file

        program = torch.export.load(path)
    held = {name: value for name, value in program.state_dict.items() if name.endswith("weight")}
    found = {name.removesuffix(".weight"): value for name, value in held.items() if value.dim() > 1}
    found |= dict(_in_integers(program))
    return {name: _outputs_last(value.detach().numpy()) for name, value in found.items()}


def _in_integers(program: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """By the layer whose bias is added to what they make: such a file has no other names of layers. Those of
    layers without a bias go by their number."""
    places = {item.arg.name: item.target for item in program.graph_signature.input_specs if item.target}
    for number, node in enumerate(program.graph.nodes):
        if not str(node.target).startswith("quantized_decomposed.dequantize_per_channel"):
            continue
        values, scale, zero = (program.state_dict[places[item.name]] for item in node.args[:3])
        (user,) = node.users
        bias = user.args[2] if len(user.args) > 2 else None
        path = str(number) if bias is None else places[bias.name].removesuffix(".bias")
        shape = (-1, *[1] * (values.dim() - 1))
        yield path, (values.float() - zero.reshape(shape)) * scale.reshape(shape)


def _outputs_last(kernel: Array) -> Array:
    return kernel.transpose(*range(2, kernel.ndim), 1, 0)


@cache
def _classifier() -> bytes:
    return export(trained_classifier(), 28, 28)


def trained_classifier() -> DigitClassifier:
    """Always the same."""
    torch.manual_seed(0)
    return trained(DigitClassifier(), *digits())


def trained(model: Module, x: Array, y: Array) -> Module:
    """A little, from the weights it has; in evaluation afterwards."""
    optimiser = torch.optim.Adam(model.parameters(), 0.003)
    order = np.random.default_rng(0)
    for _ in range(4):
        for chosen in np.array_split(order.permutation(len(x)), len(x) // 64):
            optimiser.zero_grad()
            answers = model(torch.from_numpy(x[chosen]))
            nn.functional.cross_entropy(answers, torch.from_numpy(y[chosen])).backward()
            optimiser.step()
    return model.eval()
