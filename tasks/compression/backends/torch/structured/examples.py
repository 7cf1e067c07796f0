"""Made-up samples that a network is run on, to see shapes and to compare it with what it was made from."""

from __future__ import annotations

import numpy as np

from tasks.compression.backends.torch._framework import nn, torch
from tasks.compression.backends.torch.network import Signature

__all__ = ["example_inputs"]


def example_inputs(
    model: nn.Module, signature: Signature, batch: int, seed: int = 0
) -> tuple[torch.Tensor, ...]:
    """A tensor for each input: of normal floats, of numbers that every table of the model has a row for, of
    truth values."""
    rows = min((one.num_embeddings for one in model.modules() if isinstance(one, nn.Embedding)), default=2)
    rng = np.random.default_rng(seed)
    made = []
    for shape, name in zip(signature.input_shapes, signature.input_dtypes, strict=True):
        sizes, dtype = (batch, *(size or 1 for size in shape)), np.dtype(name)
        whole = rng.integers(0, 2 if dtype.kind == "b" else rows, sizes)
        values = rng.standard_normal(sizes) if dtype.kind == "f" else whole
        made.append(torch.from_numpy(values.astype(dtype)))
    return tuple(made)
