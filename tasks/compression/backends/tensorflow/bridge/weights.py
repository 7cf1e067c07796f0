"""Copies the weights of a layer to its counterpart."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.compression.backends.tensorflow.bridge.counterparts import NoCounterpart

__all__ = ["copy_weights"]


def copy_weights(source: Any, target: Any) -> None:
    """Both built. By order, and by name where one keeps a weight that the other does not (the count of a
    Normalization). NoCounterpart where they do not match."""
    ours, theirs = list(source.weights), list(target.weights)
    if len(ours) != len(theirs):
        ours, theirs = _by_name(source, ours, theirs)
    for one, other in zip(ours, theirs, strict=True):
        if tuple(one.shape) != tuple(other.shape):
            raise NoCounterpart(
                source.name,
                type(source).__name__,
                f"its weights are shaped {tuple(one.shape)}, the counterpart's {tuple(other.shape)}",
            )
        other.assign(np.asarray(one, dtype=np.float32) if _is_float(other) else np.asarray(one))
    if ours and hasattr(target, "finalize_state"):  # Normalization computes with what it derives from them
        target.finalize_state()


def _by_name(source: Any, ours: list[Any], theirs: list[Any]) -> tuple[list[Any], list[Any]]:
    named = {_tail(weight): weight for weight in ours}
    found = [weight for weight in theirs if _tail(weight) in named]
    if len(found) != min(len(ours), len(theirs)):
        raise NoCounterpart(
            source.name,
            type(source).__name__,
            f"it has {len(ours)} weights, the counterpart {len(theirs)}",
        )
    return [named[_tail(weight)] for weight in found], found


def _tail(weight: Any) -> str:
    return str(weight.name).split("/")[-1].split(":")[0]


def _is_float(weight: Any) -> bool:
    return "float" in str(getattr(weight.dtype, "name", weight.dtype))
