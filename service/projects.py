"""``/v1/project``: the project of the key, which may be paused."""

from __future__ import annotations

import logging

from flask import Blueprint, Response
from kombu.exceptions import OperationalError

from featherweight.resources import Project
from service.auth import needs, project
from service.openapi import Shape, operation
from service.rendering import json_answer
from service.services import Services, services
from tasks.messages import NoMessageKey
from tasks.queue import JOB_QUEUES

__all__ = ["bp", "pause", "resume"]

bp = Blueprint("project", __name__, url_prefix="/v1/project")

log = logging.getLogger(__name__)


@bp.get("")
@operation(
    summary="The project of the key",
    answers={200: Shape(Project, "The project, and whether it is paused.")},
)
def show() -> Response:
    return json_answer(_project(services(), project()))


@bp.post("/pause")
@needs("admin")
@operation(
    summary="Start no more jobs of the project",
    answers={200: Shape(Project, "The project, which is paused now or was before.")},
)
def pause_() -> Response:
    """Jobs are still accepted, and wait; those that run go on to their end. A job's max_queue_s and
    max_total_s count on meanwhile. Pausing twice does no harm."""
    return json_answer(pause(services(), project()))


@bp.post("/resume")
@needs("admin")
@operation(
    summary="Start jobs of the project again",
    answers={200: Shape(Project, "The project, which is not paused.")},
)
def resume_() -> Response:
    return json_answer(resume(services(), project()))


def pause(app: Services, name: str) -> Project:
    """ValueError for what cannot be a project's name."""
    app.pauses.pause(name)
    return _project(app, name)


def resume(app: Services, name: str) -> Project:
    """ValueError for what cannot be a project's name."""
    if app.pauses.resume(name):
        _announce(app)
    return _project(app, name)


def _announce(app: Services) -> None:
    """The messages about jobs that waited were used up meanwhile. What is not sent here the reaper sends."""
    try:
        for queue in JOB_QUEUES:
            for job_id in app.jobs.unannounced(queue):
                app.queue.enqueue(job_id, queue=queue)
    except (OperationalError, OSError, NoMessageKey) as error:
        log.warning("jobs of a resumed project were not announced: %s", type(error).__name__)


def _project(app: Services, name: str) -> Project:
    since = app.pauses.since(name)
    return Project(name=name, paused=since is not None, paused_at=since)
