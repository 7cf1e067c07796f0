"""``featherweight-admin projects``: what a project may use, what it does, and whether it is paused."""

from __future__ import annotations

import math

import click
from flask import Flask
from flask.cli import AppGroup

from featherweight.resources import Limits
from service import projects
from service.auditlog import OPERATOR
from service.services import services

__all__ = ["init_app"]

group = AppGroup("projects", help="Limits and usage of projects, and their pauses.")


def init_app(app: Flask) -> None:
    app.cli.add_command(group)


class _Limit(click.ParamType):  # type: ignore[type-arg]
    """A number, or ``default`` for the limit of the settings."""

    name = "number|default"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        if value in (None, "default"):
            return math.nan if value else None
        try:
            number = float(str(value))
        except ValueError:
            number = -1.0
        if not (math.isfinite(number) and number >= 0):
            self.fail("is a number of at least 0, or 'default'", param, ctx)
        return number


@group.command("limits")
@click.argument("project")
@click.option("--stored-bytes", type=_Limit(), help="Of models, data sets, uploads and what jobs made.")
@click.option("--running-jobs", type=_Limit(), help="At a time; more of them wait.")
@click.option("--queued-jobs", type=_Limit(), help="More of them are refused.")
@click.option("--cpu-seconds-per-day", type=_Limit(), help="Of its jobs, within any 24 hours.")
@click.option("--requests-per-second", type=_Limit(), help="With bursts of twice as many.")
def limits(project: str, **given: float | None) -> None:
    """Set the limits named, and print all of them. 0 is no limit."""
    changes = {
        name: None if math.isnan(value) else _number(name, value)
        for name, value in given.items()
        if value is not None
    }
    try:
        if changes:
            found = services().limits.change(project, changes)
            told = " ".join(f"{name}={value}" for name, value in changes.items())
            services().audit.record(
                project=project, key_id=OPERATOR, action="projects.limits", target=told, outcome="ok"
            )
        else:
            found = services().limits.get(project)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    for name, value in found:
        click.echo(f"{name}  {value or 'no limit'}")


@group.command("usage")
@click.argument("project")
def usage(project: str) -> None:
    """Print what a project uses now."""
    try:
        click.echo(services().accounts.usage(project).model_dump_json(indent=2))
    except ValueError as error:
        raise click.ClickException(str(error)) from None


@group.command("pause")
@click.argument("project")
def pause(project: str) -> None:
    """Start no more jobs of a project; those that run go on."""
    _switch(project, paused=True)


@group.command("resume")
@click.argument("project")
def resume(project: str) -> None:
    """Start jobs of a project again."""
    _switch(project, paused=False)


def _switch(project: str, *, paused: bool) -> None:
    try:
        found = (projects.pause if paused else projects.resume)(services(), project)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    services().audit.record(
        project=project,
        key_id=OPERATOR,
        action=f"projects.{'pause' if paused else 'resume'}",
        target=project,
        outcome="ok",
    )
    click.echo(f"{project}  {'paused' if found.paused else 'not paused'}")


def _number(name: str, value: float) -> float:
    if Limits.model_fields[name].annotation is not float and not value.is_integer():
        raise click.BadParameter("is a whole number", param_hint=f"--{name.replace('_', '-')}")
    return value
