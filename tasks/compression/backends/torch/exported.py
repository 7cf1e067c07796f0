"""Exported programs of a network, which PyTorch's other formats are made from."""

from __future__ import annotations

import io
import json
from typing import Any

from tasks.compression.backends.torch._framework import torch
from tasks.compression.backends.torch.converting import examples, with_layers_told
from tasks.compression.backends.torch.layers import copied
from tasks.compression.backends.torch.network import Network, Signature
from tasks.compression.backends.torch.refusals import refusal
from tasks.compression.silence import quiet

__all__ = ["MAX_BATCH", "NAMES", "archived", "export_module", "exported", "open_batch"]

MAX_BATCH = 1024
NAMES = "featherweight.json"
"""The member of an archive that has the names of its inputs and outputs."""


def open_batch(signature: Signature) -> tuple[dict[int, Any], ...]:
    """The batch of every input as one size, from 1 to MAX_BATCH."""
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    return tuple({0: batch} for _ in signature.input_shapes)


def exported(network: Network, output: str, *, batch: bool = True) -> Any:
    """The network in evaluation as an ExportedProgram, with an open batch or for one sample.

    CompressionError conversion_failed; `output` is the format that cannot be had then."""
    model = with_layers_told(copied(network.model).eval())
    return export_module(model, network, output, batch=batch)


def export_module(model: Any, network: Network, output: str, *, batch: bool = True) -> Any:
    """The same of a module that was made of the network and takes its inputs."""
    given = examples(network.signature, 2 if batch else 1)
    shapes = open_batch(network.signature) if batch else None
    try:
        with quiet():
            return torch.export.export(model, given, dynamic_shapes=shapes)
    # Exporting raises UserError, ValueError, RuntimeError and what the model itself raises.
    except Exception as error:
        raise refusal("PyTorch cannot export the model", network, error, (output,)) from error


def archived(program: Any, signature: Signature) -> bytes:
    """As ``torch.export.save`` has it, without what says from which source, and where, it was made."""
    for node in program.graph.nodes:
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):
            node.meta.pop(key, None)
    program._example_inputs = None
    names = json.dumps({"input_names": signature.input_names, "output_names": signature.output_names})
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(program, buffer, extra_files={NAMES: names})
    return buffer.getvalue()
