"""Models of several inputs or outputs, which do not go with a data set."""

from __future__ import annotations

from tasks.compression.errors import CompressionError

__all__ = ["refuse_many_tensors"]


def refuse_many_tensors(inputs: int, outputs: int) -> None:
    """CompressionError unsupported_model unless there is one of each."""
    if inputs != 1 or outputs != 1:
        raise CompressionError(
            "unsupported_model",
            f"the model has {inputs} inputs and {outputs} outputs; with a data set, "
            "models of one input and one output can be compressed",
            hint="leave the data set out for one-shot pruning, float16 and dynamic_int8",
        )
