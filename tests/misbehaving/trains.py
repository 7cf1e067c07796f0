"""The real compression, with a checkpoint after every epoch however short it is.

`compress` stays in its third epoch until it is stopped, unless it goes on from an earlier attempt;
`undisturbed` does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import tasks.compression
from featherweight.events import Event, LogEvent, ResumedEvent

__all__ = ["compress", "undisturbed"]


def undisturbed(*args: Any, **options: Any) -> tasks.compression.Outcome:
    from tasks.compression import resuming

    resuming.AT_EPOCH_END_S, resuming.COST_SHARE = 0.0, 1e9
    return tasks.compression.compress(*args, **options)


def compress(*args: Any, emit: Callable[[Event], None], **options: Any) -> tasks.compression.Outcome:
    resumed = False

    def stay(event: Event) -> None:
        nonlocal resumed
        resumed = resumed or (isinstance(event, ResumedEvent) and event.epoch > 0)
        # Said before the checkpoint of that epoch is written.
        if isinstance(event, LogEvent) and event.message.startswith("epoch 3 of 5") and not resumed:
            emit(LogEvent(message="stays"))
            # Not in one go: a signal that is held back would end it.
            while not options["stop"].requested:
                time.sleep(0.05)
        emit(event)

    return undisturbed(*args, emit=stay, **options)
