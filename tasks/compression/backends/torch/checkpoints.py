"""What decides how a training goes on, as arrays and JSON values: another attempt that takes it up ends with
the same weights bit for bit.

Batches, their augmentation and the learning rate follow from the step's seed and the place in the training,
and need nothing kept. The rest is in the network's tensors, the parts of the training, the optimiser, the
generator that dropout draws from, and the metrics of the running epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tasks.compression.backends.torch._framework import fx, torch
from tasks.compression.backends.torch.joint import RunningMetrics
from tasks.compression.backends.torch.training_parts import TrainingPart
from tasks.compression.resuming import State
from tasks.compression.samples import Array

__all__ = ["Running", "Weights", "drawing"]

Tensor = Any


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Layers that draw do so from a beginning that `seed` fixes, and leave others' draws as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class Weights:
    """The tensors of a model in training, and what its parts remember: tasks.compression.watching.Weights."""

    def __init__(self, model: fx.GraphModule, parts: Sequence[TrainingPart]) -> None:
        self._model = model
        self._parts = parts

    def read(self) -> list[Array]:
        return [*_arrays(self._tensors()), *(array for part in self._parts for array in _packed(part))]

    def write(self, arrays: Sequence[Array]) -> None:
        tensors = self._tensors()
        with torch.no_grad():
            for tensor, array in zip(tensors, arrays, strict=False):
                tensor.copy_(_tensor(array, tensor.dtype).reshape(tensor.shape))
        rest = list(arrays[len(tensors) :])
        for part in self._parts:
            told = json.loads(rest.pop(0).tobytes())
            held = [rest.pop(0) for _ in told["tensors"]]
            part.load_state_dict(told["values"] | _by_name(told["tensors"], held))

    def finite(self, arrays: Sequence[Array]) -> bool:
        """Of the model's: thresholds of the parts may be infinite."""
        pairs = zip(self._tensors(), arrays, strict=False)
        return all(
            bool(torch.isfinite(_tensor(array, tensor.dtype)).all())
            for tensor, array in pairs
            if tensor.is_floating_point()
        )

    def shapes(self) -> list[tuple[int, ...]]:
        return [tuple(tensor.shape) for tensor in self._tensors()]

    def _tensors(self) -> list[Tensor]:
        return [*self._model.parameters(), *self._model.buffers()]


class Running:
    """All that changes from step to step, as the first memory of tasks.compression.resuming.Keeping."""

    def __init__(self, weights: Weights, optimiser: Any, metrics: RunningMetrics) -> None:
        self._weights = weights
        self._optimiser = optimiser
        self._metrics = metrics

    def state(self) -> State:
        weights = self._weights.read()
        slots = [self._optimiser.state[parameter] for parameter in self._parameters()]
        held = [[(name, value) for name, value in slot.items() if _is_tensor(value)] for slot in slots]
        told = {
            "weights": len(weights),
            "sums": self._metrics.sums,
            "slots": [
                {
                    "tensors": [[name, _dtype_of(value)] for name, value in tensors],
                    "values": {name: value for name, value in slot.items() if not _is_tensor(value)},
                }
                for slot, tensors in zip(slots, held, strict=True)
            ],
        }
        arrays = _arrays(value for tensors in held for _, value in tensors)
        return State(told, [*weights, *arrays, torch.get_rng_state().numpy()])

    def resume(self, state: State) -> None:
        told, arrays = state.told, list(state.arrays)
        self._weights.write(arrays[: told["weights"]])
        rest = arrays[told["weights"] :]
        for parameter, slot in zip(self._parameters(), told["slots"], strict=True):
            held = [rest.pop(0) for _ in slot["tensors"]]
            # Not by load_state_dict, which may change the types of what it is given.
            self._optimiser.state[parameter] = slot["values"] | _by_name(slot["tensors"], held)
        torch.set_rng_state(torch.from_numpy(rest.pop(0).copy()))
        self._metrics.sums = {name: (total, count) for name, (total, count) in told["sums"].items()}

    def fits(self, state: State) -> bool:
        """Whether it is of a training such as this one; a key is a promise, and this is a look."""
        shapes = self._weights.shapes()
        slots = state.told.get("slots", ())
        return len(slots) == len(self._parameters()) and (
            [array.shape for array in state.arrays[: len(shapes)]] == shapes
        )

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self._optimiser.param_groups for parameter in group["params"]]


def _packed(part: TrainingPart) -> list[Array]:
    """What a part remembers: a JSON value as bytes, and the tensors that it names."""
    state = part.state_dict()
    held = {name: value for name, value in state.items() if _is_tensor(value)}
    told = {
        "tensors": [[name, _dtype_of(value)] for name, value in held.items()],
        "values": {name: value for name, value in state.items() if name not in held},
    }
    return [np.frombuffer(json.dumps(told).encode(), np.uint8), *_arrays(held.values())]


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _dtype_of(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _arrays(tensors: Iterable[Tensor]) -> list[Array]:
    """Copies; of types that NumPy does not know the bytes, in integers of their size."""
    return [_array(tensor.detach().contiguous()) for tensor in tensors]


def _array(tensor: Tensor) -> Array:
    plain = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    copied: Array = plain.numpy().copy()
    return copied


def _tensor(array: Array, dtype: Any) -> Tensor:
    tensor = torch.from_numpy(np.array(array))
    return tensor.view(dtype) if dtype == torch.bfloat16 else tensor


def _by_name(described: Iterable[tuple[str, str]], arrays: Iterable[Array]) -> dict[str, Tensor]:
    pairs = zip(described, arrays, strict=True)
    return {name: _tensor(array, getattr(torch, dtype)) for (name, dtype), array in pairs}
