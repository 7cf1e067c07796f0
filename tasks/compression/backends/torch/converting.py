"""What the writers of all formats need: inputs to trace a network with, and layers told of."""

from __future__ import annotations

from tasks.compression.backends.torch._framework import fx, torch
from tasks.compression.backends.torch.network import Signature
from tasks.compression.errors import CompressionError

__all__ = ["examples", "with_layers_told"]


def examples(signature: Signature, batch: int = 1) -> tuple[torch.Tensor, ...]:
    """Zeros to trace a model with. CompressionError conversion_failed for inputs with open axes."""
    if any(None in shape for shape in signature.input_shapes):
        raise CompressionError(
            "conversion_failed",
            "the model has inputs with open axes beside the batch, and files are converted for fixed sizes",
            hint="export it with fixed sizes, all but the batch",
        )
    shapes = zip(signature.input_shapes, signature.input_dtypes, strict=True)
    return tuple(torch.zeros((batch, *shape), dtype=getattr(torch, dtype)) for shape, dtype in shapes)


def with_layers_told(model: fx.GraphModule) -> fx.GraphModule:
    """The same model, whose exports say of every node which layer it came from: they repeat what its own
    nodes say, and those may have been made in another model."""
    for node in model.graph.nodes:
        node.meta.pop("nn_module_stack", None)
        if node.op == "call_module":
            name = str(node.target)
            node.meta["nn_module_stack"] = {name: (name, type(model.get_submodule(name)))}
    return model
