"""What goes from handler to handler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from featherweight.spec import OutputFormat
from tasks.compression.backends.torch._framework import fx
from tasks.compression.facts import ModelFacts, Shape
from tasks.compression.pending import Pending, Sharing, StepT
from tasks.compression.samples import Tensors
from tasks.compression.waiting import WaitingStep

__all__ = ["Loaded", "Network", "Signature"]


@dataclass(frozen=True)
class Signature:
    """What goes in and comes out. Shapes are of one sample, without the batch axis; types go by NumPy's
    names."""

    input_names: tuple[str, ...]
    input_shapes: tuple[Shape, ...]
    input_dtypes: tuple[str, ...]
    output_names: tuple[str, ...]


@dataclass(frozen=True)
class Network:
    """A PyTorch module, or an ONNX program (`programs.networks.OnnxNetwork`), on its way through the steps.

    `model` calls its layers by ``call_module`` nodes, under the names they have in the caller's model; it
    takes a tensor for each input and answers with a tensor, or a tuple of them. `pending` are the steps not
    carried out yet; `pruned` the layers earlier steps made zeros in, with the sparsity they were meant to
    have; `shared` those whose weights they made share values; `files` what a quantising step made, by output
    format: a format that is not in it is written in float; `simulated` is what a file in integers should
    answer to the test split, where quantisation-aware training made it; `tensorboard` the archive of the last
    training's summaries, where a prune step asked for them; `types` are those that the layers of an ONNX
    program have in its quantised file; `program` is the ONNX program that `model` was rebuilt of.
    """

    model: fx.GraphModule
    signature: Signature
    pending: tuple[Pending[WaitingStep], ...] = ()
    pruned: Mapping[str, float] = field(default_factory=dict)
    shared: Mapping[str, Sharing] = field(default_factory=dict)
    files: Mapping[OutputFormat, bytes] = field(default_factory=dict)
    simulated: Tensors | None = None
    tensorboard: bytes | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    program: Any = None

    def waiting(self, kind: type[StepT]) -> list[Pending[StepT]]:
        """The pending steps of one technique, in order."""
        return [Pending(item.step, item.pointer) for item in self.pending if isinstance(item.step, kind)]


@dataclass(frozen=True)
class Loaded:
    network: Network
    facts: ModelFacts
