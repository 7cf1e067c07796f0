"""Post-training quantisation: by which converter, of which layers, calibrated on which samples."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from featherweight.spec import LayerSelection, Quantize, Sensitivity
from tasks.compression.backends.tensorflow.convert import to_tflite
from tasks.compression.backends.tensorflow.converted import (
    calibrated,
    convert_int16,
    convert_weights,
    integers,
)
from tasks.compression.backends.tensorflow.layers import select
from tasks.compression.backends.tensorflow.lowbits import obstacle, quantize_weights
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.predict import predict
from tasks.compression.backends.tensorflow.sensitivity import LayerError, layer_errors
from tasks.compression.backends.tensorflow.tracing import Traced, trace
from tasks.compression.context import Context
from tasks.compression.data import Data
from tasks.compression.divergence import divergence
from tasks.compression.errors import CompressionError
from tasks.compression.evaluate import measure
from tasks.compression.litert import Program
from tasks.compression.split import draw
from tasks.compression.tflite import operations, weight_types

__all__ = ["check", "quantize"]

COMPARED = 2000
"""Validation samples that candidates are compared on, at most."""

SHARES = (1, 4, 16)
"""Candidates for calibration take all, a quarter and a sixteenth of `calibration_samples` in turn: ranges
grow with the samples seen, and the widest are not the best."""

MIN_CALIBRATION = 10

Array = npt.NDArray[Any]
Make = Callable[[frozenset[str]], bytes]
"""Makes the quantised file with the layers named left in float."""


def check(network: Network, step: Quantize, pointer: str) -> None:
    """CompressionError layer_not_found."""
    select(network.model, step.layers, f"{pointer}/layers")


def quantize(network: Network, step: Quantize, context: Context) -> Network:
    """Convert to a quantised ``.tflite``; the Keras model stays float.

    CompressionError conversion_failed; layer_not_supported when none of the layers selected can be had as
    asked.
    """
    source = _source(network.model, step, context)
    makers = _makers(source, step, context)
    make = makers[0] if len(makers) == 1 else _best(makers, source, context)
    content, kept = make(source.unselected), source.unselected
    if step.sensitivity is not None:
        content, kept = _sensitive(make, content, source, step, step.sensitivity, context)
    _account(content, source, kept, step, context)
    context.record.details.update(scheme=step.scheme, bytes=len(content), tensors=weight_types(content))
    return replace(network, tflite=content)


@dataclass(frozen=True)
class _Source:
    """`program` is the model as a float file, `traced` its operations; `unselected` the paths of the layers
    that `layers` leaves out; `pointer` is the step's."""

    model: Any
    program: bytes
    traced: tuple[Traced, ...]
    unselected: frozenset[str]
    pointer: str


def _source(model: Any, step: Quantize, context: Context) -> _Source:
    everything = {place.path for place in select(model, LayerSelection(), context.pointer)}
    selected = {place.path for place in select(model, step.layers, f"{context.pointer}/layers")}
    program = to_tflite(model)
    traced = tuple(trace(model, program))
    lost = sum(item.layer is None and item.operation.weights is not None for item in traced)
    if lost and selected != everything:
        context.warn("untraced_weights", count=lost)
    return _Source(model, program, traced, frozenset(everything - selected), context.pointer)


def _makers(source: _Source, step: Quantize, context: Context) -> list[Make]:
    """A maker for each candidate for calibration; one where nothing is calibrated."""
    if not step.calibrates:
        return [partial(_by_weights, source, step, None)]
    data = context.training_data
    subsets = [data.x[chosen] for chosen in _subsets(data, step, context)]
    context.record.details["calibration_samples"] = len(subsets[0])
    if step.scheme == "int16x8":
        return [lambda _kept, samples=samples: convert_int16(source.model, samples) for samples in subsets]  # type: ignore[misc]
    if step.scheme == "full_int8":
        return [partial(_by_integers, source, step, samples, {}) for samples in subsets]
    return [partial(_by_weights, source, step, subsets[0])]


def _subsets(data: Data, step: Quantize, context: Context) -> list[npt.NDArray[np.int64]]:
    subsets = [data.calibration]
    for index in range(1, step.calibration_candidates):
        wanted = max(MIN_CALIBRATION, step.calibration_samples // SHARES[index % len(SHARES)])
        count = min(wanted, step.calibration_samples)
        subsets.append(draw(data.train, count, context.seed + 2 + index))
    return subsets


def _by_integers(
    source: _Source, step: Quantize, samples: Array, calibration: dict[str, bytes], kept: frozenset[str]
) -> bytes:
    """`calibration` remembers the calibrated file, which does not depend on the layers kept."""
    if "file" not in calibration:
        per_tensor = step.granularity == "per_tensor"
        calibration["file"] = calibrated(source.model, samples, per_tensor=per_tensor)
    names = [name for item in source.traced if item.layer in kept for name in item.operation.outputs]
    return integers(calibration["file"], step, names)


def _by_weights(source: _Source, step: Quantize, samples: Array | None, kept: frozenset[str]) -> bytes:
    if step.scheme in ("float16", "dynamic_int8") and not kept:
        return convert_weights(source.model, step.scheme)
    chosen = [
        item.operation
        for item in source.traced
        if item.layer not in kept and obstacle(item.operation, step) is None
    ]
    if not chosen:
        why = next(iter(_obstacles(source, step, kept).values()), "none of them has weights")
        raise CompressionError(
            "layer_not_supported",
            f"no layer selected can be quantised as asked: {why}",
            hint="choose other weight_bits, granularity, block_size or algorithm",
            pointer=source.pointer,
        )
    return quantize_weights(source.program, step, chosen, samples)


def _obstacles(source: _Source, step: Quantize, kept: frozenset[str]) -> dict[str, str]:
    """Why selected layers with weights cannot be quantised as asked."""
    found: dict[str, str] = {}
    for item in source.traced:
        if item.layer is None or item.layer in kept or item.operation.weights is None:
            continue
        why = None if step.calibrates_ranges else obstacle(item.operation, step)
        if why is not None:
            found[item.layer] = why
    return found


def _best(makers: list[Make], source: _Source, context: Context) -> Make:
    """The candidate whose outputs on the validation split diverge least from the float model's."""
    data = context.training_data
    samples = data.x[data.validation[:COMPARED]]
    reference = predict(source.model, samples)
    scores = []
    for index, make in enumerate(makers):
        outputs = Program(make(source.unselected)).predict(samples)
        scores.append(divergence(data.objective, reference, outputs))
        context.progress.advance(index + 1, len(makers) + 1)
    best = int(np.argmin(scores))
    context.record.details["calibration"] = {
        "chosen": best,
        "divergence": [float(f"{score:.6g}") for score in scores],
        "compared_on": len(samples),
    }
    return makers[best]


def _sensitive(
    make: Make, content: bytes, source: _Source, step: Quantize, wanted: Sensitivity, context: Context
) -> tuple[bytes, frozenset[str]]:
    """Leave layers in float, the most harmful first, until the metric has dropped by no more than stated; of
    what was tried, the first that met it or else the one that dropped least."""
    data = context.training_data
    chosen = data.validation[:COMPARED]
    errors = layer_errors(source.program, content, source.traced, data.x[chosen])
    floor = _metric(data, predict(source.model, data.x[chosen]), context.seed)
    tried = [(floor - _metric_of(content, data, context.seed), content, source.unselected)]
    for entry in errors[: wanted.max_float_layers]:
        if tried[-1][0] <= wanted.max_drop or entry.added <= 0:
            break
        kept = tried[-1][2] | {entry.layer}
        if not _something_left(source, step, kept):
            break
        made = make(kept)
        tried.append((floor - _metric_of(made, data, context.seed), made, kept))
    drop, content, kept = min(tried, key=lambda item: (max(item[0], wanted.max_drop), len(item[2])))
    _tell(errors, tried[0][0], drop, kept - source.unselected, wanted, context)
    return content, kept


def _something_left(source: _Source, step: Quantize, kept: frozenset[str]) -> bool:
    return any(
        item.operation.weights is not None
        and item.layer not in kept
        and (step.calibrates_ranges or obstacle(item.operation, step) is None)
        for item in source.traced
    )


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


def _metric_of(content: bytes, data: Data, seed: int) -> float:
    return _metric(data, Program(content).predict(data.x[data.validation[:COMPARED]]), seed)


def _metric(data: Data, outputs: Array, seed: int) -> float:
    """The objective's first metric, turned so that more is better."""
    measured = measure(data.objective, outputs, data.objective.labels[data.validation[:COMPARED]], seed)
    return measured.value if measured.higher_is_better else -measured.value


def _account(content: bytes, source: _Source, kept: frozenset[str], step: Quantize, context: Context) -> None:
    """The type every layer's weights have in the file goes into the report; a layer that was selected and
    is float all the same is said."""
    types = _types(content, source)
    context.record.details["layers"] = types
    why = _obstacles(source, step, kept)
    for layer, dtype in types.items():
        if layer in kept and dtype != "float32":
            context.warn("not_left_float", layer=layer, dtype=dtype)
        elif layer not in kept and "float32" in dtype:
            context.warn("left_float", layer=layer, why=why.get(layer, "the converter has no kernel for it"))
    if set(types.values()) == {"float32"}:
        context.warn("nothing_changed", index=context.index, technique=step.technique)


def _types(content: bytes, source: _Source) -> dict[str, str]:
    """Of the weights of every layer, as the file has them."""
    stored = {
        name: item.weights.dtype
        for item in operations(content)
        if item.weights is not None and item.kind != "DEQUANTIZE"
        for name in (*item.outputs, _unnumbered(item.weights.name), item.weights.name)
    }
    types: dict[str, set[str]] = {}
    for item in source.traced:
        weights = item.operation.weights
        if item.layer is None or weights is None:
            continue
        names = (weights.name, *item.operation.outputs, _unnumbered(weights.name))
        dtype = next((stored[name] for name in names if name in stored), "unknown")
        types.setdefault(item.layer, set()).add(dtype)
    return {layer: "+".join(sorted(found)) for layer, found in types.items()}


def _unnumbered(name: str) -> str:
    """The converter numbers tensors of one name, the float file's not as the quantised one's."""
    return re.sub(r"\d+$", "", name)
