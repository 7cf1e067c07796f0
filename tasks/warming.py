"""What a worker's fork server imports beforehand: the frameworks of the queues it serves, and no other."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.queue import JOB_QUEUES
from tasks.settings import Settings

__all__ = ["warm_targets"]


def warm_targets(settings: Settings, queues: Iterable[str]) -> tuple[str, ...]:
    """Functions "module:function" to call once: those of the setting `runner_warm`, or where it is left out
    the ``warm`` of each framework whose queue is among `queues`, in the order of JOB_QUEUES."""
    if settings.runner_warm is not None:
        return tuple(target for part in settings.runner_warm.split(",") if (target := part.strip()))
    served = set(queues)
    return tuple(f"tasks.compression.backends.{name}:warm" for name in JOB_QUEUES if name in served)
