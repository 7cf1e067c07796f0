"""What the domain needs to know of a loaded model, in words no framework owns."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["CompiledState", "LayerFacts", "ModelFacts", "OutputFacts", "Shape", "StoredLayer"]

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
    loss_weight: float | None = None


@dataclass(frozen=True)
class LayerFacts:
    """A layer with weights. `sparsity` is the share of zeros in its prunable weights (kernels), or in all
    its weights when it has none; `prunable` says which of the two. `distinct_values` are the most that one of
    its kernels has, where they were counted; `shape` is that of its largest weight."""

    name: str
    kind: str
    parameters: int
    nonzero: int
    sparsity: float
    prunable: bool
    distinct_values: int | None = None
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class StoredLayer:
    """A layer as a delivered file has it: the type of its weights (several joined by a plus), and the signal
    to noise ratio in dB of its output against the float network's, None where that cannot be told."""

    dtype: str
    snr_db: float | None = None


@dataclass(frozen=True)
class OutputFacts:
    """What is known of one output of several: its activation, and what it was compiled with."""

    name: str
    activation: str | None
    compiled: CompiledState


@dataclass(frozen=True)
class ModelFacts:
    """`output_activation` is the last layer's: softmax, sigmoid, linear, another's name, or None; of a model
    with several outputs, the first one's. Those have an entry each in `each_output`. `input_ranges` has for
    each input how many values from 0 on it may have, None for any; it is empty where none is known."""

    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    output_activation: str | None
    compiled: CompiledState
    input_names: tuple[str, ...] = ("input",)
    output_names: tuple[str, ...] = ("output",)
    each_output: tuple[OutputFacts, ...] = ()
    input_ranges: tuple[int | None, ...] = ()

    def of_output(self, index: int) -> ModelFacts:
        """As if the model had that output alone."""
        if len(self.outputs) == 1:
            return self
        output = self.each_output[index]
        return replace(
            self,
            outputs=(self.outputs[index],),
            output_activation=output.activation,
            compiled=output.compiled,
            output_names=(output.name,),
            each_output=(),
        )
