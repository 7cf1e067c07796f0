"""``featherweight schedule``: jobs made at times, or when objects change."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from featherweight._stored import StoredFiles
from featherweight.cli.commands import Context
from featherweight.cli.exit_codes import OK
from featherweight.cli.output import columns
from featherweight.schedule import Schedule, ScheduleRun
from featherweight.specfile import load_spec, parse_spec

__all__ = ["create", "delete", "list_runs", "list_schedules", "pause", "resume", "run", "show"]

_PAGE = 100
_INBOX = "inbox:"
_PREVIEWED = 5


def create(context: Context) -> int:
    args = context.args
    made = context.client.schedules.create(
        trigger=_trigger(args),
        job=_job(context),
        name=args.name,
        catch_up=args.catch_up,
        catch_up_window_s=args.catch_up_window,
        overlap=args.overlap,
        regression=_regression(args),
        paused=args.paused,
        metadata=dict(args.metadata),
        ends_at=args.ends_at,
        max_runs=args.max_runs,
        idempotency_key=args.idempotency_key,
    )
    context.output.result(made, made.id)
    return OK


def _trigger(args: Namespace) -> dict[str, Any]:
    if args.cron is not None:
        return {"type": "cron", "expression": args.cron, "timezone": args.timezone}
    if args.every is not None:
        return {"type": "interval", "seconds": args.every}
    poll = {} if args.poll is None else {"poll_s": args.poll}
    if args.on_object is not None:
        return {"type": "object_changed", "object": args.on_object, **poll}
    return {"type": "object_changed", "prefix": args.on_change, **poll}


def _job(context: Context) -> dict[str, Any]:
    args = context.args
    spec = parse_spec(sys.stdin.read(), "standard input") if args.spec == "-" else load_spec(args.spec)
    job: dict[str, Any] = {"spec": spec}
    for kind, given in (("model", args.model), ("dataset", args.data)):
        if args.changed == kind and given is not None:
            raise ValueError(f"with --changed {kind} the {kind} is the object that changed: name no other")
        if args.changed == kind:
            job[kind] = {"changed": True}
        elif given is not None and given.startswith(_INBOX):
            job[kind] = {"object": given.removeprefix(_INBOX)}
        elif given is not None:
            job[f"{kind}_id"] = _stored(context, kind, given)
    if not job.keys() & {"model", "model_id"}:
        raise ValueError("a model is needed: a file, an id, inbox:NAME, or --changed model")
    return job


def _stored(context: Context, kind: str, given: str) -> str:
    """The id, of a file after it has been sent."""
    files: StoredFiles[Any] = context.client.models if kind == "model" else context.client.datasets
    if re.fullmatch(r"(mdl|ds)_[a-z0-9]+", given) and not Path(given).exists():
        return given
    try:
        stored = files.upload(given, on_progress=partial(context.progress.bytes, "upload"))
        return str(stored.id)
    finally:
        context.progress.clear()


def _regression(args: Namespace) -> dict[str, float] | None:
    limits = {"accuracy_drop": args.accuracy_drop, "size_growth": args.size_growth}
    return {name: value for name, value in limits.items() if value is not None} or None


def list_schedules(context: Context) -> int:
    limit = context.args.limit
    found = list(islice(context.client.schedules.list(limit=min(limit, _PAGE)), limit))
    rows = [
        [each.id, each.state, _when(each.next_fire_at), each.runs_made, _trigger_text(each), each.name]
        for each in found
    ]
    head = ["id", "state", "next fire (UTC)", "runs", "trigger", "name"]
    context.output.result(found, columns(head, rows, right=[3]))
    return OK


def show(context: Context) -> int:
    schedule = context.client.schedules.get(context.args.schedule, preview=_PREVIEWED)
    context.output.result(schedule, _text(schedule))
    return OK


def _text(schedule: Schedule) -> str:
    facts: list[tuple[str, Any]] = [
        ("id", schedule.id),
        ("name", schedule.name),
        ("state", schedule.state),
        ("trigger", _trigger_text(schedule)),
        ("catch up", schedule.catch_up),
        ("overlap", schedule.overlap),
        ("runs made", schedule.runs_made),
        ("last good run", schedule.last_good_run),
        ("ends at", _when(schedule.ends_at)),
        ("max runs", schedule.max_runs),
        *((f"  {key}", value) for key, value in schedule.metadata.items()),
        ("problem", schedule.problem and schedule.problem.detail),
        *(("next fire", _when(fire)) for fire in schedule.next_fires or ()),
    ]
    return "\n".join(f"{name:<14} {value}" for name, value in facts if value is not None)


def _trigger_text(schedule: Schedule) -> str:
    trigger = schedule.trigger
    match trigger.get("type"):
        case "cron":
            return f"{trigger['expression']} {trigger.get('timezone', 'UTC')}"
        case "interval":
            return f"every {trigger['seconds']} s"
        case "object_changed":
            return f"change of {trigger.get('object') or trigger.get('prefix', '') + '…'}"
    return str(trigger.get("type"))


def pause(context: Context) -> int:
    schedule = context.client.schedules.pause(context.args.schedule)
    context.output.result(schedule, f"{schedule.id} {schedule.state}")
    return OK


def resume(context: Context) -> int:
    schedule = context.client.schedules.resume(context.args.schedule)
    upcoming = f", fires next at {_when(schedule.next_fire_at)} UTC" if schedule.next_fire_at else ""
    context.output.result(schedule, f"{schedule.id} {schedule.state}{upcoming}")
    return OK


def run(context: Context) -> int:
    args = context.args
    made = context.client.schedules.run_now(args.schedule, idempotency_key=args.idempotency_key)
    text = made.job_id or f"{made.state}: {made.skipped_because}"
    context.output.result(made, text)
    return OK


def list_runs(context: Context) -> int:
    args = context.args
    listing = context.client.schedules.runs(args.schedule, limit=min(args.limit, _PAGE))
    found = list(islice(listing, args.limit))
    head = ["fire time (UTC)", "state", "late", "verdict", "job", "remarks"]
    context.output.result(found, columns(head, [_run_row(each) for each in found]))
    return OK


def _run_row(run: ScheduleRun) -> list[Any]:
    late = f"{run.late_by_s:.1f} s" if run.cause == "time" else run.cause
    return [_when(run.fire_time), run.state, late, run.verdict, run.job_id, _remarks(run)]


def _remarks(run: ScheduleRun) -> str | None:
    if run.skipped_because:
        return run.skipped_because + (f", {run.fires} fires" if run.fires > 1 else "")
    if run.regression is not None and run.regression.regressed:
        return "REGRESSED: " + "; ".join(reason.detail for reason in run.regression.reasons)
    return None if run.error is None else run.error.detail


def delete(context: Context) -> int:
    context.client.schedules.delete(context.args.schedule)
    context.output.result({"id": context.args.schedule, "deleted": True}, "")
    return OK


def _when(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"
