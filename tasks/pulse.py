"""A step of the courier: chores done every second, so that it needs no worker to look after what is due."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from celery import bootsteps

__all__ = ["Pulse"]

_log = logging.getLogger(__name__)
_EVERY_S = 1.0


class Pulse(bootsteps.StartStopStep):  # type: ignore[misc]
    """Does ``app.chores`` for as long as the courier runs."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._over = threading.Event()

    def start(self, worker: Any) -> None:
        chores = tuple(worker.app.chores)
        threading.Thread(target=self._work, args=(chores,), name="pulse", daemon=True).start()

    def stop(self, worker: Any) -> None:
        self._over.set()

    terminate = stop

    def _work(self, chores: Sequence[Callable[[], None]]) -> None:
        said: dict[int, str] = {}
        while not self._over.wait(_EVERY_S):
            for number, chore in enumerate(chores):
                try:
                    chore()
                except Exception as error:  # noqa: BLE001 - the next beat tries again
                    # Once for an outage, not once a second.
                    if said.get(number) != str(error):
                        _log.warning("the courier leaves a chore for later: %s", error)
                    said[number] = str(error)
                else:
                    said.pop(number, None)
