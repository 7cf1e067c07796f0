"""The commands about what a job reports: shown, written as a page, compared with another, checked."""

from __future__ import annotations

from pathlib import Path

from featherweight._files import atomic_writer
from featherweight.cli.commands import Context
from featherweight.cli.comparison import comparison_text
from featherweight.cli.exit_codes import DIFFERS, OK
from featherweight.cli.report_text import report_text
from featherweight.cli.rerun_text import rerun_text
from featherweight.errors import NotFound, job_error
from featherweight.receipt import ReceiptKey
from featherweight.report import Report
from featherweight.rerun import rerun

__all__ = ["compare", "report", "verify_files"]

_PAGE = "report.html"


def report(context: Context) -> int:
    name, target = context.args.job, context.args.html
    if target is not None:
        page = _page_of(context, name)
        with atomic_writer(Path(target)) as file:
            file.write(page)
        context.output.result({"file": target}, target)
        return OK
    shown = _report(context, name)
    context.output.result(shown, report_text(shown))
    return OK


def compare(context: Context) -> int:
    first, second = (_report(context, name) for name in (context.args.first, context.args.second))
    context.output.result({"first": first, "second": second}, comparison_text(first, second))
    return OK


def verify_files(context: Context) -> int:
    from featherweight.verify import verify

    directory, args = Path(context.args.directory), context.args
    if not args.rerun and (args.model or args.dataset):
        raise ValueError("--model and --dataset are for --rerun")
    found = verify(directory, _keys(context))
    lines = [
        f"signed by {found.receipt.key_id} on {found.receipt.signed_at:%Y-%m-%d %H:%M:%S} UTC "
        f"for {found.receipt.job_id}",
        *(f"ok  {name}" for name in (*found.files, *found.inputs)),
    ]
    again = None
    if args.rerun:
        again = rerun(directory, found.receipt, model=_path(args.model), dataset=_path(args.dataset))
        lines += ["", rerun_text(again)]
    else:
        lines.append("not measured again (--rerun, where the engine is installed)")
    value = {"receipt": found.receipt, "files": found.files, "inputs": found.inputs, "rerun": again}
    context.output.result(value, "\n".join(lines))
    return OK if again is None or again.agrees else DIFFERS


def _path(given: str | None) -> Path | None:
    return None if given is None else Path(given)


def _keys(context: Context) -> list[ReceiptKey]:
    given = context.args.key
    if given is None:
        return context.client.receipt_keys()
    from featherweight.verify import key_of

    path = Path(given)
    return [key_of(path.read_text() if len(given) < 1024 and path.is_file() else given)]


def _report(context: Context, name: str) -> Report:
    if Path(name).is_file():
        return Report.model_validate_json(Path(name).read_bytes())
    return _report_of(context, name)


def _report_of(context: Context, job_id: str) -> Report:
    """JobError for a job that failed, which says more than that there is no report."""
    try:
        return context.client.jobs.report(job_id)
    except NotFound:
        job = context.client.jobs.get(job_id)
        if (error := job_error(job)) is not None:
            raise error from None
        raise


def _page_of(context: Context, name: str) -> bytes:
    """The page was made with the report: of a report.json that was downloaded it lies beside it."""
    path = Path(name)
    if not path.is_file():
        return context.client.jobs.report_html(name).encode()
    beside = path.with_name(_PAGE)
    if not beside.is_file():
        raise ValueError(f"{beside} is not there: give the job's id, or download {_PAGE} too")
    return beside.read_bytes()
