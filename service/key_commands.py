"""``flask --app service keys``: making, listing and revoking API keys."""

from __future__ import annotations

import click
from flask import Flask
from flask.cli import AppGroup

from service.keys import KeyRecord
from service.services import services
from tasks.store import NotFound

__all__ = ["init_app"]

group = AppGroup("keys", help="API keys.")


def init_app(app: Flask) -> None:
    app.cli.add_command(group)


@group.command("create")
@click.option("--project", required=True, help="Whose jobs, models and data sets the key opens.")
@click.option("--name", help="A word for people, to tell keys apart.")
def create(project: str, name: str | None) -> None:
    """Make a key and print it: this once, for only its hash is kept."""
    try:
        click.echo(services().keys.create(project, name))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--project") from None


@group.command("list")
@click.option("--project", help="Only this project's.")
def list_(project: str | None) -> None:
    """Print every key's id, project, age and name; never the key itself."""
    for record in services().keys.list():
        if project in (None, record.project):
            click.echo(_line(record))


@group.command("revoke")
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """Refuse a key from now on."""
    try:
        click.echo(_line(services().keys.revoke(key_id)))
    except NotFound:
        raise click.ClickException(f"there is no key {key_id!r}") from None


def _line(record: KeyRecord) -> str:
    state = f"revoked {record.revoked_at:%Y-%m-%d}" if record.revoked_at else "valid"
    return (
        f"{record.id}  {record.project}  {record.created_at:%Y-%m-%d}  {state}  {record.name or ''}".rstrip()
    )
