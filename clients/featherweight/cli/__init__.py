"""The command ``featherweight``. Exit codes: see `featherweight.cli.exit_codes`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

from featherweight.cli.arguments import parser
from featherweight.cli.commands import Context
from featherweight.cli.exit_codes import INTERRUPTED, exit_code
from featherweight.cli.output import Output
from featherweight.cli.progress import progress_for
from featherweight.client import Client
from featherweight.errors import FeatherweightError

__all__ = ["main"]

_BROKEN_PIPE = 141  # what a shell shows for a program ended by SIGPIPE


def main(
    argv: Sequence[str] | None = None, *, connect: Callable[[argparse.Namespace], Client] | None = None
) -> int:
    """Run the command with `argv` (without its name); the exit code. argparse exits by itself, with 2."""
    args = parser().parse_args(argv)
    _prepare(args)
    output = Output(as_json=args.json)
    make = connect or _connect
    context = Context(args, output, progress_for(sys.stderr), lambda: make(args))
    try:
        code: int = args.run(context)
        sys.stdout.flush()
    except KeyboardInterrupt:
        output.note("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left. Python must not try to flush to it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except (FeatherweightError, OSError, ValueError) as error:
        if args.debug:
            raise
        output.error(error)
        return exit_code(error)
    finally:
        if "client" in vars(context):
            context.client.close()
    return code


def _connect(args: argparse.Namespace) -> Client:
    return Client(args.url, args.api_key)


def _prepare(args: argparse.Namespace) -> None:
    level = logging.INFO if args.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an ASCII terminal is no reason to fail
