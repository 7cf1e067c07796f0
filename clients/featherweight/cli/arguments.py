"""The command's arguments. Every command is a function of `featherweight.cli.commands`."""

from __future__ import annotations

import argparse
from typing import Any

from featherweight._version import version
from featherweight.cli import commands, exit_codes, inspections, repeats, reports

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
    _add_download(subparsers)
    _add_report(subparsers)
    _add_verify(subparsers)
    _add_compare(subparsers)
    for kind in ("models", "datasets"):
        _add_files(subparsers, kind)
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
        help="a model file (.keras, .h5, .tflite, a SavedModel in a zip or tar), or the id of an "
        "uploaded one (mdl_…)",
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
        help="a model file (.keras, .h5, .tflite, a SavedModel in a zip or tar), or the id of an "
        "uploaded one (mdl_…)",
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


def _group(subparsers: Any, name: str, summary: str) -> Any:
    group = subparsers.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    return group.add_subparsers(metavar="COMMAND", required=True)


def _add_limit(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--limit", type=_count, default=20, metavar="N", help="at most so many (default: 20)"
    )


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)
