"""Workers that do not talk to each other: whoever can, can tell them what to do."""

from __future__ import annotations

from celery import Celery

__all__ = ["keep_alone"]

# The heartbeat of Celery is an event that nobody hears. Sending it waits for Redis in the loop that takes
# messages, for up to half a minute after Redis is back.
_SILENT = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}


def keep_alone(app: Celery) -> None:
    """The workers of `app` neither gossip nor mingle nor send heartbeats, whatever they are started with."""
    worker = app.Worker
    app.Worker = lambda **options: worker(**{**options, **_SILENT})
