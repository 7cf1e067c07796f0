"""What goes from handler to handler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.compression.facts import ModelFacts
from tasks.compression.pending import Pending, Sharing, StepT
from tasks.compression.samples import Tensors
from tasks.compression.waiting import WaitingStep

__all__ = ["Loaded", "Network"]


@dataclass(frozen=True)
class Network:
    """A Keras model on its way through the steps.

    `pending` are the steps not carried out yet; `pruned` the layers earlier steps made zeros in,
    with the sparsity they were meant to have; `shared` those whose weights they made share values;
    `tflite` the converted file, once a quantize step made it;
    `tensorboard` the archive of the last training's summaries, where a prune step asked for them;
    `simulated` is what `tflite` should answer to the test split, where quantisation-aware training made it:
    the outputs of the network it was converted from, weights and activations rounded;
    `sparse_kernels` says that a float ``.tflite`` is to hold zeros encoded, for XNNPACK's sparse kernels;
    `keras3` that it came as a Keras 3 model, and is delivered as one.
    """

    model: Any
    pending: tuple[Pending[WaitingStep], ...] = ()
    pruned: Mapping[str, float] = field(default_factory=dict)
    shared: Mapping[str, Sharing] = field(default_factory=dict)
    tflite: bytes | None = None
    tensorboard: bytes | None = None
    sparse_kernels: bool = False
    simulated: Tensors | None = None
    keras3: bool = False

    def waiting(self, kind: type[StepT]) -> list[Pending[StepT]]:
        """The pending steps of one technique, in order."""
        return [Pending(item.step, item.pointer) for item in self.pending if isinstance(item.step, kind)]


@dataclass(frozen=True)
class Loaded:
    network: Network
    facts: ModelFacts
