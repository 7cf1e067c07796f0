"""Tiny PyTorch networks, and a context to call a training handler with, outside of a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from featherweight.spec import CompressionSpec, Step
from tasks.compression import ignore
from tasks.compression.backends.torch import predict as _predict
from tasks.compression.backends.torch.layers import copied
from tasks.compression.backends.torch.network import Network, Signature
from tasks.compression.context import Context
from tasks.compression.data import prepare
from tasks.compression.facts import CompiledState, ModelFacts, OutputFacts
from tasks.compression.progress import Progress
from tasks.compression.samples import gathered

__all__ = ["Array", "DigitNet", "Run", "context_of", "finetune", "network_of", "predict", "tensors"]

Array = npt.NDArray[Any]
Run = Mapping[str, Any]


class DigitNet(nn.Module):
    """For images (1, 28, 28), with everything that has a state: dropout and batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 5, stride=3)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.2)
        self.logits = nn.Linear(6 * 8 * 8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits(self.drop(torch.relu(self.norm(self.conv(x))).flatten(1)))


def network_of(
    module: nn.Module, *shapes: tuple[int, ...], outputs: tuple[str, ...] = ("output",)
) -> Network:
    """`module` as a network, for samples of these shapes."""
    names = tuple(f"input_{index}" for index in range(len(shapes))) if len(shapes) > 1 else ("input",)
    signature = Signature(names, shapes, ("float32",) * len(shapes), outputs)
    return Network(fx.symbolic_trace(module.eval()), signature)


def predict(network: Network, x: Any) -> Any:
    return _predict.predict(network.model, network.signature, x)


def tensors(network: Network) -> dict[str, Array]:
    return {name: value.detach().numpy().copy() for name, value in network.model.state_dict().items()}


def finetune(**options: Any) -> dict[str, Any]:
    return {"technique": "finetune", "epochs": 2, "batch_size": 64, **options}


def context_of(
    network: Network,
    step: dict[str, Any],
    folder: Path,
    *,
    activations: tuple[str | None, ...] = ("linear",),
    **arrays: Array,
) -> tuple[Step, Context]:
    """A training step, and the context it is given as the only one of a spec."""
    spec = CompressionSpec.model_validate({"steps": [step], "seed": 7})
    signature = network.signature
    given = [
        np.zeros((2, *[size or 1 for size in shape]), dtype)
        for shape, dtype in zip(signature.input_shapes, signature.input_dtypes, strict=True)
    ]
    shown = _predict.answers(
        network.model, _predict.as_tensors(gathered(signature.input_names, given), signature)
    )
    shapes = tuple(tuple(answer.shape[1:]) for answer in shown)
    several = [
        OutputFacts(name, activation, CompiledState())
        for name, activation in zip(signature.output_names, activations, strict=True)
    ]
    facts = ModelFacts(
        signature.input_shapes,
        shapes,
        activations[0],
        CompiledState(),
        signature.input_names,
        signature.output_names,
        tuple(several) if len(several) > 1 else (),
    )
    original = replace(network, model=copied(network.model))
    progress = Progress(ignore, [(step["technique"], 1.0)])
    progress.begin()
    path = folder / "samples.npz"
    np.savez(path, **arrays)
    data = prepare(path, facts, spec, folder / "decoded", progress.warn, lambda x: predict(original, x))
    context = Context(0, "/steps/0", None, spec.seed, data, progress, folder, original=original)
    return spec.steps[0], context
