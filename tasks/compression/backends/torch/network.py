"""What goes from handler to handler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from featherweight.spec import OutputFormat
from tasks.compression.backends.torch._framework import fx
from tasks.compression.facts import ModelFacts, Shape
from tasks.compression.underway import Underway

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
class Network(Underway):
    """A PyTorch module, or an ONNX program (`programs.networks.OnnxNetwork`), on its way through the steps.

    `model` calls its layers by ``call_module`` nodes, under the names they have in the caller's model; it
    takes a tensor for each input and answers with a tensor, or a tuple of them. `files` is what a quantising
    step made, by output format: a format that is not in it is written in float. `types` are those that the
    layers of an ONNX program have in its quantised file; `program` is the ONNX program that `model` was
    rebuilt of.
    """

    model: fx.GraphModule
    signature: Signature
    files: Mapping[OutputFormat, bytes] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    program: Any = None


@dataclass(frozen=True)
class Loaded:
    network: Network
    facts: ModelFacts
