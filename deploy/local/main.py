"""What the commands of this package share: plain output, and an end that cleans up."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType

from deploy.local.processes import StartError
from featherweight.errors import FeatherweightError

__all__ = ["run_main", "say"]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run_main(main: Callable[[], None]) -> None:
    """Run `main` and exit: 0, 1 with a sentence, or 128 + the signal's number.

    SIGTERM and SIGHUP unwind as Ctrl-C does, so that what was started is ended.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _unwind)
    try:
        main()
    except (StartError, FeatherweightError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _unwind(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
