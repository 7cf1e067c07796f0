"""Workers that do not talk to each other: whoever can, can tell them what to do."""

from __future__ import annotations

from celery import Celery

__all__ = ["keep_alone"]


def keep_alone(app: Celery) -> None:
    """The workers of `app` neither gossip nor mingle, whatever they are started with."""
    worker = app.Worker
    app.Worker = lambda **options: worker(**{**options, "without_gossip": True, "without_mingle": True})
