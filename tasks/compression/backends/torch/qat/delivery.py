"""The ``.tflite`` of a network whose weights are rounded already."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from featherweight.spec import Quantize, QuantizeAware
from tasks.compression.backends.torch.convert import to_tflite, trace
from tasks.compression.backends.torch.network import Network
from tasks.compression.quantizing.static import in_integers, measured_ranges
from tasks.compression.quantizing.tracing import stored_types
from tasks.compression.samples import Tensors

__all__ = ["converted"]


def converted(
    network: Network, step: QuantizeAware, samples: Tensors, left_float: Set[str]
) -> tuple[bytes, dict[str, str]]:
    """In integers, but for the layers at the paths `left_float`; and the type that every layer's weights have
    in there. The ranges of activations are those over `samples`. CompressionError conversion_failed."""
    program = to_tflite(network)
    traced = trace(network, program)
    asked: dict[str, Any] = {"technique": "quantize", "scheme": "full_int8", "io_dtype": step.io_dtype}
    content = in_integers(
        program,
        Quantize.model_validate(asked),
        samples,
        measured_ranges(program, samples),
        [item.operation for item in traced if item.layer in left_float],
        weight_bits=4 if step.weight_bits <= 4 else 8,
    )
    return content, stored_types(content, traced)
