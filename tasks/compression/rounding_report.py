"""What is said of a network that learned to be rounded, and of the file that it was converted to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from featherweight.spec import QuantizeAware
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError
from tasks.compression.rounding_choice import Chosen
from tasks.compression.tflite import weight_types

__all__ = ["ends_in_float", "note"]


def note(
    content: bytes,
    types: Mapping[str, str],
    step: QuantizeAware,
    choice: Chosen,
    matrices: Iterable[str],
    called: str,
    context: Context,
) -> None:
    """Put the file `content` into the record, and warn of layers that it holds otherwise than asked for.

    `types` are what the layers that can be told apart in it are stored as, `matrices` the paths of the
    network's layers with matrices of weights; `called` names what was done.
    """
    for path, dtype in types.items():
        if path in choice.quantized and "float32" in dtype:
            context.warn("left_float", layer=path, why="the converter has no integer kernel for it here")
        elif path in choice.unselected and dtype != "float32":
            context.warn("not_left_float", layer=path, dtype=dtype)
    for path in matrices:
        if path in choice.quantized and path not in types:
            context.warn("left_float", layer=path, why="its operation cannot be told apart in the file")
    context.record.details["quantize_aware"] = {
        "scheme": called,
        "weight_bits": step.weight_bits,
        "bytes": len(content),
        "layers": types,
        "left_float": dict(choice.left_float),
        "tensors": weight_types(content),
    }


def ends_in_float(pointer: str) -> CompressionError:
    """For a step at `pointer` that asks for integers at the ends of a network that has floats there."""
    return CompressionError(
        "layer_not_supported",
        "the inputs and outputs cannot be int8: a layer at one end of the network stays float",
        hint="select the first and the last layers too, or leave io_dtype at float32",
        pointer=f"{pointer}/io_dtype",
    )
