"""``featherweight-admin rebuild-index``: the records of Redis made anew from object storage."""

from __future__ import annotations

import click
import redis
from flask import Flask
from flask.cli import with_appcontext

from service.services import services
from tasks.rebuild import KINDS, Rebuild, Rebuilt
from tasks.storage import StorageUnavailable

__all__ = ["init_app", "rebuild_index"]

_SAID_EVERY = 1024
_NOT_THERE = (
    "Not in storage, and to be set again: API keys, webhook endpoints, limits and pauses of projects. "
    "Uploads that were not completed begin anew."
)


def init_app(app: Flask) -> None:
    app.cli.add_command(rebuild_index)


@click.command("rebuild-index")
@click.option("--project", help="Only this project's.")
@with_appcontext
def rebuild_index(project: str | None) -> None:
    """Restore every record that Redis has lost from object storage.

    Records that are there stay as they are: it may be run again, and while the service runs. Jobs that had
    not ended are queued again. Ends with 1 where something could not be restored.
    """
    app = services()
    try:
        rebuilt = Rebuild(app.settings, app.redis, app.storage, app.queue).run(project, _say_progress)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--project") from None
    except (StorageUnavailable, redis.RedisError) as error:
        raise click.ClickException(f"{error}; what was restored is whole: run it again") from None
    _say(rebuilt)
    if rebuilt.not_restored:
        raise click.exceptions.Exit(1)


def _say_progress(looked_at: int) -> None:
    if looked_at % _SAID_EVERY == 0:
        click.echo(f"{looked_at} looked at …", err=True)


def _say(rebuilt: Rebuilt) -> None:
    for kind in (*KINDS, "batches", "schedules"):
        again = f", {rebuilt.queued} of them queued again" if kind == "jobs" else ""
        restored, present = rebuilt.restored[kind], rebuilt.present[kind]
        click.echo(f"{kind.replace('_', ' ')}: {restored} restored{again}; {present} were there already")
    for kind, count in sorted(rebuilt.others.items()):
        click.echo(f"{kind}: {count} objects, of which no records are made")
    click.echo(f"not restored: {rebuilt.not_restored}")
    for key, why in rebuilt.unreadable:
        click.echo(f"  {key}: {why}")
    if (more := rebuilt.not_restored - len(rebuilt.unreadable)) > 0:
        click.echo(f"  and {more} more")
    click.echo(_NOT_THERE)
