"""Reads the job's inputs as the job did, answers the test split with every delivered file in its own runtime,
and measures it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from featherweight.errors import RerunFailed
from featherweight.report import Report, ReportWarning, Variant
from featherweight.rerun import Compared, Rerun
from featherweight.spec import CompressionSpec, Distill, Finetune
from tasks.compression.abilities import framework_of
from tasks.compression.arena import arena_bytes
from tasks.compression.backends import Backend
from tasks.compression.catalogue import BACKENDS
from tasks.compression.contents import contents
from tasks.compression.data import Data, prepare
from tasks.compression.delivery import Delivery
from tasks.compression.errors import CompressionError
from tasks.compression.formats import model_format
from tasks.compression.host import host
from tasks.compression.litert import Program
from tasks.compression.measures import changed, described, measured
from tasks.compression.outputs import PROGRAMS, program_in
from tasks.compression.rerun.compare import DIGEST, MEASURED, compared, one
from tasks.compression.samples import Tensors
from tasks.compression.sizes import gzip_size, sha256, zstd_size
from tasks.compression.verify import Original, measure_original, verdict
from tasks.compression.workspace import Workspace

__all__ = ["rerun"]

_LITERT = ("ai-edge-litert", "numpy")
_INFERRED = ("loss", "metrics", "loss_weights")
_NETWORK = ("parameters", "nonzero_parameters", "distinct_weights", "macs")
_PROGRAM = ("distinct_weights", "operators", "peak_activation_bytes", "arena_bytes", "input_dtype")


@dataclass(frozen=True)
class _Again:
    """What every file is measured with. `spec` is the job's as it was carried out."""

    backend: Backend
    report: Report
    spec: CompressionSpec
    data: Data | None
    original: Original
    scratch: Path
    same_litert: bool

    @property
    def scale(self) -> float | None:
        """The original's mean error; None where shares are measured."""
        accuracy = self.original.variant.accuracy
        return None if accuracy is None or accuracy.higher_is_better else accuracy.value


def rerun(directory: Path, report: Report, model: Path | None, dataset: Path | None) -> Rerun:
    """Measure the files of `report` in `directory` again, from the `model` and `dataset` that the job had.

    RerunFailed where that cannot be done: a library is missing, or a file is refused."""
    if model is None:
        raise RerunFailed("the receipt names no model that the evaluation could be run against")
    try:
        backend = cast(Backend, import_module(BACKENDS[framework_of(model_format(model))]))
    except ModuleNotFoundError as error:
        raise RerunFailed(f"the evaluation was not run again: {error.name} is not installed here") from error
    try:
        with tempfile.TemporaryDirectory(prefix="featherweight-") as scratch:
            return _rerun(backend, directory, report, model, dataset, Path(scratch))
    except (CompressionError, ValidationError) as error:
        raise RerunFailed(f"the evaluation could not be run again: {error}") from error


def _rerun(
    backend: Backend, directory: Path, report: Report, model: Path, dataset: Path | None, scratch: Path
) -> Rerun:
    spec = _spec(report)
    backend.start(0, spec.seed)
    workspace = Workspace(scratch)
    loaded = backend.load(model, workspace.scratch, _silent)
    data = None
    if dataset is not None:
        data = prepare(
            dataset,
            loaded.facts,
            spec,
            workspace.scratch / "data",
            _silent,
            lambda x: backend.predict(loaded.network, x),
        )
    plain = spec.model_copy(update={"outputs": (backend.NATIVE,)})  # the baseline is not measured again
    original = measure_original(backend, loaded, model, data, spec.seed, workspace, Delivery(plain), _silent)
    versions, here = backend.versions(), host()
    same = here.cpu == report.host.cpu and all(
        versions[name] == report.versions.get(name) for name in _LITERT
    )
    again = _Again(backend, report, spec, data, original, workspace.scratch, same)
    found = [_ran(again, item, directory / item.name) for item in report.outputs]
    return Rerun(
        compared=[*_of_data(again), *_of_files(again, found), *_of_layers(again, directory)],
        left_out=_left_out(again),
        exact=[item.name for item in report.outputs if same and item.format in PROGRAMS],
        versions=versions,
        host=here,
    )


def _silent(warning: ReportWarning) -> None:
    """The report has the warnings."""


def _spec(report: Report) -> CompressionSpec:
    """The resolved spec without what was inferred into it, which is inferred again: a loss read from the
    compiled model says more (whether of logits) than its name does."""
    spec = CompressionSpec.model_validate(report.spec)
    inferred = frozenset(item.field for item in report.inferred if item.source != "spec")
    steps = tuple(
        step.model_copy(update={name: _given(step, name, inferred) for name in _INFERRED})
        if isinstance(step, Finetune | Distill)
        else step
        for step in spec.steps
    )
    return spec.model_copy(update={"steps": steps})


def _given(step: Finetune | Distill, name: str, inferred: frozenset[str]) -> Any:
    """What the caller gave for a field of the step, by output where it is."""
    value = getattr(step, name)
    if name in inferred:
        return None
    if isinstance(value, Mapping):
        return {output: item for output, item in value.items() if f"{output}/{name}" not in inferred} or None
    return value


def _ran(again: _Again, item: Variant, path: Path) -> Variant:
    try:
        return _measured(again, item, path)
    except (RuntimeError, ValueError) as error:
        raise RerunFailed(f"{item.name} does not run: {error}") from error


def _measured(again: _Again, item: Variant, path: Path) -> Variant:
    """The output at `path`, as it would be reported. What there is no telling of it by itself is left as
    reported."""
    content = program_in(item.format, path)
    program = None if content is None else Program(content)
    packed = gzip_size(path)
    update: dict[str, Any] = {
        "bytes": path.stat().st_size,
        "gzip_bytes": packed,
        "zstd_bytes": zstd_size(path),
        "sha256": sha256(path),
        "compression_ratio": round(again.original.gzip_bytes / packed, 3),
    }
    if program is not None and content is not None:
        update |= {"input_dtype": program.input_dtype, **_contents(content)}
    if again.data is not None:
        x = again.data.x[again.data.test]
        answers = again.backend.predict_file(item.format, path, x) if program is None else program.predict(x)
        update |= _judged(again, answers)
    return item.model_copy(update=update)


def _contents(program: bytes) -> dict[str, Any]:
    found = contents(program)
    return {
        "distinct_weights": found.distinct_weights,
        "operators": found.operators,
        "peak_activation_bytes": found.peak_activation_bytes,
        "arena_bytes": arena_bytes(program),
    }


def _judged(again: _Again, answers: Tensors) -> dict[str, Any]:
    data, seed = again.data, again.spec.seed
    assert data is not None
    labels = data.objective.labels[data.test]
    accuracies = measured(data.objective, answers, labels, seed)
    changes = changed(data.objective, again.original.answers, answers, labels, seed)
    return described(data.objective, accuracies, {}, changes)


def _of_data(again: _Again) -> Iterator[Compared]:
    """How many samples there are of each kind."""
    reported = again.report.data
    if reported is None or again.data is None:
        return
    counts = again.data.counts()
    for field in ("samples", "train", "validation", "calibration", "test", "classes", "test_source"):
        yield one("", f"data/{field}", getattr(reported, field), getattr(counts, field))


def _of_files(again: _Again, found: list[Variant]) -> Iterator[Compared]:
    report, original = again.report, again.original.variant
    yield one("", "verdict", report.verdict, verdict(found, again.original))
    whole = (*DIGEST, *_NETWORK, *MEASURED)
    yield from compared("original", report.original, original, whole, exact=False, scale=again.scale)
    for reported, item in zip(report.outputs, found, strict=True):
        held = reported.format in PROGRAMS
        fields = [*DIGEST, "compression_ratio", *(_PROGRAM if held else ()), *MEASURED]
        if not again.same_litert:
            fields = [field for field in fields if field != "arena_bytes"]
        exact = held and again.same_litert
        yield from compared(reported.name, reported, item, fields, exact=exact, scale=again.scale)


def _of_layers(again: _Again, directory: Path) -> Iterator[Compared]:
    """Parameters and zeros by layer, of the network in the Keras output."""
    item = _keras(again.report)
    if item is None:
        return
    loaded = again.backend.load(directory / item.name, again.scratch, _silent)
    layers = again.backend.layers(loaded.network)
    macs = again.backend.macs(loaded.network)
    network = {
        "parameters": sum(layer.parameters for layer in layers),
        "nonzero_parameters": sum(layer.nonzero for layer in layers),
        "distinct_weights": again.backend.distinct_weights(loaded.network),
        "macs": None if macs is None else sum(macs.values()),
    }
    for field, value in network.items():
        reported = getattr(item, field)
        if reported is not None:
            yield one(item.name, field, reported, value)
    known = {layer.name: layer for layer in layers}
    for layer in again.report.layers:
        found, place = known.get(layer.name), f"layers/{layer.name}"
        yield one(item.name, f"{place}/parameters", layer.parameters, found and found.parameters)
        yield one(item.name, f"{place}/sparsity_after", layer.sparsity_after, found and found.sparsity)


def _keras(report: Report) -> Variant | None:
    return next((item for item in report.outputs if item.format == "keras"), None)


def _left_out(again: _Again) -> list[str]:
    left = [
        "latency: it is of the machine that it was measured on",
        "agreement and max_abs_difference: the network that the files were made from is not among them",
        "the baseline: it is not among the files",
        "what a layer is stored as and its SNR: they are told by the network that the files were made from",
    ]
    if _keras(again.report) is None:
        left.append("parameters and zeros of the outputs and their layers: without a keras output")
    if again.data is None:
        left.append("everything measured: the job had no data set")
    if not again.same_litert:
        left.append("arena_bytes: this LiteRT or processor is not the one of the report")
    return left
