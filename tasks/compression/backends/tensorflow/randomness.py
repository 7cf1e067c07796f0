"""The draws of layers that draw: dropout, noise, and image preprocessing.

Keras' own default are operations that keep the state of their generator where nobody can read or set it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["own_generators"]


@contextmanager
def own_generators(model: Any, seed: int) -> Iterator[list[Any]]:
    """While in the context every such layer of `model` draws from a generator of its own, which `seed` and
    the layer's place in the model begin. Gives the variables with the generators' states.

    A function traced in the context keeps its generators.
    """
    layers = [layer for layer in model._flatten_layers() if hasattr(layer, "_random_generator")]
    before = [layer._random_generator for layer in layers]
    seeds = np.random.SeedSequence(seed).generate_state(max(1, len(layers))) >> 1  # Keras takes 31 bits
    states = []
    for layer, theirs, drawn in zip(layers, before, seeds, strict=False):
        own = type(theirs)(int(drawn), rng_type=theirs.RNG_STATEFUL)
        own._maybe_init()
        states.append(own._generator.state)
        _give(layer, own)
    try:
        yield states
    finally:
        for layer, theirs in zip(layers, before, strict=True):
            _give(layer, theirs)


def _give(layer: Any, generator: Any) -> None:
    # Not layer._random_generator = ...: Keras would take it for a part of what it saves.
    object.__setattr__(layer, "_random_generator", generator)
