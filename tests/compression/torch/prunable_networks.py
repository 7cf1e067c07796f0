"""Networks to prune and to cluster, a context outside of a job, and a training of a few steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter
from torch import fx, nn

from featherweight.spec import Cluster, Finetune, Prune, Step
from tasks.compression import ignore
from tasks.compression.backends.torch.cluster import cluster
from tasks.compression.backends.torch.layers import kernels, placed_layers
from tasks.compression.backends.torch.network import Network, Signature
from tasks.compression.backends.torch.prune import prune
from tasks.compression.backends.torch.training_parts import TrainingPart
from tasks.compression.context import Context
from tasks.compression.progress import Progress

__all__ = [
    "Array",
    "Everything",
    "SmallCnn",
    "codes",
    "constant",
    "context",
    "done",
    "kernel",
    "network",
    "share",
    "trained",
]

Array = npt.NDArray[Any]
_STEP: TypeAdapter[Step] = TypeAdapter(Step)


def constant(sparsity: float) -> dict[str, Any]:
    return {"type": "constant_sparsity", "target_sparsity": sparsity}


class SmallCnn(nn.Module):
    """For images (1, 12, 12)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, stride=2)
        self.mixed = nn.Conv2d(8, 12, 3, stride=2)
        self.norm = nn.BatchNorm2d(12)
        self.logits = nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x))
        return self.logits(torch.relu(self.norm(self.mixed(x))).flatten(1))


class Everything(nn.Module):
    """For words (5,): a layer of every kind with kernels, and two without."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.recurrent = nn.LSTM(8, 8, num_layers=2, batch_first=True, bidirectional=True)
        self.along = nn.Conv1d(16, 8, 3, padding=1, groups=2)
        self.depthwise = nn.Conv1d(8, 8, 3, padding=1, groups=8)
        self.up = nn.ConvTranspose1d(8, 12, 2, stride=2)
        self.norm = nn.LayerNorm((12, 10))
        self.last = nn.Linear(120, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.words(x)
        x = self.recurrent(self.attention(x, x, x)[0])[0].transpose(1, 2)
        return self.last(self.norm(self.up(self.depthwise(self.along(x)))).flatten(1))


def network(module: nn.Module, *shape: int, seed: int = 0) -> Network:
    """`module` with weights drawn anew, as a network."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(torch.randn(value.shape) / 4)
    words = len(shape) == 1
    signature = Signature(("x",), (shape,), ("int64" if words else "float32",), ("y",))
    return Network(fx.symbolic_trace(module), signature)


def context(following: dict[str, Any] | None = None, *, pointer: str = "/steps/0", seed: int = 0) -> Context:
    after = None if following is None else _STEP.validate_python(following)
    return Context(
        index=0,
        pointer=pointer,
        following=after,
        seed=seed,
        data=None,
        progress=Progress(ignore, [("prune", 1.0)]),
        scratch=Path(),
    )


def done(given: Network, *steps: dict[str, Any], trains: bool = False) -> tuple[Network, Context]:
    """The network after the steps, and the context of the last of them. With `trains` a training follows."""
    made = [_STEP.validate_python(step) for step in steps]
    around = context()
    for index, step in enumerate(made):
        after = made[index + 1] if index + 1 < len(made) else Finetune(technique="finetune")
        follows = index + 1 < len(made) or trains
        around = replace(context(pointer=f"/steps/{index}"), following=after if follows else None)
        if isinstance(step, Prune):
            given = prune(given, step, around)
        elif isinstance(step, Cluster):
            given = cluster(given, step, around)
    return given, around


def kernel(given: Network, path: str, index: int = 0) -> Array:
    (layer,) = (place.layer for place in placed_layers(given.model) if place.path == path)
    found: Array = kernels(layer)[index].detach().numpy().copy()
    return found


def trained(
    given: Network,
    part: TrainingPart,
    steps: int,
    around: Context,
    *,
    after: dict[int, Any] | None = None,
    rate: float = 0.02,
) -> Network:
    """The network after that many steps of Adam on noise, as a training has them; `after` are calls by the
    step that they follow."""
    model = part.wrap(given.model)
    part.begin(model)
    optimiser = torch.optim.Adam(model.parameters(), rate)
    chance = torch.Generator().manual_seed(1)
    (shape,) = given.signature.input_shapes
    for step in range(1, steps + 1):
        part.before_step(step)
        x = torch.randn(16, *(size or 1 for size in shape), generator=chance)
        answers = model(x)
        labels = torch.randint(answers.shape[1], [16], generator=chance)
        optimiser.zero_grad()
        nn.functional.cross_entropy(answers, labels).backward()
        optimiser.step()
        part.after_step(step)
        if after is not None and step in after:
            after[step]()
    model = part.unwrap(model)
    return part.outcome(replace(given, model=model, pending=()), steps, around)


def codes(around: Context) -> list[str]:
    return [warning.code for warning in around.record.warnings]


def share(values: Array) -> float:
    return 1 - np.count_nonzero(values) / values.size
