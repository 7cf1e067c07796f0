"""Gradients of a network's loss by its weights, batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.compression.backends.torch._framework import torch
from tasks.compression.backends.torch.network import Signature
from tasks.compression.backends.torch.predict import evaluating
from tasks.compression.backends.torch.structured.graph import Variable
from tasks.compression.errors import CompressionError
from tasks.compression.structured.framework import Gradients, Loss

__all__ = ["gradients"]


def gradients(signature: Signature, model: Any, variables: list[Variable], loss: Loss | None) -> Gradients:
    """By `variables` of `model`, in evaluation. `loss` takes the labels and the outputs of a batch as
    tensors, or as tuples of them. CompressionError loss_not_inferable without one."""
    if loss is None or isinstance(loss, str):
        raise CompressionError(
            "loss_not_inferable",
            "the criterion taylor needs a loss, and a PyTorch model has none",
            hint="Name the loss.",
        )

    def step(x: Any, y: Any) -> list[Any]:
        with evaluating(model), torch.enable_grad():
            tensors = [variable.tensor for variable in variables]
            learning = [tensor.requires_grad for tensor in tensors]
            for tensor in tensors:
                tensor.requires_grad_(True)
            try:
                value = loss(_labels(y), model(*_inputs(x, signature)))
                found = torch.autograd.grad(value, tensors, materialize_grads=True, allow_unused=True)
            finally:
                for tensor, learns in zip(tensors, learning, strict=True):
                    tensor.requires_grad_(learns)
        return [gradient.numpy() for gradient in found]

    return step


def _inputs(x: Any, signature: Signature) -> tuple[torch.Tensor, ...]:
    arrays = zip(_several(x), signature.input_dtypes, strict=True)
    return tuple(torch.from_numpy(np.ascontiguousarray(array, dtype)) for array, dtype in arrays)


def _labels(y: Any) -> Any:
    """Class numbers as int64, everything else as float32."""
    tensors = tuple(
        torch.from_numpy(np.asarray(array, np.int64 if array.dtype.kind in "biu" else np.float32))
        for array in _several(y)
    )
    return tensors if isinstance(y, tuple) else tensors[0]


def _several(arrays: Any) -> tuple[Any, ...]:
    return arrays if isinstance(arrays, tuple) else (arrays,)
