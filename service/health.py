"""``/healthz`` and ``/readyz``: whether this process lives, and whether it can do its work."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import redis
from flask import Blueprint, Response

from featherweight.resources import Health
from service.auth import public
from service.openapi import Shape, operation
from service.rendering import json_answer
from service.services import services
from service.version import version
from tasks.messages import NoMessageKey, Seal
from tasks.presence import WorkerStatus, workers
from tasks.queue import JOB_QUEUES
from tasks.storage import StorageUnavailable

__all__ = ["bp"]

_UNUSABLE = "unusable"

bp = Blueprint("health", __name__)
log = logging.getLogger(__name__)


@bp.get("/healthz")
@public
@operation(summary="Is the process alive?", answers={200: Shape(Health, "It is.")})
def alive() -> Response:
    """Asks nobody: a service whose Redis is away need not be restarted."""
    return json_answer(Health(status="ok", version=version()), Cache_Control="no-store")


@bp.get("/readyz")
@public
@operation(
    summary="Can requests be served?",
    answers={
        200: Shape(Health, "They can."),
        503: Shape(
            Health,
            "Redis or storage cannot be reached, messages cannot be signed, or no worker's sandbox holds: "
            "see checks.",
        ),
    },
)
def ready() -> Response:
    """Without any worker jobs wait, which is no fault of the service: they may be started on demand.
    Workers that are there and may take none are one. ``workers:<queue>`` says it of those of one framework: a
    service may well do without one."""
    needed = {"redis": _redis(), "storage": _storage(), "messages": _messages()}
    found = _workers()
    well = set(needed.values()) == {"ok"} and not found["workers"].startswith(_UNUSABLE)
    checks = {**needed, **found}
    health = Health(status="ok" if well else "unavailable", version=version(), checks=checks)
    return json_answer(health, 200 if well else 503, Cache_Control="no-store")


def _redis() -> str:
    try:
        services().redis.ping()
    except redis.RedisError as error:
        log.warning("not ready: redis: %s", type(error).__name__)
        return "unavailable"
    return "ok"


def _storage() -> str:
    try:
        services().storage.ready()
    except (StorageUnavailable, FileNotFoundError) as error:
        log.warning("not ready: storage: %s", type(error).__name__)
        return "unavailable"
    return "ok"


def _messages() -> str:
    try:
        Seal.of(services().settings).check()
    except NoMessageKey as error:
        log.warning("not ready: %s", error)
        return "unavailable"
    return "ok"


def _workers() -> dict[str, str]:
    """How the workers are together, and for each queue those that serve it: ``workers:torch``."""
    try:
        found = list(workers(services().redis).values())
    except redis.RedisError:
        return {"workers": "unknown"}
    of_queues = {f"workers:{queue}": [each for each in found if each.serves(queue)] for queue in JOB_QUEUES}
    return {name: _together(those) for name, those in {"workers": found, **of_queues}.items()}


def _together(found: Sequence[WorkerStatus]) -> str:
    states = {worker.state for worker in found}
    if "ready" in states:
        return "ok"
    if not found:
        return "none"
    if "starting" in states:
        return "starting"
    return f"{_UNUSABLE}: {found[0].why}"
