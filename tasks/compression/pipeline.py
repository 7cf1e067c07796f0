"""A job from beginning to end: load, baseline, the steps, convert, evaluate, report."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Any, cast

from featherweight.events import Event
from featherweight.report import Report, StepReport
from featherweight.spec import Cluster, CompressionSpec, Distill, Prune, Step
from tasks.compression import Outcome, c_array
from tasks.compression.abilities import ModelKind, framework_of, unable
from tasks.compression.backends import Backend, LoadedModel
from tasks.compression.catalogue import BACKENDS, missing_dataset, resolve, row, support
from tasks.compression.context import Context
from tasks.compression.data import Data, prepare, validation_share
from tasks.compression.delivery import Delivery
from tasks.compression.errors import CompressionError
from tasks.compression.facts import LayerFacts
from tasks.compression.formats import model_format
from tasks.compression.litert import same_answers
from tasks.compression.outline.kinds import kind_of
from tasks.compression.outputs import COMPANIONS, FILES, PROGRAMS, companions, holds_program
from tasks.compression.page import page
from tasks.compression.progress import Progress
from tasks.compression.reached import reached
from tasks.compression.remarks import remark
from tasks.compression.report import Findings, build_report
from tasks.compression.resolve import resolve_spec
from tasks.compression.rounds import RoundResults
from tasks.compression.sizes import sha256
from tasks.compression.stopping import Never, Stop
from tasks.compression.tflite import strip
from tasks.compression.tflite_metadata import check_labels, described
from tasks.compression.verify import measure_original, measure_outputs
from tasks.compression.waiting import waits
from tasks.compression.workspace import LAYOUT, StepRecord, Workspace, chain

__all__ = ["run"]

_WEIGHTS = {
    "finetune": 12.0,
    "distill": 16.0,
    "quantize": 2.0,
    "prune": 0.3,
    "cluster": 0.3,
    "quantize_aware": 0.1,
    "prune_channels": 1.0,
    "decompose": 1.0,
}
_CHECKPOINT = "checkpoint"


@dataclass
class _Job:
    """What a running job has found out so far."""

    spec: CompressionSpec
    framework: str
    backend: Backend
    workspace: Workspace
    progress: Progress
    versions: Mapping[str, str]
    stop: Stop = field(default_factory=Never)
    original: Any = None  # a copy of the network as it came, for distillation
    digests: dict[str, str] = field(default_factory=dict)
    steps: list[StepReport] = field(default_factory=list)
    records: list[StepRecord] = field(default_factory=list)
    delivery: Delivery = field(init=False)

    def __post_init__(self) -> None:
        self.delivery = Delivery(self.spec)


def run(
    model: Path,
    spec: CompressionSpec | Mapping[str, Any],
    *,
    dataset: Path | None,
    workdir: Path,
    emit: Callable[[Event], None],
    threads: int,
    job_id: str | None,
    stop: Stop,
) -> Outcome:
    """See tasks.compression.compress."""
    began = time.monotonic()
    checked = spec if isinstance(spec, CompressionSpec) else CompressionSpec.model_validate(spec)
    framework = framework_of(model_format(model))
    _refuse_unsupported(checked, framework, dataset)
    progress = Progress(emit, _stages(checked))
    try:
        report, files = _run(
            framework, model, checked, dataset, workdir, progress, threads, job_id, stop, began
        )
    except CompressionError as error:
        error.stage = error.stage or progress.stage
        raise
    progress.finish()
    return Outcome(report, files)


def _refuse_unsupported(spec: CompressionSpec, framework: str, dataset: Path | None) -> None:
    faults = support(spec, framework) + ([] if dataset is not None else missing_dataset(spec))
    if faults:
        first = faults[0]
        raise CompressionError(first.code, first.detail, pointer=first.pointer)


def _refuse_unable(spec: CompressionSpec, kind: ModelKind, why: str | None) -> None:
    faults = unable(spec, kind, why)
    if faults:
        first = faults[0]
        raise CompressionError(first.code, first.detail, hint=first.hint, pointer=first.pointer)


def _stages(spec: CompressionSpec) -> list[tuple[str, float]]:
    steps = [(step.technique, _WEIGHTS.get(step.technique, 2.0)) for step in spec.steps]
    return [("load", 1.0), ("baseline", 2.0), *steps, ("convert", 0.5), ("evaluate", 2.0), ("report", 0.1)]


def _run(
    framework: str,
    model: Path,
    spec: CompressionSpec,
    dataset: Path | None,
    workdir: Path,
    progress: Progress,
    threads: int,
    job_id: str | None,
    stop: Stop,
    began: float,
) -> tuple[Report, tuple[Path, ...]]:
    progress.begin()
    backend = cast(Backend, import_module(BACKENDS[framework]))
    backend.start(threads, spec.seed)
    job = _Job(spec, framework, backend, Workspace(workdir), progress, backend.versions(), stop)
    loaded, data = _load(job, model, dataset)
    counted = any(isinstance(step, Cluster) for step in spec.steps)
    before = backend.layers(loaded.network, distinct=counted)

    progress.begin()
    original = measure_original(
        backend, loaded, model, data, spec.seed, job.workspace, job.delivery, progress.warn
    )

    network = _take_steps(job, loaded.network, data)
    after = backend.layers(network, distinct=counted)
    _remark_on_layers(job, before, after)

    progress.begin()
    files = _write_outputs(job, network)

    progress.begin()
    measured = measure_outputs(
        backend, network, files, original, data, spec, threads, job.delivery, progress.warn
    )
    files = _delivered(job, files)

    progress.begin()
    findings = Findings(
        job_id=job_id,
        spec=job.spec,
        model=(model, job.digests["model"]),
        dataset=None if dataset is None else (dataset, job.digests["dataset"]),
        data=data,
        steps=job.steps,
        records=job.records,
        before=before,
        after=after,
        stored=backend.stored(network, original.samples),
        macs=backend.macs(network),
        original=measured.original,
        baseline=measured.baseline,
        outputs=measured.outputs,
        missing=job.delivery.missing,
        companions=companions(files),
        verdict=measured.verdict,
        warnings=progress.warnings,
        versions=job.versions,
        seconds=time.monotonic() - began,
    )
    report = build_report(findings)
    written = [*files.values(), *companions(files), job.workspace.write_json("spec.json", report.spec)]
    written += [job.workspace.write(name, content) for name, content in backend.extras(network).items()]
    written.append(job.workspace.write("report.html", page(report).encode()))
    written.append(job.workspace.write_json("report.json", report))
    return report, tuple(written)


def _load(job: _Job, model: Path, dataset: Path | None) -> tuple[LoadedModel, Data | None]:
    job.digests["model"] = sha256(model)
    _refuse_unable(job.spec, *kind_of(model))
    loaded = job.backend.load(model, job.workspace.scratch, job.progress.warn)
    check_labels(job.spec.tflite_metadata, loaded.facts)
    for index, step in enumerate(job.spec.steps):
        check = row(step.technique, job.framework).check
        if check is not None:
            resolve(check)(loaded.network, step, f"/steps/{index}")
    data = None
    if dataset is not None:
        job.digests["dataset"] = sha256(dataset)
        data = prepare(
            dataset,
            loaded.facts,
            job.spec,
            job.workspace.scratch / "data",
            job.progress.warn,
            lambda x: job.backend.predict(loaded.network, x),
        )
    elif job.spec.data is not None:
        job.progress.warn(remark("data_without_dataset"))
    job.spec = resolve_spec(job.spec, data)
    if any(isinstance(step, Distill) for step in job.spec.steps):
        job.original = job.backend.copy(loaded.network)
    return loaded, data


def _take_steps(job: _Job, network: Any, data: Data | None) -> Any:
    """Every step in order; results that an earlier try at the job left in the workspace are taken over, up to
    the first that is not there."""
    steps = job.spec.steps
    keys = _keys(job)
    finished = list(takewhile(lambda result: result is not None, map(job.workspace.find, keys)))
    if finished:
        job.progress.resumed(len(finished))
    for index, (step, result) in enumerate(zip_longest(steps, finished)):
        job.progress.begin()
        if result is not None:
            directory, record = result
            for warning in record.warnings:
                job.progress.warn(warning)
            job.delivery.take_over(record.missing)
            if index == len(finished) - 1:
                network = job.backend.restore(directory)
        else:
            network, record = _take_step(job, network, index, step, data, keys[index])
        job.records.append(record)
        job.steps.append(_step_report(index, step, record, keys[index], reused=result is not None))
    return network


def _take_step(
    job: _Job, network: Any, index: int, step: Step, data: Data | None, key: str
) -> tuple[Any, StepRecord]:
    context = Context(
        index=index,
        pointer=f"/steps/{index}",
        following=_following(job.spec, index),
        seed=job.spec.seed,
        data=data,
        progress=job.progress,
        scratch=job.workspace.scratch,
        outputs=job.delivery.wanted,
        delivery=job.delivery,
        original=job.original,
        checkpoints=job.workspace.checkpoints(key),
        rounds=RoundResults(job.workspace, key),
        stop=job.stop,
    )
    before = job.backend.fingerprint(network)
    try:
        network = resolve(row(step.technique, job.framework).handler)(network, step, context)
    except CompressionError as error:
        _deliver_kept(job, error)
        raise
    record = context.record
    record.changed = job.backend.waits(network) or job.backend.fingerprint(network) != before
    if not record.changed:
        context.warn("nothing_changed", index=index, technique=step.technique)
    record.seconds = round(job.progress.elapsed(), 4)
    made = network
    job.workspace.keep(key, record, lambda directory: _save(job, made, record, data, directory))
    context.checkpoints.discard()
    context.rounds.discard()
    return network, record


def _save(job: _Job, network: Any, record: StepRecord, data: Data | None, directory: Path) -> None:
    job.backend.save(network, directory)
    if record.changed and not job.backend.waits(network):
        record.reached = reached(job.backend, network, directory, data, job.spec.seed)


def _deliver_kept(job: _Job, error: CompressionError) -> None:
    """Make a file of what the failed step kept, and let the error name it."""
    if error.kept is None:
        return
    native = job.backend.NATIVE
    path = (job.workspace.out / _CHECKPOINT).with_suffix(Path(FILES[native]).suffix)
    job.backend.write(error.kept.network, native, path)
    error.artifacts = (path,)
    error.detail = f"{error.detail}; {path.name} is {error.kept.what}"


def _keys(job: _Job) -> list[str]:
    """The key of every step's result: the step and its place, the key before it, versions, data, seed."""
    key = chain(
        "start",
        layout=LAYOUT,
        inputs=job.digests,
        versions=dict(job.versions),
        split=job.spec.split.model_dump(mode="json"),
        seed=job.spec.seed,
        validation=validation_share(job.spec),
        **_reading(job.spec),
    )
    keys = []
    for index, step in enumerate(job.spec.steps):
        waiting = waits(step, _following(job.spec, index))
        key = chain(key, step=step.model_dump(mode="json"), waits=waiting)
        keys.append(key)
    return keys


def _following(spec: CompressionSpec, index: int) -> Step | None:
    return spec.steps[index + 1] if index + 1 < len(spec.steps) else None


def _reading(spec: CompressionSpec) -> dict[str, Any]:
    return {} if spec.data is None else {"data": spec.data.model_dump(mode="json")}


def _step_report(index: int, step: Step, record: StepRecord, key: str, reused: bool) -> StepReport:
    return StepReport(
        index=index,
        technique=step.technique,
        seconds=record.seconds,
        key=key,
        reused=reused,
        epochs=record.epochs,
        details=record.details,
        reached=record.reached,
    )


def _remark_on_layers(job: _Job, before: list[LayerFacts], after: list[LayerFacts]) -> None:
    zeros = {layer.name: layer.sparsity for layer in before if layer.prunable}
    if _for_sparse_kernels(job.spec) or not any(isinstance(step, Prune) for step in job.spec.steps):
        return  # Fewer channels may hold a larger share of zeros without a single new one.
    if any(layer.sparsity > zeros.get(layer.name, 1.0) for layer in after):
        job.progress.warn(remark("unstructured_sparsity_no_speed"))


def _for_sparse_kernels(spec: CompressionSpec) -> bool:
    """Whether the zeros are where XNNPACK's float kernels make use of them."""
    patterns = {step.pattern.type for step in spec.steps if isinstance(step, Prune)}
    integers = any(step.technique in ("quantize", "quantize_aware") for step in spec.steps)
    return patterns == {"xnnpack_latency"} and not integers


def _write_outputs(job: _Job, network: Any) -> dict[str, Path]:
    shutil.rmtree(job.workspace.out)
    job.workspace.out.mkdir()
    program = b""
    if holds_program(job.delivery.wanted):
        with _leaving_out(job, PROGRAMS):
            program = _program(job, network)
    files: dict[str, Path] = {}
    for output in job.delivery.wanted:
        path = files[output] = job.workspace.out / FILES[output]
        if output == "tflite":
            path.write_bytes(program)
        elif output == "c_array":
            path.write_text(c_array.source(program), encoding="ascii")
            path.with_name(COMPANIONS[output]).write_text(c_array.header(), encoding="ascii")
        else:
            with _leaving_out(job, [output]):
                job.backend.write(network, output, path)
    return _delivered(job, files)


@contextmanager
def _leaving_out(job: _Job, outputs: Iterable[str]) -> Iterator[None]:
    """What cannot be converted in the block is an output less, or the end of the job."""
    try:
        yield
    except CompressionError as error:
        if error.code != "conversion_failed":
            raise
        job.delivery.leave_out(outputs, error, job.progress.warn)


def _delivered(job: _Job, files: Mapping[str, Path]) -> dict[str, Path]:
    """Those of `files`, by format, that are delivered; the others are removed."""
    kept: dict[str, Path] = {output: path for output, path in files.items() if output in job.delivery.wanted}
    lost = {output: path for output, path in files.items() if output not in kept}
    for path in (*lost.values(), *companions(lost)):
        path.unlink(missing_ok=True)
    return kept


def _program(job: _Job, network: Any) -> bytes:
    """The ``.tflite`` that is delivered, as such or as an array."""
    path = job.workspace.scratch / FILES["tflite"]
    job.backend.write(network, "tflite", path)
    content = path.read_bytes()
    path.unlink()
    if job.spec.tflite_names == "strip":
        content = _stripped(job, content)
    return content if job.spec.tflite_metadata is None else described(content, job.spec.tflite_metadata)


def _stripped(job: _Job, content: bytes) -> bytes:
    stripped = strip(content)
    if same_answers(content, stripped):
        return stripped
    for output in sorted(PROGRAMS.intersection(job.delivery.wanted)):
        job.progress.warn(remark("not_stripped", name=FILES[output]))
    return content
