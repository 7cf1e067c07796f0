"""What goes from handler to handler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from featherweight.spec import Prune
from tasks.compression.facts import ModelFacts

__all__ = ["Loaded", "Network", "Pending"]


@dataclass(frozen=True)
class Pending:
    """A prune step that waits for the fine-tuning which carries it out."""

    step: Prune
    pointer: str


@dataclass(frozen=True)
class Network:
    """A Keras model on its way through the steps.

    `pending` are the prune steps not carried out yet; `pruned` the layers earlier steps made zeros in,
    with the sparsity they were meant to have; `tflite` the converted file, once a quantize step made it;
    `tensorboard` the archive of the last training's summaries, where a prune step asked for them;
    `sparse_kernels` says that a float ``.tflite`` is to hold zeros encoded, for XNNPACK's sparse kernels.
    """

    model: Any
    pending: tuple[Pending, ...] = ()
    pruned: Mapping[str, float] = field(default_factory=dict)
    tflite: bytes | None = None
    tensorboard: bytes | None = None
    sparse_kernels: bool = False


@dataclass(frozen=True)
class Loaded:
    network: Network
    facts: ModelFacts
