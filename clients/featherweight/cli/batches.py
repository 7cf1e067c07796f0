"""``featherweight batch``: many models at once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from featherweight._files import atomic_writer, safe_names
from featherweight.batch import Batch, BatchItem, BatchState
from featherweight.cli.commands import Context
from featherweight.cli.exit_codes import CANCELLED, FAILED, INTERRUPTED, OK, PARTIAL
from featherweight.cli.output import columns
from featherweight.errors import BatchFailed, BatchWaitTimeout

__all__ = ["cancel", "items", "list_batches", "remove", "results", "run", "show", "wait"]

_PAGE = 100


def run(context: Context) -> int:
    args, output = context.args, context.output
    try:
        batch = context.client.batches.run(
            args.manifest,
            idempotency_key=args.idempotency_key,
            on_upload=partial(context.progress.bytes, "upload"),
        )
    finally:
        context.progress.clear()
    if not (args.wait or args.output_dir):
        output.result(batch, batch.id)
        return OK
    output.note(f"batch {batch.id}")
    return _waited(context, batch.id)


def wait(context: Context) -> int:
    return _waited(context, context.args.batch)


def _waited(context: Context, batch_id: str) -> int:
    args, batches = context.args, context.client.batches
    try:
        batch = batches.wait(batch_id, timeout=args.timeout, on_change=partial(_progress, context))
    except KeyboardInterrupt:
        context.progress.clear()
        _say_interrupted(context, batch_id)
        return INTERRUPTED
    except BatchWaitTimeout:
        if args.cancel_on_timeout:
            batches.cancel(batch_id)
        raise
    except BatchFailed as error:
        batch = error.batch
    finally:
        context.progress.clear()
    return _ended(context, batch)


def _progress(context: Context, batch: Batch) -> None:
    counts = batch.counts
    context.progress.items(counts.total - counts.queued - counts.running, counts.total)


def _say_interrupted(context: Context, batch_id: str) -> None:
    if context.args.cancel_on_interrupt:
        context.client.batches.cancel(batch_id)
        context.output.note(f"batch {batch_id} is being cancelled")
        return
    context.output.note(
        f"batch {batch_id} goes on\n"
        f"  back to it:  featherweight batch wait {batch_id}\n"
        f"  stop it:     featherweight batch cancel {batch_id}"
    )


def _ended(context: Context, batch: Batch) -> int:
    """What came of a batch that is done, its files where a folder was named, and the exit code."""
    batches = context.client.batches
    succeeded, others = list(batches.results(batch.id)), list(batches.errors(batch.id))
    files: list[str] = []
    if context.args.output_dir:
        files = _downloaded(context, Path(context.args.output_dir), succeeded, others)
    found = sorted([*succeeded, *others], key=lambda item: item.index)
    context.output.result(
        {"batch": batch, "items": found, "files": files}, "\n".join([_table(found), "", _summary(batch)])
    )
    return _code(batch)


def _downloaded(
    context: Context, folder: Path, succeeded: list[BatchItem], others: list[BatchItem]
) -> list[str]:
    """The artifacts, a folder for each item, and the two result files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[str] = []
    for name, found in (("results.jsonl", succeeded), ("errors.jsonl", others)):
        with atomic_writer(folder / name) as file:
            file.writelines(item.model_dump_json().encode() + b"\n" for item in found)
        paths.append(str(folder / name))
    try:
        for item, name in zip(succeeded, _folders(succeeded), strict=True):
            on_progress = partial(context.progress.bytes, name)
            job_id = item.result_job_id or ""
            made = context.client.jobs.download(job_id, folder / name, on_progress=on_progress)
            paths += map(str, made)
    finally:
        context.progress.clear()
    return paths


def _folders(found: Iterable[BatchItem]) -> list[str]:
    """A name for each, as safe as those of artifacts are: ``cnn/int8`` is ``cnn-int8``."""
    reserved = ["results.jsonl", "errors.jsonl"]
    names = [(item.custom_id or str(item.index)).replace("/", "-") for item in found]
    return safe_names([*reserved, *names])[len(reserved) :]


def _code(batch: Batch) -> int:
    if batch.state == BatchState.CANCELLED:
        return CANCELLED
    if batch.state != BatchState.COMPLETED:
        return FAILED
    return OK if batch.outcome == "succeeded" else PARTIAL


def _table(found: list[BatchItem]) -> str:
    head = ["item", "state", "verdict", "original", "smallest", "ratio", "accuracy", "was", "job", "why"]
    return columns(head, [_row(item) for item in found], right=[3, 4, 5, 6, 7])


def _row(item: BatchItem) -> list[Any]:
    job = f"{item.reused_from} (reused)" if item.reused_from else item.job_id
    why = None if item.error is None else f"{item.error.detail} ({item.error.code})"
    if item.summary is not None and item.summary.missing:
        why = f"missing: {', '.join(item.summary.missing)}"
    row: list[Any] = [item.custom_id or f"line {item.line}", item.state, item.verdict]
    if item.summary is None or not item.summary.outputs:
        return [*row, None, None, None, None, None, job, why]
    original = item.summary.original
    smallest = min(item.summary.outputs, key=lambda output: output.gzip_bytes)
    ratio = f"{original.gzip_bytes / smallest.gzip_bytes:.2f}x" if smallest.gzip_bytes else None
    sizes = [f"{original.gzip_bytes:,}", f"{smallest.gzip_bytes:,}", ratio]
    return [*row, *sizes, _share(smallest.accuracy), _share(original.accuracy), job, why]


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _summary(batch: Batch) -> str:
    counts = {name: value for name, value in batch.counts.model_dump().items() if value}
    told = ", ".join(f"{value} {name}" for name, value in counts.items() if name != "total")
    outcome = f", {batch.outcome}" if batch.outcome else ""
    lines = [f"{batch.id}: {batch.state}{outcome}; {batch.counts.total} items: {told or 'none yet'}"]
    if batch.error is not None:
        lines.append(f"{batch.error.detail} ({batch.error.code})")
    return "\n".join(lines)


def list_batches(context: Context) -> int:
    limit = context.args.limit
    found = list(islice(context.client.batches.list(limit=min(limit, _PAGE)), limit))
    rows = [
        [
            batch.id,
            batch.state,
            batch.outcome,
            f"{batch.counts.total - batch.counts.queued - batch.counts.running}/{batch.counts.total}",
            batch.counts.succeeded,
            f"{batch.created_at:%Y-%m-%d %H:%M:%S}",
            batch.name,
        ]
        for batch in found
    ]
    head = ["id", "state", "outcome", "ended", "succeeded", "created", "name"]
    context.output.result(found, columns(head, rows, right=[3, 4]))
    return OK


def show(context: Context) -> int:
    batch = context.client.batches.get(context.args.batch)
    context.output.result(batch, _summary(batch))
    return OK


def cancel(context: Context) -> int:
    batch = context.client.batches.cancel(context.args.batch)
    context.output.result(batch, _summary(batch))
    return OK


def remove(context: Context) -> int:
    context.client.batches.delete(context.args.batch)
    context.output.result({"id": context.args.batch, "deleted": True}, "")
    return OK


def items(context: Context) -> int:
    limit = context.args.limit
    found = list(islice(context.client.batches.items(context.args.batch, limit=min(limit, _PAGE)), limit))
    context.output.result(found, _table(found))
    return OK


def results(context: Context) -> int:
    """As `run --wait` shows them, with its exit code; with --jsonl the lines of both files."""
    batches = context.client.batches
    batch = batches.get(context.args.batch)
    if not context.args.jsonl:
        context.args.output_dir = None
        return _ended(context, batch)
    for found in (batches.results(batch.id), batches.errors(batch.id)):
        for item in found:
            context.output.line(item, item.model_dump_json())
    return _code(batch)
