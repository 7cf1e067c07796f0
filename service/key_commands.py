"""``featherweight-admin keys``: making, listing, rotating and revoking API keys."""

from __future__ import annotations

from datetime import datetime, timedelta

import click
from flask import Flask
from flask.cli import AppGroup

from service.auditlog import OPERATOR
from service.keys import SCOPES, KeyRecord, Scope
from service.services import services
from tasks.store import NotFound

__all__ = ["init_app"]

group = AppGroup("keys", help="API keys.")


def init_app(app: Flask) -> None:
    app.cli.add_command(group)


@group.command("create")
@click.option("--project", required=True, help="Whose jobs, models and data sets the key opens.")
@click.option("--name", help="A word for people, to tell keys apart.")
@click.option(
    "--scope",
    type=click.Choice(SCOPES),
    default="submit",
    show_default=True,
    help="What it may do; each includes those before it.",
)
@click.option("--expires-days", type=click.FloatRange(min=0, min_open=True), help="Refuse it after so long.")
def create(project: str, name: str | None, scope: Scope, expires_days: float | None) -> None:
    """Make a key and print it: this once, for only its hash is kept."""
    lifetime = None if expires_days is None else timedelta(days=expires_days)
    try:
        key = services().keys.create(project, name, scope=scope, expires_in=lifetime)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--project") from None
    _record("keys.create", project, _id_of(key))
    click.echo(key)


@group.command("list")
@click.option("--project", help="Only this project's.")
def list_(project: str | None) -> None:
    """Print every key's id, project, scope, age, state, last use and name; never the key itself."""
    used = services().keys.last_used()
    for record in services().keys.list():
        if project in (None, record.project):
            click.echo(_line(record, used.get(record.id)))


@group.command("rotate")
@click.argument("key_id")
@click.option(
    "--overlap-hours",
    type=click.FloatRange(min=0),
    default=24,
    show_default=True,
    help="How long the old key is still accepted.",
)
def rotate(key_id: str, overlap_hours: float) -> None:
    """Make a key that may do the same, print it, and let the old one end."""
    try:
        project = services().keys.get(key_id).project
        key = services().keys.rotate(key_id, timedelta(hours=overlap_hours))
    except NotFound:
        raise _unknown(key_id) from None
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    _record("keys.rotate", project, key_id)
    _record("keys.create", project, _id_of(key))
    click.echo(key)


@group.command("revoke")
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """Refuse a key from now on."""
    try:
        record = services().keys.revoke(key_id)
    except NotFound:
        raise _unknown(key_id) from None
    _record("keys.revoke", record.project, key_id)
    click.echo(_line(record, services().keys.last_used().get(key_id)))


def _record(action: str, project: str, key_id: str) -> None:
    services().audit.record(project=project, key_id=OPERATOR, action=action, target=key_id, outcome="ok")


def _id_of(key: str) -> str:
    return key.removeprefix("fw_").rpartition("_")[0]


def _unknown(key_id: str) -> click.ClickException:
    return click.ClickException(f"there is no key {key_id!r}")


def _line(record: KeyRecord, used: datetime | None) -> str:
    ended = {"revoked": record.revoked_at, "expired": record.expires_at}.get(record.state)
    state = f"{record.state} {ended:%Y-%m-%d}" if ended else record.state
    if record.state == "valid" and record.expires_at is not None:
        state += f" until {record.expires_at:%Y-%m-%dT%H:%MZ}"
    last = f"used {used:%Y-%m-%dT%H:%MZ}" if used else "never used"
    facts = (record.id, record.project, record.scope, f"{record.created_at:%Y-%m-%d}", state, last)
    return "  ".join((*facts, record.name or "")).rstrip()
