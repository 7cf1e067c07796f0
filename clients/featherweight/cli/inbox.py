"""``featherweight inbox``: objects that other systems put into the project's part of the bucket."""

from __future__ import annotations

from itertools import islice

from featherweight.cli.commands import Context
from featherweight.cli.exit_codes import OK
from featherweight.cli.output import columns

__all__ = ["adopt", "list_objects"]

_PAGE = 100


def list_objects(context: Context) -> int:
    args = context.args
    listing = context.client.inbox.list(args.prefix, limit=min(args.limit, _PAGE))
    found = list(islice(listing, args.limit))
    rows = [[item.name, f"{item.bytes:,}", f"{item.modified:%Y-%m-%d %H:%M:%S}"] for item in found]
    context.output.result(found, columns(["name", "bytes", "modified"], rows, right=[1]))
    return OK


def adopt(context: Context) -> int:
    made = context.client.inbox.adopt(context.args.name, kind=context.args.kind)
    context.output.result(made, made.resource_id)
    return OK
