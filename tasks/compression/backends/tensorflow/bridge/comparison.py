"""Whether a rebuilt model computes what the model it was rebuilt from does, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.compression.backends.tensorflow.bridge.rebuild import Rebuilt

__all__ = ["TOLERANCE", "Differs", "apart", "compare", "random_inputs"]

TOLERANCE = 1e-3
"""Of the largest value a layer puts out, above which it does not compute the same: float32 sums taken in
another order differ by some 1e-6 a layer, and what is small after large numbers cancel out by more."""

BATCHES = (1, 3)
_FREE = 8  # the size of an axis that is open
_TOKENS = 2  # integer inputs are indices, and every vocabulary has these
_SMALLEST = 1e-6

Array = npt.NDArray[Any]


class Differs(Exception):
    """The first layer, of the name `name`, whose counterpart puts out something else, by `difference`."""

    def __init__(self, name: str, kind: str, difference: float) -> None:
        super().__init__(f"{kind} {name} differs by {difference:.2g}")
        self.name = name
        self.kind = kind
        self.difference = difference


def compare(rebuilt: Rebuilt, *, seed: int = 0, tolerance: float = TOLERANCE) -> float:
    """The largest difference of the models' outputs over batches of random inputs, each relative to the
    largest value of that output. Differs for the first layer, in the order of the graph, that is above
    `tolerance`."""
    probes = rebuilt.pairs
    ours = _probe(rebuilt.source_keras, rebuilt.source, [pair.source for pair in probes])
    theirs = _probe(rebuilt.keras, rebuilt.model, [pair.made for pair in probes])
    worst = 0.0
    for batch in random_inputs(rebuilt.source, seed):
        answers, others = _answers(ours, batch), _answers(theirs, batch)
        for pair, one, other in zip(probes, answers, others, strict=True):
            difference = apart(one, other)
            if not difference <= tolerance:
                raise Differs(pair.name, pair.kind, difference)
            if pair.output:
                worst = max(worst, difference)
    return worst


def _probe(keras: Any, model: Any, tensors: Sequence[Any]) -> Any:
    """A model that puts out what the layers of `model` do."""
    return keras.Model(list(model.inputs), list(tensors))


def random_inputs(model: Any, seed: int) -> Iterator[list[Array]]:
    """For every batch size, an array for each input: numbers around 0.5, small indices for integers and for
    what goes into an embedding, whatever its type."""
    generator = np.random.default_rng(seed)
    indices = {id(tensor) for tensor in model.inputs if _goes_into_an_embedding(model, tensor)}
    for samples in BATCHES:
        yield [_random(generator, tensor, samples, index=id(tensor) in indices) for tensor in model.inputs]


def _goes_into_an_embedding(model: Any, tensor: Any) -> bool:
    """Of either Keras."""
    return any(
        given is tensor
        for layer in model.layers
        if type(layer).__name__ == "Embedding"
        for node in layer._inbound_nodes
        for given in _listed(node.input_tensors)
    )


def _listed(tensors: Any) -> Sequence[Any]:
    return tensors if isinstance(tensors, list | tuple) else [tensors]


def _random(generator: np.random.Generator, tensor: Any, samples: int, *, index: bool) -> Array:
    shape = (samples, *(int(size or _FREE) for size in tuple(tensor.shape)[1:]))
    kind = np.dtype(getattr(tensor.dtype, "name", tensor.dtype))
    if index or kind.kind in "iu":
        return generator.integers(0, _TOKENS, shape).astype(kind)
    return generator.normal(0.5, 1.0, shape).astype(np.float32)


def _answers(model: Any, batch: list[Array]) -> list[Array]:
    outputs = model(batch, training=False)
    return [np.asarray(part, dtype=np.float32) for part in outputs]


def apart(one: Array, other: Array) -> float:
    """How far `other` is from `one`, relative to the largest value of that."""
    if one.shape != other.shape or not np.array_equal(np.isfinite(one), np.isfinite(other)):
        return float("inf")
    if not one.size:
        return 0.0
    finite = np.isfinite(one)
    gap = np.abs(np.where(finite, one, 0) - np.where(finite, other, 0)).max()
    return float(gap / max(_SMALLEST, np.abs(np.where(finite, one, 0)).max()))
