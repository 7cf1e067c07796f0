"""What a report should say and does not.

Nulls have their reasons, which docs/report.md states; this module states them again as conditions, so that
every other null is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from featherweight.report import LayerReport, Report, Variant

__all__ = ["gaps"]

_OF_FILES = ("zstd_bytes", "parameters", "nonzero_parameters", "distinct_weights", "macs")
_OF_PROGRAMS = ("scheme", "input_dtype", "latency", "operators", "peak_activation_bytes")
_OF_OUTPUTS = ("scheme", "input_dtype", "accuracy", "max_abs_difference", "compression_ratio")
_PROGRAMS = ("tflite", "c_array")
_FOLDED = ("BatchNormalization",)  # into the layer before it: the file has no weights of its own for it


def gaps(report: Report) -> list[str]:
    """The fields, as paths, that are null in the report of a job with a data set, a float original with a
    graph of layers, and a ``.tflite`` among its outputs. Empty for a complete one."""
    return [*_of_the_whole(report), *_of_variants(report), *_of_layers(report), *_of_steps(report)]


def _of_the_whole(report: Report) -> Iterator[str]:
    yield from _null(report, "", ("job_id", "data", "baseline"))
    for name in ("inputs", "files", "inferred", "steps", "layers", "outputs", "versions"):
        if not getattr(report, name):
            yield name
    roles = {item.role for item in report.inputs}
    yield from (f"inputs/{role}" for role in ("model", "dataset") if role not in roles)
    if report.data is not None:
        yield from _null(report.data, "data/", ("source",))


def _of_variants(report: Report) -> Iterator[str]:
    labelled, decides, by_class = _judged(report)
    yield from _null(report.original, "original/", _OF_FILES)
    if labelled:
        yield from _null(report.original, "original/", ("accuracy",))
    if labelled and by_class:
        yield from _null(report.original, "original/", ("calibration_error",))
    if report.baseline is not None:
        yield from _null(report.baseline, "baseline/", (*_OF_FILES, *_OF_PROGRAMS))
    for variant in report.outputs:
        yield from _null(
            variant, f"outputs/{variant.name}/", _of_output(variant, labelled, decides, by_class)
        )


def _of_output(variant: Variant, labelled: bool, decides: bool, by_class: bool) -> Iterator[str]:
    yield from _OF_FILES
    yield from _OF_OUTPUTS
    if variant.format in _PROGRAMS:
        yield from _OF_PROGRAMS
    if labelled:
        yield "difference"
    if decides:
        yield from ("agreement", "flipped")
    if labelled and by_class:
        yield from ("calibration_error", "by_class")


def _judged(report: Report) -> tuple[bool, bool, bool]:
    """Whether answers can be right or wrong, whether they are decisions, and whether they name one class."""
    known = {item.field: item.value for item in report.inferred}
    task = known.get("task")
    return known.get("labels") != "original", task != "regression", task in ("classification", "binary")


def _of_layers(report: Report) -> Iterator[str]:
    for layer in report.layers:
        yield from _null(layer, f"layers/{layer.name}/", _of_layer(layer, report))


def _of_layer(layer: LayerReport, report: Report) -> Sequence[str]:
    always = ("shape", "macs", "parameters_before")
    if layer.kind in _FOLDED:
        return always
    quantized = any(item.scheme not in (None, "float32", "float16") for item in report.outputs)
    return (*always, "stored_as", "bits", *(("snr_db",) if quantized else ()))


def _of_steps(report: Report) -> Iterator[str]:
    for step in report.steps:
        if step.technique in ("finetune", "distill") and not step.epochs:
            yield f"steps/{step.index}/epochs"


def _null(part: Any, path: str, names: Iterable[str]) -> Iterator[str]:
    return (f"{path}{name}" for name in dict.fromkeys(names) if getattr(part, name) is None)
