"""What a converter makes of a call of an operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.compression.backends.torch._framework import fx, nn
from tasks.compression.backends.torch.rebuild.held import Call, Held
from tasks.compression.errors import CompressionError

__all__ = ["Converter", "Made", "in_training_mode", "unfilled"]


@dataclass(frozen=True)
class Made:
    """A layer, its tensors by their names in it, and the nodes it is called with.

    `outputs` is 1 for a layer whose answer is the call's; else the call answers with a tuple, whose first is
    the layer's answer and of which nothing else may be needed. `unpacked` leads from the place of a tensor in
    the call's tuple to where it is in the layer's answer.
    """

    layer: nn.Module
    given: tuple[Any, ...]
    tensors: Mapping[str, Held] = field(default_factory=dict)
    outputs: int = 1
    unpacked: Mapping[int, tuple[int, ...]] | None = None


Converter = Callable[[Call], Made | None]
"""None for a call that no layer does the same as."""


def unfilled(kind: type[nn.Module], *arguments: Any, **options: Any) -> nn.Module:
    """A layer without memory for its weights, which are put into it afterwards."""
    return kind(*arguments, **options, device="meta")


def in_training_mode(node: fx.Node, what: str) -> CompressionError:
    return CompressionError(
        "unsupported_model",
        f"the program was exported in training mode: {what} ({node.name})",
        hint="call model.eval() before it is exported, as featherweight.torch.save does; the service trains "
        "it all the same",
    )
