"""Rebuilds an ONNX program as a network of PyTorch's layers, so that it can be written in other formats.

Layers go by the names of their nodes. What the network answers is compared with what ONNX Runtime does; an
operator without a counterpart in `operators` is refused by name, and nothing is guessed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tasks.compression.backends.torch._framework import fx, nn
from tasks.compression.backends.torch.network import Network, Signature
from tasks.compression.backends.torch.predict import predict
from tasks.compression.backends.torch.programs.lowering import Graph, Unconvertible, lowered
from tasks.compression.backends.torch.programs.networks import OnnxNetwork
from tasks.compression.backends.torch.programs.operators import LOWERED
from tasks.compression.errors import CompressionError
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.onnx.message import Model, read_model
from tasks.compression.outline.onnx.reading import names_of
from tasks.compression.samples import Tensors, arrays_of, gathered

__all__ = ["converted"]

_RELATIVE, _ABSOLUTE = 1e-4, 1e-5
_SEED = 20
_HINT = "ask for the output onnx alone, or upload the PyTorch model that the file was exported from"


def converted(network: Network) -> Network:
    """The network of an ONNX program as one of layers, which keeps the program as its `program`.

    CompressionError conversion_failed for an operator that has no counterpart here, with its node, and for a
    network that answers otherwise than the program does."""
    program: OnnxNetwork = network.model
    if program.converted is None:
        program.converted = _converted(program, network.signature)
    return replace(program.converted, files=network.files, types=network.types)


def _converted(program: OnnxNetwork, signature: Signature) -> Network:
    model = read_model(program.content, Bounds())
    made = Network(_module(model), signature, program=program)
    _compare(program, made, fixed=model.inputs[0].shape is not None and model.inputs[0].shape[0] == 1)
    return made


def _module(model: Model) -> Any:
    root = fx.GraphModule(nn.Module(), fx.Graph())
    graph = Graph(root, model)
    for node, name in zip(model.nodes, names_of(model), strict=True):
        try:
            lowered(graph, node, name, LOWERED)
        except Unconvertible as error:
            raise _refused(
                f"the {node.operator} {name} has no counterpart here{_why(error)}", name
            ) from error
        # PyTorch raises RuntimeError, TypeError and ValueError for arguments that do not go together.
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as error:
            raise _refused(
                f"the {node.operator} {name} cannot be rebuilt: {_first_line(error)}", name
            ) from error
    outputs = tuple(graph.of(value.name) for value in model.outputs)
    graph.graph.output(outputs[0] if len(outputs) == 1 else outputs)
    return fx.GraphModule(root, graph.graph).eval()


def _why(error: Unconvertible) -> str:
    return f": {error}" if str(error) else ""


def _compare(program: OnnxNetwork, made: Network, *, fixed: bool) -> None:
    for count in (1,) if fixed else (2, 3):
        x = _random_inputs(made.signature, count)
        wanted = program.predict(x)
        try:
            answers = predict(made.model, made.signature, x)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise _refused(f"the network rebuilt of it does not run: {_first_line(error)}") from error
        for name, ours, theirs in zip(
            made.signature.output_names, arrays_of(answers), arrays_of(wanted), strict=True
        ):
            if ours.shape != theirs.shape or not np.allclose(ours, theirs, _RELATIVE, _ABSOLUTE):
                raise _refused(f"the network rebuilt of it answers otherwise at the output {name[:80]}")


def _random_inputs(signature: Signature, count: int) -> Tensors:
    chance = np.random.default_rng(_SEED + count)
    arrays = []
    for shape, dtype in zip(signature.input_shapes, signature.input_dtypes, strict=True):
        size = (count, *(8 if length is None else length for length in shape))
        # Every table of an embedding has the first two indices.
        drawn = chance.normal(size=size) if dtype == "float32" else chance.integers(0, 2, size)
        arrays.append(drawn.astype(dtype))
    return gathered(signature.input_names, arrays)


def _refused(what: str, layer: str | None = None) -> CompressionError:
    return CompressionError(
        "conversion_failed", f"the .onnx cannot be converted: {what}", hint=_HINT, layer=layer
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
