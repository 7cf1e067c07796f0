"""The bare names of what nodes call, be it Python's operators, PyTorch's functions and methods, or ATen's."""

from __future__ import annotations

from tasks.compression.backends.torch._framework import fx

__all__ = ["operation"]

_OTHER_NAMES = {
    "truediv": "div",
    "true_divide": "div",
    "divide": "div",
    "subtract": "sub",
    "rsub": "sub",
    "multiply": "mul",
    "concat": "cat",
    "concatenate": "cat",
    "swapaxes": "transpose",
    "swapdims": "transpose",
    "_unsafe_view": "view",
    "_softmax": "softmax",
    "_log_softmax": "log_softmax",
    "_to_copy": "to",
    "iadd": "add",
    "isub": "sub",
    "imul": "mul",
    "itruediv": "div",
    "__add__": "add",
    "__mul__": "mul",
}


def operation(node: fx.Node) -> str:
    """Of a node that calls a function or a method: ``add`` for ``+``, ``add_`` and ``aten.add.Tensor``."""
    if isinstance(node.target, str):
        name = node.target
    else:
        schema = getattr(node.target, "_schema", None)
        name = getattr(node.target, "__name__", str(node.target)) if schema is None else schema.name
    name = name.rpartition("::")[2]
    if not name.endswith("__"):
        name = name.rstrip("_")
    return _OTHER_NAMES.get(name, name)
