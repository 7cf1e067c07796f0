"""What a quantize_aware step will do to a Keras model."""

from __future__ import annotations

from featherweight.spec import QuantizeAware
from tasks.compression.backends.tensorflow.plans.operations import OPERATIONS
from tasks.compression.backends.tensorflow.qat.support import support
from tasks.compression.outline.facts import Outline
from tasks.compression.outline.skeleton import graph_of
from tasks.compression.planning.state import Context, State
from tasks.compression.planning.techniques.quantize_aware import chosen, planned
from tasks.compression.rounding_choice import Chosen

__all__ = ["check", "plan"]


def check(outline: Outline, step: QuantizeAware, pointer: str) -> None:
    """As the handler's: CompressionError layer_not_found, layer_not_supported."""
    _chosen(outline, step, pointer)


def plan(state: State, step: QuantizeAware, context: Context) -> State:
    return planned(
        state,
        step,
        context,
        _chosen(state.outline, step, context.pointer),
        narrow=lambda layer: True,
        # What the converter makes of other layers is not told apart in the file.
        exact=lambda layer: layer.kind in OPERATIONS,
    )


def _chosen(outline: Outline, step: QuantizeAware, pointer: str) -> Chosen:
    return chosen(outline, step, pointer, support(graph_of(outline)))
