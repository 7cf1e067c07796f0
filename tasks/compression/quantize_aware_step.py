"""A quantize_aware step: noted down for the training that follows to carry out."""

from __future__ import annotations

from dataclasses import replace

from featherweight.spec import QuantizeAware
from tasks.compression.context import Context
from tasks.compression.pending import Pending
from tasks.compression.rounding_choice import Chosen
from tasks.compression.underway import UnderwayT
from tasks.compression.workspace import LayerNote

__all__ = ["leave_pending"]


def leave_pending(network: UnderwayT, step: QuantizeAware, context: Context, choice: Chosen) -> UnderwayT:
    """Leave the step pending, and say what it will not round of what it selects."""
    for path, why in choice.left_float.items():
        context.record.layers[path] = LayerNote(skipped=why)
        context.warn("computed_in_float", layer=path, why=why)
    context.record.details.update(
        weight_bits=step.weight_bits, activation_bits=step.activation_bits, layers=len(choice.quantized)
    )
    return replace(network, pending=(*network.pending, Pending(step, context.pointer)))
