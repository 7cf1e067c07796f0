"""Layers left in float until quantisation costs no more than stated."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from featherweight.spec import Quantize, Sensitivity
from tasks.compression.backends.tensorflow.calibration import COMPARED
from tasks.compression.backends.tensorflow.predict import predict
from tasks.compression.backends.tensorflow.sensitivity import SAMPLES, LayerError, layer_errors
from tasks.compression.backends.tensorflow.source import Make, Source, quantized_layers
from tasks.compression.context import Context
from tasks.compression.data import Data
from tasks.compression.evaluate import measure
from tasks.compression.litert import Program
from tasks.compression.split import draw

__all__ = ["leave_float"]


def leave_float(
    make: Make, content: bytes, source: Source, step: Quantize, wanted: Sensitivity, context: Context
) -> tuple[bytes, frozenset[str]]:
    """Leave layers in float, the most harmful first, until the metric has dropped by no more than stated; of
    what was tried, the first that met it or else the one that dropped least."""
    data = context.training_data
    chosen = draw(data.validation, COMPARED, context.seed)
    errors = layer_errors(source.program, content, source.traced, data.x[draw(chosen, SAMPLES, context.seed)])
    floor = _metric(data, chosen, predict(source.model, data.x[chosen]))
    tried = [(floor - _metric_of(content, data, chosen), content, source.unselected)]
    candidates = quantized_layers(source, step, source.unselected)
    harmful = [entry for entry in errors if entry.layer in candidates and entry.added > 0]
    for entry in harmful[: wanted.max_float_layers]:
        kept = tried[-1][2] | {entry.layer}
        if tried[-1][0] <= wanted.max_drop or not quantized_layers(source, step, kept):
            break
        made = make(kept)
        tried.append((floor - _metric_of(made, data, chosen), made, kept))
    drop, content, kept = min(tried, key=lambda item: (max(item[0], wanted.max_drop), len(item[2])))
    _tell(errors, tried[0][0], drop, kept - source.unselected, wanted, context)
    return content, kept


def _tell(
    errors: list[LayerError],
    first: float,
    drop: float,
    kept: frozenset[str],
    wanted: Sensitivity,
    context: Context,
) -> None:
    context.record.details["sensitivity"] = {
        "drop_before": round(first, 6),
        "drop": round(drop, 6),
        "left_float": sorted(kept),
        "layers": [
            {"layer": entry.layer, "snr_db": entry.snr_db, "cosine": entry.cosine} for entry in errors
        ],
    }
    if drop > wanted.max_drop:
        metric = context.training_data.objective.metrics[0]
        context.warn("drop_not_met", layers=len(kept), metric=metric, drop=drop, wanted=wanted.max_drop)


def _metric_of(content: bytes, data: Data, chosen: npt.NDArray[np.int64]) -> float:
    return _metric(data, chosen, Program(content).predict(data.x[chosen]))


def _metric(data: Data, chosen: npt.NDArray[np.int64], outputs: npt.NDArray[Any]) -> float:
    """The objective's first metric, turned so that more is better."""
    measured = measure(data.objective, outputs, data.objective.labels[chosen], seed=0)
    return measured.value if measured.higher_is_better else -measured.value
