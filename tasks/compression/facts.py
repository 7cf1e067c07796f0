"""What the domain needs to know of a loaded model, in words no framework owns."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CompiledState", "LayerFacts", "ModelFacts", "Shape"]

Shape = tuple[int | None, ...]
"""The shape of one sample: no batch axis, None where any size goes."""


@dataclass(frozen=True)
class CompiledState:
    """What the caller's model was compiled with, as read from the file. Names are the contract's."""

    loss: str | None = None
    from_logits: bool | None = None
    metrics: tuple[str, ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()  # (part, why) of what could not be used
    has_optimizer_state: bool = False


@dataclass(frozen=True)
class LayerFacts:
    """A layer with weights. `sparsity` is the share of zeros in its prunable weights (kernels), or in all
    its weights when it has none; `prunable` says which of the two. `distinct_values` are the most that one of
    its kernels has, where they were counted."""

    name: str
    kind: str
    parameters: int
    nonzero: int
    sparsity: float
    prunable: bool
    distinct_values: int | None = None


@dataclass(frozen=True)
class ModelFacts:
    """`output_activation` is the last layer's: softmax, sigmoid, linear, another's name, or None."""

    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    output_activation: str | None
    compiled: CompiledState
