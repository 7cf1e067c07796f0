"""``featherweight-admin retention``: the sweeper, which removes what has reached the age it is kept to."""

from __future__ import annotations

import click
from flask import Flask
from flask.cli import AppGroup

from service.auditlog import OPERATOR
from service.services import services

__all__ = ["init_app"]

group = AppGroup("retention", help="What removes things when their time is over.")

_EVERY_PROJECT = "-"


def init_app(app: Flask) -> None:
    app.cli.add_command(group)


@group.command("status")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(as_json: bool) -> None:
    """Print whether it runs, where it is, and what it has removed."""
    found = services().sweeper.progress()
    if as_json:
        click.echo(found.model_dump_json(indent=2))
        return
    click.echo("running" if found.running else f"stopped since {found.stopped_at:%Y-%m-%dT%H:%M:%SZ}")
    for name, value in found.model_dump(mode="json", exclude={"running", "removed"}).items():
        if value is not None:
            click.echo(f"{name}  {value}")
    for name, count in found.removed.items():
        click.echo(f"removed {name}  {count}")


@group.command("stop")
def stop() -> None:
    """Remove nothing more, in any worker, until it is resumed. Requests to delete are still carried out."""
    services().sweeper.stop()
    _record("retention.stop")
    click.echo("stopped")


@group.command("resume")
def resume() -> None:
    """Go on where it was stopped."""
    services().sweeper.resume()
    _record("retention.resume")
    click.echo("running")


def _record(action: str) -> None:
    services().audit.record(project=None, key_id=OPERATOR, action=action, target=_EVERY_PROJECT, outcome="ok")
