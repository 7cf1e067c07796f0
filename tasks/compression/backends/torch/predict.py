"""What a network answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from tasks.compression.backends.torch._framework import fx, torch
from tasks.compression.backends.torch.network import Signature
from tasks.compression.samples import Array, Tensors, arrays_of, gathered

__all__ = ["answers", "as_tensors", "evaluating", "predict"]

MAX_BATCH = 1024
BATCH_VALUES = 1 << 20


def predict(model: fx.GraphModule, signature: Signature, x: Tensors) -> Tensors:
    """Outputs for samples `x` (axis 0) as float32, in evaluation; the model's mode is left as it was."""
    batch = _batch_size(x)
    with evaluating(model), torch.inference_mode():
        parts = [
            [_plain(output) for output in answers(model, as_tensors(x[start : start + batch], signature))]
            for start in range(0, len(x), batch)
        ]
    outputs = [np.concatenate(output) for output in zip(*parts, strict=True)]
    return gathered(signature.output_names, outputs)


def answers(model: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The outputs as a tuple, of a single one too."""
    found = model(*given)
    return (found,) if isinstance(found, torch.Tensor) else tuple(found)


def as_tensors(x: Tensors, signature: Signature) -> tuple[torch.Tensor, ...]:
    """The arrays of samples as tensors of the types that the inputs have."""
    arrays = zip(arrays_of(x), signature.input_dtypes, strict=True)
    return tuple(torch.from_numpy(np.ascontiguousarray(array, dtype=dtype)) for array, dtype in arrays)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Every layer's mode is afterwards as it was before; they may be in different ones: batch normalisation
    that is frozen while the others train."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _plain(output: torch.Tensor) -> Array:
    return np.asarray(output.detach().numpy(), dtype=np.float32)


def _batch_size(x: Tensors) -> int:
    """As many samples as make a million values, so that the layers' outputs stay small too; 1 to 1,024."""
    values = sum(array[:1].size for array in arrays_of(x))
    return max(1, min(MAX_BATCH, BATCH_VALUES // max(1, values)))
