"""A digit classifier trained once for all tests, and a context to call the quantising handler with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from featherweight.spec import CompressionSpec, OutputFormat, Quantize
from tasks.compression import ignore
from tasks.compression.backends.torch.network import Network, Signature
from tasks.compression.backends.torch.predict import predict
from tasks.compression.context import Context
from tasks.compression.data import prepare
from tasks.compression.facts import CompiledState, ModelFacts
from tasks.compression.progress import Progress
from tasks.compression.samples import Array, Tensors
from tests.compression.networks import digits
from tests.conformance.exported import trained

__all__ = ["HELD_OUT", "accuracy", "answers", "classifier", "network_of", "quantizing"]

HELD_OUT = 500
"""Of the 2,000 digits, those at the end that nothing is trained or calibrated on."""


class DigitClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.mixed = nn.Conv2d(8, 16, 3, stride=2)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(400, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.depthwise(self.stem(image)))
        return self.head(torch.relu(self.mixed(x)))


def network_of(module: nn.Module, *shapes: tuple[int, ...], outputs: Sequence[str] = ("scores",)) -> Network:
    names = ("image", "more", "yet_more")[: len(shapes)]
    signature = Signature(names, shapes, ("float32",) * len(shapes), tuple(outputs))
    return Network(fx.symbolic_trace(module), signature)


@cache
def images() -> tuple[Array, Array]:
    x, y = digits()
    return x[:, None], y


@cache
def classifier() -> Network:
    """Trained; not to be changed."""
    torch.manual_seed(0)
    x, y = (part[:-HELD_OUT] for part in images())
    return network_of(trained(DigitClassifier(), x, y), (1, 28, 28))


def answers(network: Network) -> Tensors:
    """To the digits held out."""
    return predict(network.model, network.signature, images()[0][-HELD_OUT:])


def accuracy(scores: Tensors) -> float:
    """Of scores for the digits held out."""
    return float(np.mean(np.asarray(scores).argmax(axis=1) == images()[1][-HELD_OUT:]))


def quantizing(
    network: Network, folder: Path, outputs: tuple[OutputFormat, ...], **options: Any
) -> tuple[Quantize, Context]:
    """A quantize step, and the context it is given as the only one of a spec."""
    step = {"technique": "quantize", **options}
    spec = CompressionSpec.model_validate({"steps": [step], "seed": 7})
    told = network.signature
    facts = ModelFacts(
        told.input_shapes, ((10,),), "linear", CompiledState(), told.input_names, told.output_names
    )
    progress = Progress(ignore, [("quantize", 1.0)])
    progress.begin()
    x, y = images()
    path = folder / "digits.npz"
    np.savez(path, x=x[:-HELD_OUT], y=y[:-HELD_OUT])
    data = prepare(
        path, facts, spec, folder / "decoded", progress.warn, lambda x: predict(network.model, told, x)
    )
    context = Context(0, "/steps/0", None, spec.seed, data, progress, folder, outputs=outputs)
    (asked,) = spec.steps
    assert isinstance(asked, Quantize)
    return asked, context
