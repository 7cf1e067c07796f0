"""The commands: each takes what is needed of the context, prints its result and returns an exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

from featherweight._stored import StoredFiles
from featherweight._version import version
from featherweight.cli.exit_codes import INTERRUPTED, NOT_VALID, OK, UNAVAILABLE
from featherweight.cli.output import Output, columns
from featherweight.cli.plan_text import plan_text
from featherweight.cli.progress import NoProgress
from featherweight.cli.report_text import report_text
from featherweight.client import Client
from featherweight.errors import FeatherweightError, JobError, job_error
from featherweight.events import (
    Event,
    LogEvent,
    ProgressEvent,
    ResumedEvent,
    StageEvent,
    StateEvent,
    WarningEvent,
)
from featherweight.eventstream import UnknownEvent
from featherweight.handle import JobHandle
from featherweight.job import Attempt, Job, ResumedFrom
from featherweight.spec import CompressionSpec
from featherweight.specfile import load_spec, parse_spec

__all__ = ["Context", "limits_of", "spec_of", "submitted"]

_PAGE = 100


@dataclass
class Context:
    args: argparse.Namespace
    output: Output
    progress: NoProgress
    connect: Callable[[], Client]

    @cached_property
    def client(self) -> Client:
        """Made on first use: commands that need no service need no URL."""
        return self.connect()


def compress(context: Context) -> int:
    args = context.args
    spec = spec_of(args.spec)
    try:
        job = context.client.compress(
            args.model,
            spec,
            dataset=args.data,
            name=args.name,
            metadata=dict(args.metadata) or None,
            limits=limits_of(args),
            idempotency_key=args.idempotency_key,
            on_upload=partial(context.progress.bytes, "upload"),
        )
    finally:
        context.progress.clear()
    return submitted(context, job)


def limits_of(args: argparse.Namespace) -> dict[str, int] | None:
    """The deadlines that were given; None when there are none."""
    limits = {"max_run_s": args.max_run, "max_queue_s": args.max_queue, "max_total_s": args.max_total}
    return {key: value for key, value in limits.items() if value is not None} or None


def submitted(context: Context, job: JobHandle) -> int:
    """Show a new job, or wait for it where that was asked for."""
    if context.args.wait or context.args.output_dir:
        context.output.note(f"job {job.id}")
        return _wait(context, job)
    context.output.result(job.job, job.id)
    return OK


def plan(context: Context) -> int:
    """NOT_VALID for a plan that says that the job would fail."""
    args = context.args
    try:
        made = context.client.plan(
            args.model,
            spec_of(args.spec),
            dataset=args.data,
            on_upload=partial(context.progress.bytes, "upload"),
        )
    finally:
        context.progress.clear()
    context.output.result(made, plan_text(made))
    return OK if made.feasible else NOT_VALID


def wait_for_job(context: Context) -> int:
    return _wait(context, context.client.job(context.args.job))


def _wait(context: Context, job: JobHandle) -> int:
    args, output = context.args, context.output
    try:
        job.wait(
            args.timeout,
            on_timeout="cancel" if args.cancel_on_timeout else "raise",
            on_event=context.progress.event if type(context.progress) is not NoProgress else None,
        )
    except KeyboardInterrupt:
        context.progress.clear()
        _say_interrupted(context, job)
        return INTERRUPTED
    except JobError as error:
        context.progress.clear()
        kept = _kept(context, job)
        output.result({"job": error.job, "files": kept}, "\n".join(kept))
        raise
    finally:
        context.progress.clear()
    files = _fetched(context, job, args.output_dir) if args.output_dir else []
    text = report_text(job.report()) if not output.as_json else ""
    output.result(
        {"job": job.job, "files": [str(path) for path in files]},
        "\n".join([text, *(f"\n{path}" for path in files[:1]), *map(str, files[1:])]),
    )
    return OK


def _kept(context: Context, job: JobHandle) -> list[str]:
    """The paths of what a job that failed has kept, where a folder was named to bring it to."""
    directory = context.args.output_dir
    if not job.job.artifacts:
        return []
    if not directory:
        context.output.advice(f"what it kept:  featherweight download {job.id} -o DIRECTORY")
        return []
    try:
        return [str(path) for path in _fetched(context, job, directory)]
    except (FeatherweightError, OSError) as error:
        context.output.note(f"what it kept could not be downloaded: {error}")
        return []


def _say_interrupted(context: Context, job: JobHandle) -> None:
    if context.args.cancel_on_interrupt:
        job.cancel()
        context.output.note(f"job {job.id} is being cancelled")
        return
    context.output.note(
        f"job {job.id} goes on\n"
        f"  back to it:  featherweight jobs wait {job.id}\n"
        f"  stop it:     featherweight jobs cancel {job.id}"
    )


def _fetched(context: Context, job: JobHandle, directory: str, names: list[str] | None = None) -> list[Path]:
    try:
        on_progress = partial(context.progress.bytes, "download")
        return job.download(directory, names=names, on_progress=on_progress)
    finally:
        context.progress.clear()


def list_jobs(context: Context) -> int:
    args = context.args
    listing = context.client.jobs.list(state=args.state, model_id=args.model, limit=min(args.limit, _PAGE))
    jobs = list(islice(listing, args.limit))
    head = ["id", "state", "stage", "done", "verdict", "created", "name"]
    context.output.result(jobs, columns(head, [_job_row(job) for job in jobs]))
    return OK


def _job_row(job: Job) -> list[Any]:
    done = f"{job.progress.fraction:.0%}" if not job.done else None
    return [job.id, job.state, job.stage, done, job.verdict, _when(job.created_at), job.name]


def show_job(context: Context) -> int:
    job = context.client.jobs.get(context.args.job)
    context.output.result(job, _job_text(job))
    return OK


def _job_text(job: Job) -> str:
    facts: list[tuple[str, Any]] = [
        ("id", job.id),
        ("name", job.name),
        ("state", f"{job.state} (cancel requested)" if job.cancel_requested and not job.done else job.state),
        ("verdict", job.verdict),
        ("stage", f"{job.stage} ({job.progress.fraction:.0%} of the job)" if job.stage else None),
        ("model", job.model_id),
        ("data set", job.dataset_id),
        ("made by", _origin_text(job)),
        ("attempt", job.attempt),
        *((f"  {attempt.number}", _attempt_text(attempt)) for attempt in job.attempts),
        ("created", _when(job.created_at)),
        ("started", _when(job.started_at)),
        ("ended", _when(job.ended_at)),
        ("files gone", _when(job.artifacts_expired_at)),
        ("kept until", _when(job.expires_at)),
        *((f"  {key}", value) for key, value in job.metadata.items()),
        *((f"  {file.name}", f"{file.bytes:,} bytes, sha256 {file.sha256}") for file in job.artifacts),
    ]
    lines = [f"{name:<12} {value}" for name, value in facts if value is not None]
    if job.error:
        lines.append(f"{'error':<12} {job.error.detail} ({job.error.code})")
        if job.error.hint:
            lines.append(f"{'hint':<12} {job.error.hint}")
    return "\n".join(lines)


def _origin_text(job: Job) -> str | None:
    if job.origin is None:
        return None
    return f"{job.origin.type} of {job.origin.id}{f' ({job.origin.item})' if job.origin.item else ''}"


def _attempt_text(attempt: Attempt) -> str:
    parts = [f"{_when(attempt.started_at)} to {_when(attempt.ended_at) or 'now'} on {attempt.worker}"]
    if attempt.resumed_from is not None:
        parts.append(_resumed_text(attempt.resumed_from))
    if attempt.ended_because is not None:
        where = f" in {attempt.stage}" if attempt.stage else ""
        how = f" ({attempt.detail})" if attempt.detail else ""
        parts.append(f"ended: {attempt.ended_because}{where}{how}")
    return "; ".join(parts)


def _resumed_text(place: ResumedFrom | ResumedEvent) -> str:
    of = [f"round {place.round}"] if place.round else []
    of += [f"epoch {place.epoch}"] if place.epoch else []
    after = f" after {' and '.join(of)}" if of else ""
    return f"went on in step {place.step}{after}"


def job_logs(context: Context) -> int:
    log = context.client.jobs.logs(context.args.job)
    context.output.result({"job_id": context.args.job, "log": log}, log.rstrip("\n"))
    return OK


def cancel_job(context: Context) -> int:
    job = context.client.jobs.cancel(context.args.job)
    ending = " (the worker is stopping it)" if not job.done else ""
    context.output.result(job, f"{job.id} {job.state}{ending}")
    return OK


def remove_job(context: Context) -> int:
    context.client.jobs.delete(context.args.job)
    context.output.result({"id": context.args.job, "deleted": True}, "")
    return OK


def job_events(context: Context) -> int:
    stream = context.client.jobs.events(context.args.job, after=context.args.after)
    for event in stream:
        context.output.line(_event_value(event, stream.last_event_id), _event_text(event))
    return OK


def _event_value(event: Event | UnknownEvent, id_: str | None) -> dict[str, Any]:
    fields = event.data if isinstance(event, UnknownEvent) else event.model_dump(mode="json")
    return {"id": id_, **fields}


def _event_text(event: Event | UnknownEvent) -> str:
    match event:
        case StateEvent():
            return f"{event.state}{f' (attempt {event.attempt})' if event.attempt else ''}"
        case StageEvent():
            return f"stage {event.index + 1}/{event.total}: {event.stage}"
        case ResumedEvent():
            return _resumed_text(event)
        case ProgressEvent():
            metrics = "".join(f"  {name}={value:.5g}" for name, value in event.metrics.items())
            step = f"  {event.step}/{event.total}" if event.step is not None else ""
            return f"{event.fraction:4.0%} {event.stage}{step}{metrics}"
        case LogEvent():
            return f"{event.level}: {event.message}"
        case WarningEvent():
            return f"warning: {event.message} [{event.code}]"
        case _:
            return f"{event.type}: {event.data}"


def download(context: Context) -> int:
    args = context.args
    job = context.client.job(args.job)
    known = {artifact.name for artifact in job.job.artifacts}
    unknown = [name for name in args.names if name not in known]
    if unknown and job.done:
        raise ValueError(f"job {job.id} has no artifact {unknown[0]!r}; it has: {', '.join(sorted(known))}")
    files = _fetched(context, job, args.output_dir, args.names or None)
    paths = [str(path) for path in files]
    context.output.result({"job_id": job.id, "files": paths}, "\n".join(paths))
    if (error := job_error(job.job)) is not None:
        raise error  # a script must not take what a failed job kept for its result
    return OK


def list_files(context: Context) -> int:
    limit = context.args.limit
    files = list(islice(_stored(context).list(limit=min(limit, _PAGE)), limit))
    rows = [
        [file.id, file.filename, file.format, f"{file.bytes:,}", _when(file.created_at)] for file in files
    ]
    context.output.result(files, columns(["id", "file", "format", "bytes", "created"], rows, right=[3]))
    return OK


def upload_file(context: Context) -> int:
    on_progress = partial(context.progress.bytes, "upload")
    try:
        file = _stored(context).upload(context.args.path, on_progress=on_progress)
    finally:
        context.progress.clear()
    context.output.result(file, file.id)
    return OK


def import_file(context: Context) -> int:
    kind, args = context.args.kind.removesuffix("s"), context.args
    made = context.client.imports.create(args.source, kind=kind, sha256=args.sha256, filename=args.name)
    context.output.result(made, made.resource_id)
    return OK


def show_file(context: Context) -> int:
    file = _stored(context).get(context.args.id)
    facts = file.model_dump(mode="json", exclude={"object"})
    context.output.result(file, "\n".join(f"{name:<12} {value}" for name, value in facts.items()))
    return OK


def remove_file(context: Context) -> int:
    _stored(context).delete(context.args.id)
    context.output.result({"id": context.args.id, "deleted": True}, "")
    return OK


def techniques(context: Context) -> int:
    known = context.client.techniques()
    rows = [
        [each.technique, framework, ", ".join(outputs), each.needs_data, each.summary]
        for each in known
        # A service that does not tell them apart has the same for all.
        for framework, outputs in (each.outputs_of or dict.fromkeys(each.frameworks, each.outputs)).items()
    ]
    head = ["technique", "framework", "outputs", "data needed", "what it does"]
    context.output.result(known, columns(head, rows))
    return OK


def check(context: Context) -> int:
    spec = spec_of(context.args.spec)
    steps = ", ".join(step.technique for step in spec.steps)
    context.output.result(spec, f"valid: {steps}; outputs: {', '.join(spec.outputs)}")
    return OK


def usage(context: Context) -> int:
    found = context.client.usage()
    most = found.limits
    rows = [
        ["bytes stored", _number(found.stored_bytes), _number(most.stored_bytes or None)],
        *([f"  {name.replace('_', ' ')}", _number(value), None] for name, value in found.stored.items()),
        ["jobs running", _number(found.running_jobs), _number(most.running_jobs or None)],
        *([["paused", "yes", None]] if found.paused else []),
        ["jobs queued", _number(found.queued_jobs), _number(most.queued_jobs or None)],
        ["CPU seconds in 24 h", _number(found.cpu_seconds), _number(most.cpu_seconds_per_day or None)],
        ["requests per second", None, _number(most.requests_per_second or None)],
        *(
            [f"{name.removesuffix('_ttl_s')} kept, in s", None, _number(value)]
            for name, value in most
            if name.endswith("_ttl_s") and value
        ),
    ]
    context.output.result(found, columns([found.project, "used", "at most"], rows, right=[1, 2]))
    return OK


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:,.15g}"


def health(context: Context) -> int:
    found = context.client.health()
    parts = "".join(f"\n  {name}: {state}" for name, state in found.checks.items())
    context.output.result(found, f"{found.status} (version {found.version}){parts}")
    return OK if found.status == "ok" else UNAVAILABLE


def show_version(context: Context) -> int:
    context.output.result({"version": version()}, f"featherweight {version()}")
    return OK


def _stored(context: Context) -> StoredFiles[Any]:
    return context.client.models if context.args.kind == "models" else context.client.datasets


def spec_of(source: str) -> CompressionSpec:
    if source == "-":
        return parse_spec(sys.stdin.read(), "standard input")
    return load_spec(source)


def _when(moment: Any) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"
