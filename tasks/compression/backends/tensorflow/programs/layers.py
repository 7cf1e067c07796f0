"""What stands for layers in a network without: the operations of its float ``.tflite`` that hold weights."""

from __future__ import annotations

from dataclasses import dataclass

from featherweight.spec import LayerSelection, Quantize
from tasks.compression.backends.tensorflow.programs.networks import Graph, Layerless
from tasks.compression.facts import LayerFacts
from tasks.compression.outline.described import described as _described
from tasks.compression.outline.skeleton import cost
from tasks.compression.quantizing.tracing import Traced
from tasks.compression.quantizing.weight_kernels import refused_loops
from tasks.compression.selection import select_from
from tasks.compression.tflite import operations

__all__ = ["check_step", "described", "macs_by_operation", "selected", "traced"]


@dataclass(frozen=True)
class _Place:
    path: str
    weighted: bool

    @property
    def name(self) -> str:
        return self.path


def described(model: Layerless) -> list[LayerFacts]:
    return _described(model.outline)


def macs_by_operation(model: Layerless) -> dict[str, int] | None:
    found = cost(model.outline)
    return None if found.unknown else found.macs


def traced(program: bytes) -> tuple[Traced, ...]:
    """Every operation, as a layer of its own."""
    return tuple(Traced(operation, operation.outputs[0]) for operation in operations(program))


def selected(model: Layerless, selection: LayerSelection, pointer: str) -> set[str]:
    """The operations that `selection` names. CompressionError layer_not_found."""
    weighted = {layer.path for layer in model.outline.layers if layer.weights}
    names = [operation.outputs[0] for operation in operations(model.program)]
    places = [_Place(name, name in weighted) for name in names]
    chosen = select_from(places, selection, pointer, weighted=lambda place: place.weighted)
    return {place.path for place in chosen}


def check_step(model: Layerless, step: Quantize, pointer: str) -> None:
    """CompressionError layer_not_found; layer_not_supported where ranges in loops would be calibrated."""
    if isinstance(model, Graph) and model.loops and step.calibrates_ranges:
        raise refused_loops(step, pointer)
    selected(model, step.layers, f"{pointer}/layers")
