"""Where a step brought the network: how small, and how good on the test split. Nothing is chosen by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from featherweight.report import Measurement, StepReached
from tasks.compression.backends import Backend
from tasks.compression.data import Data
from tasks.compression.litert import Program
from tasks.compression.measures import measured
from tasks.compression.objectives import Objectives
from tasks.compression.samples import Tensors, arrays_of
from tasks.compression.sizes import gzip_size

__all__ = ["reached"]


_FORMATS: dict[str, Literal["tflite", "onnx"]] = {".tflite": "tflite", ".onnx": "onnx"}


def reached(backend: Backend, network: Any, saved: Path, data: Data | None, seed: int) -> StepReached:
    """Of the network after a step, which is in the directory `saved`."""
    path = backend.saved_file(saved)
    found = {} if data is None else _measured(backend, network, path, data, seed)
    aim = None if data is None else data.objective
    several = isinstance(aim, Objectives)
    main = aim.main if isinstance(aim, Objectives) else ""
    return StepReached(
        format=_FORMATS.get(path.suffix, backend.NATIVE),
        gzip_bytes=gzip_size(path),
        accuracy=found.get(main),
        by_output=(found or None) if several else None,
    )


def _measured(backend: Backend, network: Any, path: Path, data: Data, seed: int) -> dict[str, Measurement]:
    """Nothing for a network that does not run or answers with NaN: outputs like that end the job later on."""
    samples, labels = data.x[data.test], data.objective.labels[data.test]
    try:
        answers = _answers(backend, network, path, samples)
    except (RuntimeError, ValueError):
        return {}
    if not all(np.isfinite(array).all() for array in arrays_of(answers)):
        return {}
    return measured(data.objective, answers, labels, seed)


def _answers(backend: Backend, network: Any, path: Path, samples: Tensors) -> Tensors:
    format_ = _FORMATS.get(path.suffix)
    if format_ == "tflite":
        return Program(path.read_bytes()).predict(samples)
    return (
        backend.predict(network, samples) if format_ is None else backend.predict_file("onnx", path, samples)
    )
