"""Writes a network as an exported program (``.pt2``) and reads it back with the same layers."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path

from tasks.compression.backends.torch._framework import export, fx, torch
from tasks.compression.backends.torch.archive import load_archive, quietly
from tasks.compression.backends.torch.network import Signature
from tasks.compression.backends.torch.rebuild import rebuild

__all__ = ["exported", "read_model", "save_model"]

_MOST = 1024
_EXAMPLES = 2  # with one, the batch would be taken for fixed


def exported(model: fx.GraphModule, signature: Signature) -> export.ExportedProgram:
    """The network in evaluation mode as a program that takes any batch of 1 to 1,024. `model` is left as it
    is."""
    batch = export.Dim("batch", min=1, max=_MOST)
    examples = tuple(
        torch.zeros(
            (_EXAMPLES, *(1 if size is None else size for size in shape)), dtype=getattr(torch, dtype)
        )
        for shape, dtype in zip(signature.input_shapes, signature.input_dtypes, strict=True)
    )
    copied = copy.deepcopy(model).eval()
    with quietly():
        return export.export(
            copied, examples, dynamic_shapes=tuple({0: batch} for _ in examples), strict=False
        )


def save_model(model: fx.GraphModule, signature: Signature, path: Path) -> None:
    """Write the network, with the names of its inputs and outputs, as `load` and PyTorch read it; what says
    where, and from which source, it was made is left out."""
    names = {"input_names": signature.input_names, "output_names": signature.output_names}
    program = exported(model, signature)
    program.example_inputs = None
    for node in program.graph.nodes:
        for key in ("stack_trace", "custom"):
            node.meta.pop(key, None)
    made = io.BytesIO()
    with quietly():
        export.save(program, made, extra_files={"featherweight.json": json.dumps(names)})
    path.write_bytes(made.getvalue())


def read_model(path: Path) -> fx.GraphModule:
    """What `save_model` wrote, in evaluation mode, its layers under the same names."""
    program, names = load_archive(path)
    return rebuild(program, names).model
