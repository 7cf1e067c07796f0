"""``.onnx`` files, by PyTorch's exporter; quantised by ONNX Runtime."""

from __future__ import annotations

import ast
from collections.abc import Collection
from pathlib import Path
from typing import Any

from featherweight.spec import Quantize
from tasks.compression.backends.torch._framework import torch
from tasks.compression.backends.torch.converting import examples, with_layers_told
from tasks.compression.backends.torch.exported import open_batch
from tasks.compression.backends.torch.layers import copied, placed_layers
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.refusals import refusal
from tasks.compression.quantizing.onnx import plain, quantized_program
from tasks.compression.samples import Tensors
from tasks.compression.silence import quiet

__all__ = ["quantized_onnx", "write_onnx"]

_SCOPES = "pkg.torch.onnx.name_scopes"


def write_onnx(network: Network, path: Path) -> None:
    """The float model with an open batch, inputs and outputs by their names; equal models make equal files.

    CompressionError conversion_failed for a model that ONNX has no operations for."""
    program = _program(network)
    plain(program)
    path.write_bytes(program.SerializeToString(deterministic=True))


def quantized_onnx(
    network: Network, step: Quantize, samples: Tensors | None, kept: Collection[str]
) -> tuple[bytes, dict[str, str]]:
    """The file, and the type of every layer's weights in it: see `quantized_program`. Layers in `kept` stay
    float. CompressionError conversion_failed."""
    told = network.signature
    if network.program is not None:
        program, layers = network.program.proto(), network.program.owners
    else:
        program = _program(network)
        layers = _layers(program, network)
        plain(program)
    said = {item.key: item.value for item in program.metadata_props}
    inputs = dict(zip(told.input_names, told.input_dtypes, strict=True))
    made, types = quantized_program(program, step, samples, layers=layers, kept=kept, inputs=inputs)
    if network.program is None:
        plain(made)
    else:  # What the file says of itself is its owner's; what the quantiser adds is of no use to anybody.
        del made.metadata_props[:]
        for key, value in said.items():
            made.metadata_props.add(key=key, value=value)
    return made.SerializeToString(deterministic=True), types


def _program(network: Network) -> Any:
    import onnx

    given = examples(network.signature, batch=2)
    model = with_layers_told(copied(network.model).eval())
    try:
        with quiet():
            made: Any = torch.onnx.export(
                model,
                given,
                dynamo=True,
                dynamic_shapes=open_batch(network.signature),
                input_names=list(network.signature.input_names),
                output_names=list(network.signature.output_names),
                verbose=False,
            )
            found = made.model_proto
            onnx.checker.check_model(found)
    # The exporter raises classes of its own, the checker another, and both what is below them.
    except Exception as error:
        raise refusal("the model cannot be written as ONNX", network, error, ("onnx",)) from error
    return found


def _layers(program: Any, network: Network) -> dict[str, str]:
    """The layer of every node that came from one: that of its weights, which keep their names, or else the
    innermost that it says it was made in."""
    paths = {place.path for place in placed_layers(network.model)}
    found: dict[str, str] = {}
    for node in program.graph.node:
        told = next((item.value for item in node.metadata_props if item.key == _SCOPES), "[]")
        names = [name.rpartition(".")[0] for name in node.input]
        names += [str(name) for name in reversed(ast.literal_eval(told))]
        scope = next((name for name in names if name in paths), None)
        if scope is not None:
            found[node.name] = scope
    return found
