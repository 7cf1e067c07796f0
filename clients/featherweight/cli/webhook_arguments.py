"""The arguments of ``featherweight webhook``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from featherweight.cli import webhooks
from featherweight.cli.argument_types import count, moment, pair
from featherweight.webhooks import EVENT_TYPES

__all__ = ["add"]

_TYPES = ", ".join(EVENT_TYPES)


def add(group: Any, command: Callable[..., argparse.ArgumentParser]) -> None:
    """Its commands, each made by `command(group, name, run, summary)`."""
    create = command(group, "create", webhooks.create, "have events sent to a URL; prints its id and secret")
    create.add_argument("endpoint_url", metavar="URL", help="https://, of a public host")
    _add_events(create, f"only events of this type (default: all): {_TYPES}")
    create.add_argument("--metadata", action="append", default=[], metavar="KEY=VALUE", type=pair)
    create.add_argument("--idempotency-key", metavar="KEY", help="the same key twice makes one endpoint")
    listing = command(group, "list", webhooks.list_endpoints, "list endpoints, newest first")
    listing.add_argument("--limit", type=count, default=20, metavar="N", help="at most so many (default: 20)")
    for name, run, summary in (
        ("show", webhooks.show, "show an endpoint"),
        ("test", webhooks.test, "send a test event"),
        ("delete", webhooks.delete, "send nothing there any more"),
    ):
        _add_endpoint(command(group, name, run, summary))
    _add_update(command(group, "update", webhooks.update, "change an endpoint"))
    rotate = command(group, "rotate", webhooks.rotate, "replace the secret; prints the new one")
    _add_endpoint(rotate)
    rotate.add_argument(
        "--overlap-hours", type=float, default=24, metavar="N", help="sign with the old one too (default: 24)"
    )
    log = command(group, "deliveries", webhooks.deliveries, "what was sent, newest first")
    _add_endpoint(log)
    log.add_argument("--state", choices=["pending", "succeeded", "failed"], help="only those in this state")
    log.add_argument("--limit", type=count, default=20, metavar="N", help="at most so many (default: 20)")
    replay = command(group, "replay", webhooks.replay, "send events again")
    _add_endpoint(replay)
    replay.add_argument("delivery", nargs="?", help="the delivery's id")
    replay.add_argument(
        "--since", type=moment, metavar="TIME", help="all that failed since then, as 2026-01-31T06:00"
    )


def _add_update(update: argparse.ArgumentParser) -> None:
    _add_endpoint(update)
    update.add_argument("--endpoint-url", metavar="URL", help="send to this URL from now on")
    _add_events(update, "send events of this type instead")
    update.set_defaults(disabled=None)
    state = update.add_mutually_exclusive_group()
    state.add_argument("--disable", dest="disabled", action="store_true", help="send nothing for now")
    state.add_argument("--enable", dest="disabled", action="store_false", help="begin again")


def _add_endpoint(command: argparse.ArgumentParser) -> None:
    command.add_argument("endpoint", help="the endpoint's id (whe_…)")


def _add_events(command: argparse.ArgumentParser, explained: str) -> None:
    command.add_argument("--event", action="append", metavar="TYPE", help=f"{explained}; may be repeated")
    command.add_argument("--description", help="a note for people")
