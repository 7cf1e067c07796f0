"""Measures the files: the original as it came, and every output as it will be delivered."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featherweight.report import Latency, Measurement, ReportWarning, Variant, Verdict
from featherweight.spec import CompressionSpec, LayerSelection, Quantize
from tasks.compression.backends import Backend, LoadedModel
from tasks.compression.data import Data
from tasks.compression.errors import CompressionError
from tasks.compression.evaluate import Likeness, chance, compare, measure
from tasks.compression.facts import LayerFacts, Shape
from tasks.compression.formats import model_format
from tasks.compression.latency import interleaved
from tasks.compression.litert import Program
from tasks.compression.remarks import remark
from tasks.compression.sizes import gzip_size, sha256
from tasks.compression.workspace import Workspace

__all__ = ["Measured", "Original", "measure_original", "measure_outputs"]

RANDOM_SAMPLES = 8
SLOWER = 1.1  # less than a tenth more is within what the measurement repeats to

Array = npt.NDArray[Any]
Warn = Callable[[ReportWarning], None]


@dataclass(frozen=True)
class Original:
    """The uploaded file as measured. `gzip_bytes` is what outputs are compared with: the file's own gzipped
    size, or that of the model saved without the optimiser state the file holds.

    `samples` are what outputs are compared on: the test split, or seeded noise where there is no data and
    the model has one input and one output; None otherwise.
    """

    variant: Variant
    gzip_bytes: int
    samples: Array | None
    baseline: Variant | None
    program: bytes | None


@dataclass(frozen=True)
class Measured:
    """Every output's Variant; the baseline's, now with its latency; the verdict."""

    outputs: list[Variant]
    baseline: Variant | None
    verdict: Verdict


def measure_original(
    backend: Backend,
    loaded: LoadedModel,
    path: Path,
    data: Data | None,
    spec: CompressionSpec,
    workspace: Workspace,
    warn: Warn,
) -> Original:
    layers = backend.layers(loaded.network)
    samples = _samples(data, loaded.facts.inputs, loaded.facts.outputs, spec.seed)
    accuracy = None
    if data is not None and data.objective.labels_from != "original":
        outputs = backend.predict(loaded.network, data.x[data.test])
        accuracy = _measured(data, outputs, spec.seed)
        _remark_on_chance(data, accuracy, warn)
    variant = _variant("original", model_format(path), path).model_copy(
        update={"accuracy": accuracy, **_parameters(layers)}
    )
    gzip_bytes = variant.gzip_bytes
    if loaded.facts.compiled.has_optimizer_state:
        gzip_bytes = _without_optimizer(backend, loaded, workspace, warn)
    baseline, program = None, None
    if "tflite" in spec.outputs:
        baseline, program = _baseline(backend, loaded, workspace, warn)
    return Original(variant, gzip_bytes, samples, baseline, program)


def measure_outputs(
    backend: Backend,
    network: Any,
    files: Mapping[str, Path],
    original: Original,
    data: Data | None,
    spec: CompressionSpec,
    threads: int,
    warn: Warn,
) -> Measured:
    """Measure every output, and the baseline beside them.

    CompressionError verification_failed for an output that does not do what `network` does.
    """
    reference = None if original.samples is None else backend.predict(network, original.samples)
    layers = backend.layers(network)
    programs = _programs(files, threads or os.cpu_count() or 1)
    _remark_on_programs(programs, spec, warn)
    variants = []
    for output, path in files.items():
        variant = _variant(path.name, output, path).model_copy(update=_parameters(layers))
        if reference is not None and original.samples is not None:
            answers = _answers(backend, output, path, programs, original.samples)
            variant = _judged(variant, reference, answers, data, spec)
        else:
            warn(remark("not_verified", name=path.name, why="it has several inputs or outputs"))
        variants.append(_described(variant, output, spec, programs, original))
    baseline = original.baseline
    if programs:
        latencies = _latencies(files, original)
        variants = [item.model_copy(update={"latency": latencies.get(item.name)}) for item in variants]
        if baseline is not None:
            baseline = baseline.model_copy(update={"latency": latencies["baseline"]})
    _remark_on_outputs(variants, original, baseline, warn)
    return Measured(variants, baseline, _verdict(variants, original))


def _samples(
    data: Data | None, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...], seed: int
) -> Array | None:
    if data is not None:
        return data.x[data.test]
    if len(inputs) != 1 or len(outputs) != 1:
        return None
    shape = [size or 8 for size in inputs[0]]
    return np.random.default_rng(seed).random((RANDOM_SAMPLES, *shape), dtype=np.float32)


def _measured(data: Data, outputs: Array, seed: int) -> Measurement:
    return measure(data.objective, outputs, data.objective.labels[data.test], seed)


def _remark_on_chance(data: Data, accuracy: Measurement, warn: Warn) -> None:
    level = chance(data.objective, data.objective.labels[data.test])
    if level is not None and accuracy.method == "wilson" and accuracy.low <= level:
        warn(remark("baseline_near_chance", value=accuracy.value))
        _remark_on_range(data.x[data.test], warn)


def _remark_on_range(x: Array, warn: Warn) -> None:
    """Images as pixels rather than as the shares that most networks are trained on."""
    if x.ndim < 3:
        return
    low, high = float(x.min()), float(x.max())
    if low >= 0 and 1 < high <= 255:
        warn(remark("samples_of_another_range", low=low, high=high))


def _variant(name: str, kind: str, path: Path) -> Variant:
    return Variant(
        name=name, format=kind, bytes=path.stat().st_size, gzip_bytes=gzip_size(path), sha256=sha256(path)
    )


def _parameters(layers: list[LayerFacts]) -> dict[str, int]:
    return {
        "parameters": sum(layer.parameters for layer in layers),
        "nonzero_parameters": sum(layer.nonzero for layer in layers),
    }


def _without_optimizer(backend: Backend, loaded: LoadedModel, workspace: Workspace, warn: Warn) -> int:
    path = workspace.scratch / "original.keras"
    backend.write(loaded.network, "keras", path)
    size, packed = path.stat().st_size, gzip_size(path)
    path.unlink()
    warn(remark("optimizer_state_in_original", bytes=size, gzip_bytes=packed))
    return packed


def _baseline(
    backend: Backend, loaded: LoadedModel, workspace: Workspace, warn: Warn
) -> tuple[Variant | None, bytes | None]:
    try:
        program = backend.float_program(loaded.network)
    except CompressionError as error:
        warn(remark("baseline_not_convertible", why=error.detail))
        return None, None
    path = workspace.scratch / "baseline.tflite"
    path.write_bytes(program)
    variant = _variant("baseline", "tflite", path).model_copy(
        update={"scheme": "float32", "input_dtype": "float32", **_parameters(backend.layers(loaded.network))}
    )
    path.unlink()
    return variant, program


def _programs(files: Mapping[str, Path], threads: int) -> dict[str, Program]:
    return {name: _program(name, path, threads) for name, path in _tflite_files(files)}


def _program(name: str, path: Path, threads: int) -> Program:
    try:
        return Program(path.read_bytes(), threads=threads)
    except (RuntimeError, ValueError) as error:
        raise CompressionError(
            "verification_failed",
            f"LiteRT cannot run {name}: {error}",
            hint="try another quantisation scheme, or leave out the output tflite",
        ) from error


def _remark_on_programs(programs: Mapping[str, Program], spec: CompressionSpec, warn: Warn) -> None:
    for name, program in programs.items():
        if not program.open_batch:
            warn(remark("fixed_batch", name=name))
        floats = program.inner_floats() if _wholly_int8(spec) else 0
        if floats:
            warn(remark("partly_quantized", count=floats, name=name))


def _wholly_int8(spec: CompressionSpec) -> bool:
    """Whether every layer of the ``.tflite`` output was to compute in int8."""
    return any(
        isinstance(step, Quantize)
        and step.scheme == "full_int8"
        and step.layers == LayerSelection()
        and step.sensitivity is None
        for step in spec.steps
    )


def _scheme(spec: CompressionSpec) -> str:
    """Of the ``.tflite`` output."""
    return next((step.scheme for step in spec.steps if isinstance(step, Quantize)), "float32")


def _answers(
    backend: Backend, output: str, path: Path, programs: Mapping[str, Program], samples: Array
) -> Array:
    return programs[path.name].predict(samples) if output == "tflite" else backend.predict_file(path, samples)


def _judged(
    variant: Variant, reference: Array, answers: Array, data: Data | None, spec: CompressionSpec
) -> Variant:
    likeness: Likeness = compare(variant.name, reference, answers, data.objective if data else None)
    accuracy = None if data is None else _measured(data, answers, spec.seed)
    return variant.model_copy(
        update={
            "max_abs_difference": likeness.max_abs_difference,
            "agreement": likeness.agreement,
            "accuracy": accuracy,
        }
    )


def _described(
    variant: Variant,
    output: str,
    spec: CompressionSpec,
    programs: Mapping[str, Program],
    original: Original,
) -> Variant:
    scheme = _scheme(spec) if output == "tflite" else "float32"
    program = programs.get(variant.name)
    return variant.model_copy(
        update={
            "scheme": scheme,
            "input_dtype": program.input_dtype if program is not None else "float32",
            "compression_ratio": round(original.gzip_bytes / variant.gzip_bytes, 3),
        }
    )


def _latencies(files: Mapping[str, Path], original: Original) -> dict[str, Latency]:
    timed = {name: Program(path.read_bytes()) for name, path in _tflite_files(files)}
    if original.program is not None:
        timed["baseline"] = Program(original.program)
    for program in timed.values():
        program.prepare(original.samples[:1] if original.samples is not None and program.single else None)
    return interleaved(timed)


def _tflite_files(files: Mapping[str, Path]) -> list[tuple[str, Path]]:
    return [(path.name, path) for output, path in files.items() if output == "tflite"]


def _remark_on_outputs(
    variants: list[Variant], original: Original, baseline: Variant | None, warn: Warn
) -> None:
    for variant in variants:
        if variant.gzip_bytes >= original.gzip_bytes:
            warn(
                remark(
                    "larger_than_original",
                    name=variant.name,
                    value=variant.gzip_bytes,
                    baseline=original.gzip_bytes,
                )
            )
        floor = None if baseline is None else baseline.latency
        if variant.latency is None or floor is None:
            continue
        if variant.latency.p50_ms > SLOWER * floor.p50_ms:
            value = variant.latency.p50_ms
            warn(remark("slower_than_original", name=variant.name, value=value, baseline=floor.p50_ms))


def _verdict(variants: list[Variant], original: Original) -> Verdict:
    smallest = min(variants, key=lambda variant: variant.gzip_bytes)
    if smallest.gzip_bytes >= original.gzip_bytes:
        return "not_smaller"
    before, after = original.variant.accuracy, smallest.accuracy
    if before is None or after is None:
        return "smaller_unverified"
    worse = after.high < before.low if before.higher_is_better else after.low > before.high
    return "smaller_but_worse" if worse else "smaller"
