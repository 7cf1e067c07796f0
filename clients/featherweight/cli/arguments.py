"""The command's arguments. Every command is a function of `featherweight.cli.commands`."""

from __future__ import annotations

import argparse
from typing import Any

from featherweight._version import version
from featherweight.cli import (
    batches,
    commands,
    exit_codes,
    inbox,
    inspections,
    repeats,
    reports,
    schedules,
    webhook_arguments,
)
from featherweight.cli.argument_types import count as _count
from featherweight.cli.argument_types import pair as _pair
from featherweight.cli.argument_types import seconds as _seconds

__all__ = ["parser"]

_EXIT_CODES = "exit codes:\n" + "\n".join((exit_codes.__doc__ or "").splitlines()[2:])


def parser() -> argparse.ArgumentParser:
    """`run` of the parsed arguments is the command's function."""
    top = argparse.ArgumentParser(
        prog="featherweight",
        description="Make trained neural networks small with a Featherweight service.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"featherweight {version()}")
    _common(top, top_level=True)
    subparsers = top.add_subparsers(metavar="COMMAND", required=True)
    _add_compress(subparsers)
    _add_plan(subparsers)
    inspect = _command(
        subparsers, "inspect", inspections.inspect, "show what is in a model and what can be done to it"
    )
    inspect.add_argument("model", help="a model file, or the id of an uploaded one (mdl_…)")
    _add_jobs(subparsers)
    _add_batches(subparsers)
    _add_schedules(subparsers)
    _add_download(subparsers)
    _add_report(subparsers)
    _add_verify(subparsers)
    _add_compare(subparsers)
    for kind in ("models", "datasets"):
        _add_files(subparsers, kind)
    webhook_arguments.add(_group(subparsers, "webhook", "send the project's events to a URL"), _command)
    _add_inbox(subparsers)
    _command(subparsers, "techniques", commands.techniques, "what the service can do")
    check = _command(subparsers, "check", commands.check, "check a spec without sending it")
    check.add_argument("spec", help="YAML or JSON file, inline JSON, or - for standard input")
    project = _group(subparsers, "project", "show, pause and resume the project")
    for name, run, summary in (
        ("show", repeats.show_project, "show whether the project is paused"),
        ("pause", repeats.pause_project, "start no more jobs of the project"),
        ("resume", repeats.resume_project, "start jobs of the project again"),
    ):
        _command(project, name, run, summary)
    _command(subparsers, "usage", commands.usage, "what the project uses, and what it may use")
    _command(subparsers, "health", commands.health, "whether the service is ready")
    _command(subparsers, "version", commands.show_version, "the version of this program")
    return top


def _common(target: argparse.ArgumentParser, *, top_level: bool) -> None:
    # Accepted before and after the command; only the first has defaults, or the second would undo it.
    def default(value: Any) -> Any:
        return value if top_level else argparse.SUPPRESS

    group = target.add_argument_group("connection and output")
    group.add_argument("--url", default=default(None), help="the service (default: $FEATHERWEIGHT_URL)")
    group.add_argument(
        "--api-key",
        default=default(None),
        metavar="KEY",
        help="better kept in $FEATHERWEIGHT_API_KEY: arguments are seen by every user of the machine",
    )
    group.add_argument(
        "--json",
        action="store_true",
        default=default(False),
        help="JSON, and nothing else, on standard output",
    )
    group.add_argument(
        "-v", "--verbose", action="store_true", default=default(False), help="say what is retried"
    )
    group.add_argument("--debug", action="store_true", default=default(False), help="show tracebacks")


def _command(subparsers: Any, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _common(command, top_level=False)
    command.set_defaults(run=run)
    return command


def _add_compress(subparsers: Any) -> None:
    command = _command(subparsers, "compress", commands.compress, "compress a model")
    command.add_argument(
        "model",
        help="a model file (.keras, .h5, .tflite, .pt2, .onnx, a SavedModel in a zip or tar), or the id of "
        "an uploaded one (mdl_…)",
    )
    command.add_argument(
        "--spec", required=True, help="YAML or JSON file, inline JSON, or - for standard input"
    )
    command.add_argument(
        "--data",
        metavar="FILE",
        help="a data set (.npz, .csv, .parquet, images in a zip, …), or the id of an uploaded one (ds_…)",
    )
    _add_job_options(command)
    _add_new_job(command)


def _add_job_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--name", help="a name for the job")
    command.add_argument(
        "--metadata", action="append", default=[], metavar="KEY=VALUE", type=_pair, help="may be repeated"
    )
    command.add_argument("--max-run", type=int, metavar="SECONDS", help="fail the job when it runs longer")
    command.add_argument(
        "--max-queue", type=int, metavar="SECONDS", help="expire the job when it waits longer"
    )
    command.add_argument(
        "--max-total", type=int, metavar="SECONDS", help="expire the job when it is not done so long from now"
    )


def _add_new_job(command: argparse.ArgumentParser) -> None:
    command.add_argument("--idempotency-key", metavar="KEY", help="the same key twice makes one job")
    command.add_argument(
        "--wait", action="store_true", help="wait for the end of the job and show its report"
    )
    command.add_argument(
        "-o", "--output-dir", metavar="DIR", help="download the results there (implies --wait)"
    )
    _add_waiting(command)


def _add_plan(subparsers: Any) -> None:
    command = _command(subparsers, "plan", commands.plan, "show what compress would do, without doing it")
    command.add_argument(
        "model",
        help="a model file (.keras, .h5, .tflite, .pt2, .onnx, a SavedModel in a zip or tar), or the id of "
        "an uploaded one (mdl_…)",
    )
    command.add_argument(
        "--spec", required=True, help="YAML or JSON file, inline JSON, or - for standard input"
    )
    command.add_argument(
        "--data", metavar="FILE", help="a data set (.npz), or the id of an uploaded one (ds_…)"
    )


def _add_waiting(command: argparse.ArgumentParser) -> None:
    command.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="wait no longer than this")
    command.add_argument("--cancel-on-timeout", action="store_true", help="cancel the job then")
    command.add_argument("--cancel-on-interrupt", action="store_true", help="cancel the job on Ctrl-C")


def _add_jobs(subparsers: Any) -> None:
    jobs = _group(subparsers, "jobs", "list, watch, cancel and repeat jobs")
    listing = _command(jobs, "ls", commands.list_jobs, "list jobs, newest first")
    listing.add_argument("--state", help="only jobs in this state")
    listing.add_argument("--model", metavar="ID", help="only jobs of this model")
    _add_limit(listing)
    for name, run, summary in (
        ("show", commands.show_job, "show a job"),
        ("logs", commands.job_logs, "show a job's log"),
        ("cancel", commands.cancel_job, "cancel a job"),
        ("rm", commands.remove_job, "delete a job that has ended, and all it made"),
    ):
        _command(jobs, name, run, summary).add_argument("job", help="the job's id")
    retry = _command(
        jobs, "retry", repeats.retry_job, "make a job anew that failed, was cancelled or expired"
    )
    retry.add_argument("job", help="the id of the job to repeat")
    _add_new_job(retry)
    clone = _command(jobs, "clone", repeats.clone_job, "make another job like one, with changes")
    clone.add_argument("job", help="the id of the job to copy")
    clone.add_argument("--spec", help="another spec: YAML or JSON file, inline JSON, or - for standard input")
    clone.add_argument("--model", metavar="ID", help="another model (mdl_…)")
    clone.add_argument("--data", metavar="ID", help="another data set (ds_…)")
    _add_job_options(clone)
    _add_new_job(clone)
    events = _command(jobs, "events", commands.job_events, "follow a job's events until it is done")
    events.add_argument("job", help="the job's id")
    events.add_argument("--after", metavar="ID", help="begin after this event")
    wait = _command(jobs, "wait", commands.wait_for_job, "wait until a job is done")
    wait.add_argument("job", help="the job's id")
    wait.add_argument("-o", "--output-dir", metavar="DIR", help="download the results there")
    _add_waiting(wait)


def _add_batches(subparsers: Any) -> None:
    group = _group(subparsers, "batch", "compress many models at once")
    run = _command(group, "run", batches.run, "upload what a manifest names and compress it")
    run.add_argument("manifest", help="a YAML or JSON file with models and specs, or items")
    run.add_argument("--idempotency-key", metavar="KEY", help="the same key twice makes one batch")
    run.add_argument("--wait", action="store_true", help="wait for the end and show what came of the items")
    run.add_argument(
        "-o",
        "--output",
        dest="output_dir",
        metavar="DIR",
        help="download the results there, a folder for each item (implies --wait)",
    )
    _add_waiting(run)
    _add_limit(_command(group, "list", batches.list_batches, "list batches, newest first"))
    for name, command, summary in (
        ("show", batches.show, "show a batch"),
        ("cancel", batches.cancel, "stop a batch"),
        ("rm", batches.remove, "delete a batch that has ended; its jobs stay"),
    ):
        _command(group, name, command, summary).add_argument("batch", help="the batch's id")
    wait = _command(group, "wait", batches.wait, "wait until a batch is done")
    wait.add_argument("batch", help="the batch's id")
    wait.add_argument("-o", "--output", dest="output_dir", metavar="DIR", help="download the results there")
    _add_waiting(wait)
    items = _command(group, "items", batches.items, "list the items of a batch as they are now")
    items.add_argument("batch", help="the batch's id")
    _add_limit(items)
    results = _command(group, "results", batches.results, "show what came of the items, as a table or JSONL")
    results.add_argument("batch", help="the batch's id")
    results.add_argument("--jsonl", action="store_true", help="JSONL: the result files as they are")


def _add_schedules(subparsers: Any) -> None:
    group = _group(subparsers, "schedule", "jobs made at times, or when objects change")
    _add_schedule_create(_command(group, "create", schedules.create, "make a schedule"))
    _add_limit(_command(group, "list", schedules.list_schedules, "list schedules, newest first"))
    for name, run, summary in (
        ("show", schedules.show, "show a schedule and when it fires next"),
        ("pause", schedules.pause, "have it make no more runs"),
        ("resume", schedules.resume, "have it go on"),
        ("run", schedules.run, "run its job now"),
        ("runs", schedules.list_runs, "list what its fires came to, newest first"),
        ("delete", schedules.delete, "delete it; its jobs stay"),
    ):
        command = _command(group, name, run, summary)
        command.add_argument("schedule", help="the schedule's id")
        if name == "runs":
            _add_limit(command)
        if name == "run":
            command.add_argument("--idempotency-key", metavar="KEY", help="the same key twice makes one run")


def _add_schedule_create(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "model",
        nargs="?",
        help="a model file, the id of an uploaded one (mdl_…), or inbox:NAME for an object of the project's "
        "inbox as it is at each run",
    )
    command.add_argument("--data", metavar="FILE", help="a data set, in the same three ways")
    command.add_argument(
        "--spec", required=True, help="YAML or JSON file, inline JSON, or - for standard input"
    )
    when = command.add_mutually_exclusive_group(required=True)
    when.add_argument("--cron", metavar="EXPRESSION", help='fire at these times, such as "30 2 * * MON-FRI"')
    when.add_argument("--every", type=_count, metavar="SECONDS", help="fire every so many seconds")
    when.add_argument("--on-change", metavar="PREFIX", help="fire when objects of the inbox change")
    when.add_argument("--on-object", metavar="NAME", help="fire when this object of the inbox changes")
    command.add_argument("--timezone", default="UTC", metavar="ZONE", help="of --cron (default: UTC)")
    command.add_argument("--poll", type=_count, metavar="SECONDS", help="look for changes so often")
    command.add_argument(
        "--changed", choices=("model", "dataset"), help="take the object that changed for this"
    )
    command.add_argument("--name", help="a name for the schedule")
    command.add_argument(
        "--metadata", action="append", default=[], metavar="KEY=VALUE", type=_pair, help="may be repeated"
    )
    command.add_argument(
        "--catch-up", choices=("skip", "last", "all"), help="of missed fires (default: last)"
    )
    command.add_argument(
        "--catch-up-window", type=_count, metavar="SECONDS", help="skip fires missed by more (default: a day)"
    )
    command.add_argument(
        "--overlap",
        choices=("allow", "skip", "cancel_previous"),
        help="while an earlier job is at work (default: allow)",
    )
    command.add_argument(
        "--accuracy-drop", type=_seconds, metavar="POINTS", help="a run that lost more has regressed"
    )
    command.add_argument(
        "--size-growth", type=_seconds, metavar="PERCENT", help="a run that grew by more has regressed"
    )
    command.add_argument("--ends-at", metavar="TIME", help="fire no more after it, such as 2030-01-01T00:00Z")
    command.add_argument("--max-runs", type=_count, metavar="N", help="fire no more after so many runs")
    command.add_argument("--paused", action="store_true", help="fire only once it has been resumed")
    command.add_argument("--idempotency-key", metavar="KEY", help="the same key twice makes one schedule")


def _add_download(subparsers: Any) -> None:
    command = _command(subparsers, "download", commands.download, "download what a job made")
    command.add_argument("job", help="the job's id")
    command.add_argument("names", nargs="*", help="artifacts (default: all)")
    command.add_argument("-o", "--output-dir", metavar="DIR", default=".", help="default: this folder")


def _add_report(subparsers: Any) -> None:
    command = _command(subparsers, "report", reports.report, "show a job's report as a table")
    command.add_argument("job", help="the job's id, or a report.json that was downloaded")
    command.add_argument("--html", metavar="FILE", help="write the report as one HTML page there instead")


def _add_verify(subparsers: Any) -> None:
    command = _command(
        subparsers, "verify", reports.verify_files, "check downloaded files against their signed receipt"
    )
    command.add_argument("directory", metavar="DIR", help="the folder a job was downloaded to")
    command.add_argument(
        "--key",
        metavar="KEY",
        help="the public key, or a file with it (PEM, base64, or from /.well-known/receipt_keys); "
        "left out, the service is asked",
    )
    command.add_argument(
        "--rerun",
        action="store_true",
        help="evaluate the files again and compare with report.json; needs the engine, which is in a "
        "checkout of the service and in the workers' image",
    )
    for role, what in (("model", "model"), ("dataset", "data set")):
        command.add_argument(
            f"--{role}",
            metavar="FILE",
            help=f"with --rerun, the {what} that the job had (default: the file of its name in DIR)",
        )


def _add_compare(subparsers: Any) -> None:
    command = _command(subparsers, "compare", reports.compare, "show two reports side by side")
    for name in ("first", "second"):
        command.add_argument(name, help="a job's id, or a report.json that was downloaded")


def _add_files(subparsers: Any, kind: str) -> None:
    group = _group(subparsers, kind, f"the {kind} the service keeps")
    listing = _command(group, "ls", commands.list_files, f"list {kind}, newest first")
    _add_limit(listing)
    upload = _command(group, "upload", commands.upload_file, "upload a file, resuming where it broke off")
    upload.add_argument("path", help="the file")
    fetch = _command(group, "import", commands.import_file, "have the service fetch a file from a URL")
    fetch.add_argument("source", metavar="URL", help="https://, or s3:// for an object of the project")
    fetch.add_argument("--sha256", metavar="HEX", help="refuse a file of another digest")
    fetch.add_argument("--name", metavar="NAME", help="what to call it (default: as in the URL)")
    show = _command(group, "show", commands.show_file, "show what is known of it")
    show.add_argument("id")
    remove = _command(group, "rm", commands.remove_file, "delete it")
    remove.add_argument("id")
    for command in (listing, upload, fetch, show, remove):
        command.set_defaults(kind=kind)


def _add_inbox(subparsers: Any) -> None:
    group = _group(subparsers, "inbox", "what other systems put into the project's part of the bucket")
    listing = _command(group, "ls", inbox.list_objects, "list objects by name")
    listing.add_argument("prefix", nargs="?", default="", help="only those whose name begins with it")
    _add_limit(listing)
    adopt = _command(group, "adopt", inbox.adopt, "make a model or data set of an object")
    adopt.add_argument("name", help="the object's name, as ls shows it")
    adopt.add_argument("--kind", choices=("model", "dataset"), default="model", help="default: model")


def _group(subparsers: Any, name: str, summary: str) -> Any:
    group = subparsers.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    return group.add_subparsers(metavar="COMMAND", required=True)


def _add_limit(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--limit", type=_count, default=20, metavar="N", help="at most so many (default: 20)"
    )
