"""A context to call a training handler with, outside of a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featherweight.spec import CompressionSpec
from tasks.compression import ignore
from tasks.compression.context import Context
from tasks.compression.data import prepare
from tasks.compression.progress import Progress
from tasks.compression.resolve import resolve_spec

__all__ = ["context_of"]


def context_of(spec: CompressionSpec, model: Path, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Context:
    """That of the first step of `spec`."""
    from tasks.compression.backends.tensorflow import backend

    progress = Progress(ignore, [(step.technique, 1.0) for step in spec.steps])
    progress.begin()
    loaded = backend.load(model, model.parent, progress.warn)
    path = model.parent / "samples.npz"
    np.savez(path, x=x, y=y)
    data = prepare(
        path,
        loaded.facts,
        spec,
        model.parent / "decoded",
        progress.warn,
        lambda x: backend.predict(loaded.network, x),
    )
    resolve_spec(spec, data)
    return Context(0, "/steps/0", None, spec.seed, data, progress, model.parent, original=loaded.network)
