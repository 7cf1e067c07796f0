"""``featherweight-admin``: what whoever runs the service does beside it. ``python -m service.admin``.

It needs the settings of the service, and nothing but Redis and the object storage.
"""

from __future__ import annotations

import click
from flask.cli import ScriptInfo

from service import create_app, key_commands, limit_commands
from service.rebuild_commands import rebuild_index

__all__ = ["main"]

_group = click.Group(
    "featherweight-admin",
    commands=[key_commands.group, limit_commands.group, rebuild_index],
    help="Keys and limits of projects, and records lost with Redis. Settings are those of the service.",
)


def main() -> None:
    _group(obj=ScriptInfo(create_app=create_app), prog_name="featherweight-admin")


if __name__ == "__main__":
    main()
