"""Layers left in float until quantisation costs no more than stated."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featherweight.report import Measurement
from featherweight.spec import Quantize, Sensitivity
from tasks.compression.context import Context
from tasks.compression.data import Data
from tasks.compression.litert import Program
from tasks.compression.measures import Measures, measured
from tasks.compression.objectives import each_output
from tasks.compression.quantizing.calibration import COMPARED
from tasks.compression.quantizing.sensitivity import SAMPLES, LayerError, layer_errors
from tasks.compression.quantizing.source import Make, Source, quantized_layers
from tasks.compression.samples import Tensors
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
    floor = _metrics(data, chosen, source.predict(data.x[chosen]))
    tried = [(*_drop(floor, content, data, chosen), content, source.unselected)]
    candidates = quantized_layers(source, step, source.unselected)
    harmful = [entry for entry in errors if entry.layer in candidates and entry.added > 0]
    for entry in harmful[: wanted.max_float_layers]:
        kept = tried[-1][3] | {entry.layer}
        if tried[-1][0] <= wanted.max_drop or not quantized_layers(source, step, kept):
            break
        made = make(kept)
        tried.append((*_drop(floor, made, data, chosen), made, kept))
    drop, metric, content, kept = min(tried, key=lambda item: (max(item[0], wanted.max_drop), len(item[3])))
    _tell(errors, tried[0][0], drop, metric, kept - source.unselected, wanted, context)
    return content, kept


def _tell(
    errors: list[LayerError],
    first: float,
    drop: float,
    metric: str,
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
        context.warn("drop_not_met", layers=len(kept), metric=metric, drop=drop, wanted=wanted.max_drop)


def _drop(floor: Measures, content: bytes, data: Data, chosen: npt.NDArray[np.int64]) -> tuple[float, str]:
    """How far the metric drops, and what it is called; of several outputs, the one that drops most."""
    values = _metrics(data, chosen, Program(content).predict(data.x[chosen]))
    drops = {name: _good(floor[name]) - _good(item) for name, item in values.items()}
    worst = max(drops, key=lambda name: drops[name])
    metric = {name: part.metrics[0] for name, part, _ in each_output(data.objective)}[worst]
    return drops[worst], f"{metric} of the output {worst}" if worst else metric


def _metrics(data: Data, chosen: npt.NDArray[np.int64], outputs: Tensors) -> Measures:
    return measured(data.objective, outputs, data.objective.labels[chosen], seed=0)


def _good(item: Measurement) -> float:
    """Turned so that more is better."""
    return item.value if item.higher_is_better else -item.value
