"""Measures the files: the original as it came, and every output as it will be delivered."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.report import Difference, Latency, Measurement, ReportWarning, Variant, Verdict
from featherweight.spec import CompressionSpec, LayerSelection, Quantize, QuantizeAware
from tasks.compression.arena import arena_bytes
from tasks.compression.backends import Backend, LoadedModel
from tasks.compression.changes import Change
from tasks.compression.contents import contents
from tasks.compression.data import Data
from tasks.compression.delivery import Delivery
from tasks.compression.errors import CompressionError
from tasks.compression.evaluate import chance
from tasks.compression.facts import ModelFacts
from tasks.compression.formats import model_format
from tasks.compression.latency import interleaved
from tasks.compression.litert import Program
from tasks.compression.measures import changed, compared, described, losses, measured, outcomes
from tasks.compression.objective import Objective
from tasks.compression.objectives import each_output
from tasks.compression.onnx_program import OnnxProgram
from tasks.compression.open_sizes import refused_by_litert
from tasks.compression.outputs import FILES, PROGRAMS, holds_program, program_in
from tasks.compression.remarks import remark
from tasks.compression.samples import Array, Tensors, arrays_of, gathered
from tasks.compression.sizes import gzip_size, sha256, zstd_size
from tasks.compression.workspace import Workspace

__all__ = ["Measured", "Original", "measure_original", "measure_outputs", "verdict"]

RANDOM_SAMPLES = 8
SLOWER = 1.1  # less than a tenth more is within what the measurement repeats to

Warn = Callable[[ReportWarning], None]


@dataclass(frozen=True)
class Original:
    """The uploaded file as measured. `gzip_bytes` is what outputs are compared with: the file's own gzipped
    size, or that of the model saved without the optimiser state the file holds.

    `samples` are what outputs are compared on: the test split, or seeded noise where there is no data;
    None where several inputs have open axes, which noise may not fit. `answers` are the original's own to the
    test split, None where there is no data; `path` is the file.
    """

    variant: Variant
    gzip_bytes: int
    samples: Tensors | None
    baseline: Variant | None
    program: bytes | None
    answers: Tensors | None = None
    path: Path | None = None


@dataclass(frozen=True)
class Measured:
    """Every output's Variant; the original and the baseline, now with their latency; the verdict."""

    outputs: list[Variant]
    original: Original
    baseline: Variant | None
    verdict: Verdict


def measure_original(
    backend: Backend,
    loaded: LoadedModel,
    path: Path,
    data: Data | None,
    seed: int,
    workspace: Workspace,
    delivery: Delivery,
    warn: Warn,
) -> Original:
    """The baseline too, where an output holds a LiteRT program. A model that cannot be converted to one goes
    on without these outputs; CompressionError conversion_failed as of Delivery.leave_out."""
    samples = _samples(data, loaded.facts, seed)
    answers = None if data is None else backend.predict(loaded.network, data.x[data.test])
    fields = {} if data is None or answers is None else _of_original(answers, data, seed, warn)
    variant = _variant("original", model_format(path), path).model_copy(
        update={**fields, **_network(backend, loaded.network)}
    )
    gzip_bytes = variant.gzip_bytes
    if loaded.facts.compiled.has_optimizer_state:
        gzip_bytes = _without_optimizer(backend, loaded, workspace, warn)
    baseline: Variant | None = None
    program: bytes | None = None
    if holds_program(delivery.wanted):
        try:
            program = backend.float_program(loaded.network)
        except CompressionError as error:
            delivery.leave_out(PROGRAMS, error, warn)
        else:
            baseline = _baseline(backend, loaded, program, workspace)
    return Original(variant, gzip_bytes, samples, baseline, program, answers, path)


def measure_outputs(
    backend: Backend,
    network: Any,
    files: Mapping[str, Path],
    original: Original,
    data: Data | None,
    spec: CompressionSpec,
    threads: int,
    delivery: Delivery,
    warn: Warn,
) -> Measured:
    """Measure every output, and the baseline beside them.

    An output that does not run in its runtime is left out, or ends the job, by `delivery`. CompressionError
    verification_failed for one that does not do what `network` does.
    """
    fields = _network(backend, network)
    programs = _programs(files, threads or os.cpu_count() or 1, delivery, warn)
    _remark_on_programs(programs, spec, warn)
    quantised = backend.quantised(network)
    variants = []
    for output, path in files.items():
        if output not in delivery.wanted:
            continue
        variant = _variant(path.name, output, path).model_copy(update=fields)
        if original.samples is not None:
            reference = backend.expected(network, output, original.samples)
            try:
                answers = _answers(backend, output, path, programs, original.samples)
            except CompressionError as error:
                delivery.leave_out([output], error, warn)
                continue
            variant = _judged(variant, reference, answers, original, data, spec)
        else:
            warn(remark("not_verified", name=path.name, why="its inputs have open axes and there is no data"))
        scheme = _scheme(spec) if output in quantised else "float32"
        variants.append(_described(variant, output, path, scheme, programs, original))
    baseline = original.baseline
    if holds_program(delivery.wanted):
        latencies = _latencies({output: files[output] for output in delivery.wanted}, original)
        variants = [item.model_copy(update={"latency": latencies.get(item.name)}) for item in variants]
        if baseline is not None:
            baseline = baseline.model_copy(update={"latency": latencies["baseline"]})
    elif original.variant.format == "onnx":
        latencies = _onnx_latencies(files, original)
        variants = [item.model_copy(update={"latency": latencies.get(item.name)}) for item in variants]
        timed = original.variant.model_copy(update={"latency": latencies["original"]})
        original = replace(original, variant=timed)
    _remark_on_outputs(variants, original, baseline, warn)
    return Measured(variants, original, baseline, verdict(variants, original))


def _samples(data: Data | None, facts: ModelFacts, seed: int) -> Tensors | None:
    if data is not None:
        return data.x[data.test]
    if len(facts.inputs) > 1 and any(None in shape for shape in facts.inputs):
        return None
    generator = np.random.default_rng(seed)
    shapes = ([size or 8 for size in shape] for shape in facts.inputs)
    noise = [generator.random((RANDOM_SAMPLES, *shape), dtype=np.float32) for shape in shapes]
    return gathered(facts.input_names, noise)


def _of_original(outputs: Tensors, data: Data, seed: int, warn: Warn) -> dict[str, Any]:
    """Its accuracy on the outputs that have labels: it agrees with itself."""
    labelled = {name: part for name, part, _ in each_output(data.objective) if part.labels_from != "original"}
    if not labelled:
        return {}
    accuracies = {
        name: accuracy for name, accuracy in _measured(data, outputs, seed).items() if name in labelled
    }
    for name, accuracy in accuracies.items():
        _remark_on_chance(name, labelled[name], data, accuracy, warn)
    return described(data.objective, accuracies, {}, _changed(data, None, outputs, seed))


def _changed(data: Data, before: Tensors | None, outputs: Tensors, seed: int) -> dict[str, Change]:
    return changed(data.objective, before, outputs, data.objective.labels[data.test], seed)


def _measured(data: Data, outputs: Tensors, seed: int) -> dict[str, Measurement]:
    return measured(data.objective, outputs, data.objective.labels[data.test], seed)


def _remark_on_chance(name: str, part: Objective, data: Data, accuracy: Measurement, warn: Warn) -> None:
    level = chance(part, part.labels[data.test])
    if level is not None and accuracy.method == "wilson" and accuracy.low <= level:
        of = f" (output {name})" if name else ""
        warn(remark("baseline_near_chance", of=of, value=accuracy.value))
        for x in arrays_of(data.x):
            _remark_on_range(x[data.test], warn)


def _remark_on_range(x: Array, warn: Warn) -> None:
    """Images as pixels rather than as the shares that most networks are trained on."""
    if x.ndim < 3:
        return
    low, high = float(x.min()), float(x.max())
    if low >= 0 and 1 < high <= 255:
        warn(remark("samples_of_another_range", low=low, high=high))


def _variant(name: str, kind: str, path: Path) -> Variant:
    return Variant(
        name=name,
        format=kind,
        bytes=path.stat().st_size,
        gzip_bytes=gzip_size(path),
        zstd_bytes=zstd_size(path),
        sha256=sha256(path),
    )


def _network(backend: Backend, network: Any) -> dict[str, int | None]:
    """What is said of a file by the network in it."""
    layers, macs = backend.layers(network), backend.macs(network)
    return {
        "parameters": sum(layer.parameters for layer in layers),
        "nonzero_parameters": sum(layer.nonzero for layer in layers),
        "distinct_weights": backend.distinct_weights(network),
        "macs": None if macs is None else sum(macs.values()),
    }


def _contents(program: bytes) -> dict[str, Any]:
    """What is said of a ``.tflite`` by its own bytes, and by the memory it is given."""
    found = contents(program)
    return {
        "arena_bytes": arena_bytes(program),
        "distinct_weights": found.distinct_weights,
        "operators": found.operators,
        "peak_activation_bytes": found.peak_activation_bytes,
    }


def _without_optimizer(backend: Backend, loaded: LoadedModel, workspace: Workspace, warn: Warn) -> int:
    path = workspace.scratch / f"original-{FILES[backend.NATIVE]}"
    backend.write(loaded.network, backend.NATIVE, path)
    size, packed = path.stat().st_size, gzip_size(path)
    path.unlink()
    warn(remark("optimizer_state_in_original", bytes=size, gzip_bytes=packed))
    return packed


def _baseline(backend: Backend, loaded: LoadedModel, program: bytes, workspace: Workspace) -> Variant:
    path = workspace.scratch / "baseline.tflite"
    path.write_bytes(program)
    variant = _variant("baseline", "tflite", path).model_copy(
        update={
            "scheme": "float32",
            "input_dtype": "float32",
            **_network(backend, loaded.network),
            **_contents(program),
        }
    )
    path.unlink()
    return variant


def _programs(files: Mapping[str, Path], threads: int, delivery: Delivery, warn: Warn) -> dict[str, Program]:
    """By the names of the files; those that LiteRT refuses are left out."""
    found = {}
    for output, path in files.items():
        if (content := program_in(output, path)) is not None:
            try:
                found[path.name] = _program(path.name, content, threads)
            except CompressionError as error:
                delivery.leave_out([output], error, warn)
    return found


def _program(name: str, content: bytes, threads: int) -> Program:
    try:
        return Program(content, threads=threads)
    except (RuntimeError, ValueError) as error:
        raise refused_by_litert(name, content, error) from error


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
        isinstance(step, QuantizeAware) and step.layers == LayerSelection() for step in spec.steps
    ) or any(
        isinstance(step, Quantize)
        and step.scheme == "full_int8"
        and step.layers == LayerSelection()
        and step.sensitivity is None
        for step in spec.steps
    )


def _scheme(spec: CompressionSpec) -> str:
    """Of the outputs that a step quantised."""
    schemes = {
        step.technique: step.scheme if isinstance(step, Quantize) else step.technique
        for step in spec.steps
        if isinstance(step, Quantize | QuantizeAware)
    }
    return next(iter(schemes.values()), "float32")


def _answers(
    backend: Backend, output: str, path: Path, programs: Mapping[str, Program], samples: Tensors
) -> Tensors:
    if (program := programs.get(path.name)) is not None:
        try:
            return program.predict(samples)
        except (RuntimeError, ValueError) as error:
            raise refused_by_litert(path.name, program.content, error) from error
    try:
        return backend.predict_file(output, path, samples)
    except ValueError as error:
        raise CompressionError(
            "verification_failed",
            f"{path.name} does not run as it was written: {error}",
            hint=f"leave out the output {output}",
        ) from error


def _judged(
    variant: Variant,
    reference: Tensors,
    answers: Tensors,
    original: Original,
    data: Data | None,
    spec: CompressionSpec,
) -> Variant:
    aim = None if data is None else data.objective
    likenesses = compared(variant.name, reference, answers, aim)
    accuracies = {} if data is None else _measured(data, answers, spec.seed)
    changes = {} if data is None else _changed(data, original.answers, answers, spec.seed)
    return variant.model_copy(update=described(aim, accuracies, likenesses, changes))


def _described(
    variant: Variant,
    output: str,
    path: Path,
    scheme: str,
    programs: Mapping[str, Program],
    original: Original,
) -> Variant:
    program = programs.get(variant.name)
    return variant.model_copy(
        update={
            "scheme": scheme,
            "input_dtype": program.input_dtype if program is not None else "float32",
            "compression_ratio": round(original.gzip_bytes / variant.gzip_bytes, 3),
            **_contents_of(output, path),
        }
    )


def _contents_of(output: str, path: Path) -> dict[str, Any]:
    program = program_in(output, path)
    return {} if program is None else _contents(program)


def _latencies(files: Mapping[str, Path], original: Original) -> dict[str, Latency]:
    timed = {name: Program(content) for name, content in _programs_in(files).items()}
    if original.program is not None:
        timed["baseline"] = Program(original.program)
    for program in timed.values():
        program.prepare(None if original.samples is None else original.samples[:1])
    return interleaved(timed, "LiteRT")


def _onnx_latencies(files: Mapping[str, Path], original: Original) -> dict[str, Latency]:
    """Of an ``.onnx`` and what was made of it: the two run in the same runtime."""
    timed = {path.name: OnnxProgram(path) for output, path in files.items() if output == "onnx"}
    if original.path is not None:
        timed["original"] = OnnxProgram(original.path)
    for program in timed.values():
        program.prepare(None if original.samples is None else original.samples[:1])
    return interleaved(timed, "ONNX Runtime")


def _programs_in(files: Mapping[str, Path]) -> dict[str, bytes]:
    """The LiteRT programs in the files, by the names of the files."""
    found = {path.name: program_in(output, path) for output, path in files.items()}
    return {name: content for name, content in found.items() if content is not None}


def _remark_on_outputs(
    variants: list[Variant], original: Original, baseline: Variant | None, warn: Warn
) -> None:
    for variant in variants:
        for output, change in losses(original.variant, variant):
            warn(_loss(variant.name, output, change))
        if variant.gzip_bytes >= original.gzip_bytes:
            warn(
                remark(
                    "larger_than_original",
                    name=variant.name,
                    value=variant.gzip_bytes,
                    baseline=original.gzip_bytes,
                )
            )
        floor = original.variant.latency if baseline is None else baseline.latency
        if variant.latency is None or floor is None:
            continue
        if variant.latency.p50_ms > SLOWER * floor.p50_ms:
            value = variant.latency.p50_ms
            warn(remark("slower_than_original", name=variant.name, value=value, baseline=floor.p50_ms))


def _loss(name: str, output: str, change: Difference) -> ReportWarning:
    points = change.higher_is_better
    value, low, high = (
        f"{100 * number:+.2f} points" if points else f"{number:+.4g}"
        for number in (change.value, change.low, change.high)
    )
    of = f" of the output {output}" if output else ""
    return remark(
        "worse_beyond_chance", name=name, metric=change.metric, of=of, value=value, low=low, high=high
    )


def verdict(variants: list[Variant], original: Original) -> Verdict:
    smallest = min(variants, key=lambda variant: variant.gzip_bytes)
    if smallest.gzip_bytes >= original.gzip_bytes:
        return "not_smaller"
    worse = outcomes(original.variant, smallest)
    if any(worse):
        return "smaller_but_worse"
    return "smaller_unverified" if None in worse else "smaller"
