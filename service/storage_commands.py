"""``featherweight-admin reconcile``: whether storage, records and counts say the same."""

from __future__ import annotations

import json

import click
import redis
from flask import Flask
from flask.cli import AppGroup, with_appcontext

from service.auditlog import OPERATOR
from service.services import services
from tasks.reconciliation import Finding, Report, reconcile
from tasks.storage import StorageUnavailable

__all__ = ["group", "init_app", "reconcile_command"]

group = AppGroup("storage", help="What lies in the object storage.")

# A file is stored before its record is made: younger objects may be of a request that is being answered.
_LEAST_AGE_S = 3600


def init_app(app: Flask) -> None:
    app.cli.add_command(group)


@group.command("reconcile")
@click.option("--project", help="Only this project's.")
@click.option("--delete-orphans", is_flag=True, help="Remove objects and multipart uploads of nobody.")
@click.option("--recount", is_flag=True, help="Count anew the bytes that are counted wrongly.")
@click.option(
    "--older-than",
    type=click.IntRange(min=_LEAST_AGE_S),
    default=86_400,
    show_default=True,
    metavar="SECONDS",
    help="Only objects of this age are orphans.",
)
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each finding, then the summary.")
@with_appcontext
def reconcile_command(
    project: str | None, delete_orphans: bool, recount: bool, older_than: int, as_json: bool
) -> None:
    """Compare what lies in storage with the records, both ways, and with the bytes counted.

    Changes nothing unless asked to. May be run while the service runs. Ends with 1 when something is wrong
    afterwards.
    """
    app, report = services(), Report()
    try:
        for finding in reconcile(
            app.settings,
            app.redis,
            app.storage,
            report,
            project=project,
            older_than_s=older_than,
            delete_orphans=delete_orphans,
            recount=recount,
        ):
            click.echo(finding.model_dump_json() if as_json else _line(finding))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--project") from None
    except (StorageUnavailable, redis.RedisError) as error:
        raise click.ClickException(f"{error}; run it again") from None
    finally:
        _note(project, report)
    click.echo(json.dumps(report.summary()) if as_json else _text(report))
    if not report.is_clean:
        raise click.exceptions.Exit(1)


def _line(finding: Finding) -> str:
    mended = "  (mended)" if finding.mended else ""
    what = f"{finding.what}  {finding.project}  {finding.subject!r}  {finding.bytes} bytes"
    return f"{what}: {finding.detail}{mended}"


def _text(report: Report) -> str:
    lines = [f"{report.objects} objects and {report.records} records"]
    if report.younger:
        lines.append(f"{report.younger} objects without a record, too young to be orphans")
    lines += [f"{count} objects in {folder}, not looked into" for folder, count in report.others.items()]
    lines += [f"{what}: {count}, {report.mended[what]} mended" for what, count in report.found.items()]
    lines.append(f"{report.orphaned_bytes} bytes in orphans")
    return "\n".join([*lines, "all is well" if report.is_clean else "not all is well"])


def _note(project: str | None, report: Report) -> None:
    """What was changed stands in the audit log."""
    changed = " ".join(f"{what}={count}" for what, count in report.mended.items() if count)
    if changed:
        services().audit.record(
            project=project, key_id=OPERATOR, action="storage.reconcile", target=changed, outcome="ok"
        )
