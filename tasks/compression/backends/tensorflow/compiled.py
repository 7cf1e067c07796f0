"""What a file says its model was compiled with, output by output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tasks.compression.backends.tensorflow.config import KerasFile
from tasks.compression.facts import CompiledState

__all__ = ["compiled_outputs"]


def compiled_outputs(file: KerasFile, names: Sequence[str]) -> list[CompiledState]:
    """The compiled state of each of several outputs: Keras gives a single loss, or a plain list of metrics,
    to every output, and others by position or by name."""
    return [_state(file, name, index) for index, name in enumerate(names)]


def _state(file: KerasFile, name: str, index: int) -> CompiledState:
    training = file.training
    part = {
        "loss": _share(training.get("loss"), name, index),
        "metrics": _metrics(training.get("metrics"), name, index),
    }
    weight = _share(training.get("loss_weights"), name, index)
    loss_weight = float(weight) if isinstance(weight, int | float) else None
    return replace(replace(file, training=part).compiled(), loss_weight=loss_weight)


def _share(value: Any, name: str, index: int) -> Any:
    if isinstance(value, list):
        return value[index] if index < len(value) else None
    if isinstance(value, Mapping) and not _is_object(value):
        return value.get(name)
    return value


def _metrics(value: Any, name: str, index: int) -> Any:
    if isinstance(value, list) and not any(isinstance(item, list) for item in value):
        return value
    return _share(value, name, index)


def _is_object(value: Mapping[str, Any]) -> bool:
    return "class_name" in value
