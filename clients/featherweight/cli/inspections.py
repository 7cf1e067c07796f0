"""The command that inspects a model."""

from __future__ import annotations

from functools import partial

from featherweight.cli.commands import Context
from featherweight.cli.exit_codes import NOT_VALID, OK
from featherweight.cli.inspection_text import inspection_text

__all__ = ["inspect"]


def inspect(context: Context) -> int:
    """NOT_VALID for a model that no job would take."""
    try:
        found = context.client.inspect(
            context.args.model, on_upload=partial(context.progress.bytes, "upload")
        )
    finally:
        context.progress.clear()
    context.output.result(found, inspection_text(found))
    return OK if found.usable else NOT_VALID
