"""What is said of a network that a converter refuses: which operator it was, and where it is called."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tasks.compression.backends.torch._framework import fx, torch
from tasks.compression.backends.torch.converting import examples
from tasks.compression.backends.torch.layers import copied
from tasks.compression.backends.torch.network import Network
from tasks.compression.errors import CompressionError
from tasks.compression.silence import quiet

__all__ = ["refusal"]

_LONGEST = 300


def refusal(
    sentence: str, network: Network, error: Exception, outputs: Sequence[str], *, hint: str | None = None
) -> CompressionError:
    """conversion_failed: the `sentence`, the place in the network, and the first line of the converter's
    `error`. The place is the module of the caller's model that calls the operator which the error names;
    where it names none, it is not told.

    The `hint` is to leave out the `outputs`, or to have them skipped, where no other is given.
    """
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0][:_LONGEST]
    node = _named(network, text)
    where, module = "", None
    if node is not None:
        module = _module(node)
        operator = str(node.target)
        where = f" at {module}" if module else ""
        where += "" if operator in line else f" ({operator})"
    names = " and ".join(outputs)
    return CompressionError(
        "conversion_failed",
        f"{sentence}{where}: {line}",
        hint=hint
        or f"replace what it names, leave out the output{'s' if len(outputs) > 1 else ''} {names}, or set "
        "on_unsupported to skip",
        layer=module,
    )


def _named(network: Network, text: str) -> fx.Node | None:
    """The call that a complaint is about, by its own name or by the operator's."""
    # Exporting fails in as many ways as converting does; then there is no name to give.
    with contextlib.suppress(Exception):
        calls = list(_calls(network))
        for pattern in (_name, _operator):
            for node in calls:
                if re.search(pattern(node), text):
                    return node
    return None


def _name(node: fx.Node) -> str:
    return rf"%{re.escape(node.name)}\b"


def _operator(node: fx.Node) -> str:
    return rf"(?<![\w.]){re.escape(str(node.target))}(?![\w.]*\w)"


def _calls(network: Network) -> Iterator[fx.Node]:
    """Those of the operators that the network comes down to."""
    model = _with_origins(copied(network.model).eval())
    with quiet():
        program = torch.export.export(model, examples(network.signature)).run_decompositions()
    yield from (node for node in program.graph.nodes if node.op == "call_function")


def _with_origins(model: fx.GraphModule) -> fx.GraphModule:
    """The same model, whose exports say of every node which module of the caller's it came from: layers by
    their own names, functions by what the caller's program said of them."""
    for node in model.graph.nodes:
        if node.op == "call_module":
            name = str(node.target)
            node.meta["nn_module_stack"] = {name: (name, type(model.get_submodule(name)))}
    return model


def _module(node: Any) -> str | None:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) or None if stack else None
