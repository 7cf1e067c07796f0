"""A worker takes no job before its sandbox has been seen to hold.

Where it does not hold, the worker stays, says why (`tasks.presence`, ``/readyz``), and tries again:
an operator may be mending what is wrong.
"""

from __future__ import annotations

import logging
import threading

from tasks.presence import Presence, WorkerStatus
from tasks.sandbox.children import RunnerLost, Runners
from tasks.sandbox.choice import chosen_sandbox
from tasks.sandbox.selftest import SandboxLeaks, check
from tasks.settings import Settings

__all__ = ["become_ready"]

_log = logging.getLogger(__name__)
_AGAIN_S = 30.0


def become_ready(settings: Settings, runners: Runners, presence: Presence, stopping: threading.Event) -> bool:
    """Return once jobs can be taken; False when the worker was stopped before that."""
    while not stopping.is_set():
        why = _why_not(settings, runners, stopping)
        if stopping.is_set():
            break
        if why is None:
            presence.status = WorkerStatus(state="ready", sandbox=settings.sandbox)
            return True
        _log.error("this worker takes no jobs: %s (see docs/sandbox.md)", why)
        presence.status = WorkerStatus(state="unusable", sandbox=settings.sandbox, why=why)
        stopping.wait(_AGAIN_S)
    return False


def _why_not(settings: Settings, runners: Runners, stopping: threading.Event) -> str | None:
    if settings.sandbox == "external":
        _log.warning("jobs are confined by limits alone: FEATHERWEIGHT_SANDBOX is external")
        return None
    try:
        sandbox = chosen_sandbox(settings)
        check(runners, sandbox, settings.scratch_dir, stopped=stopping.is_set)
    except (SandboxLeaks, RunnerLost) as error:
        return str(error)
    except OSError as error:
        return f"the sandbox could not be tested: {error.strerror}"
    user = "the worker's user" if sandbox.uid is None else f"user {sandbox.uid}"
    _log.info("the sandbox holds; jobs run as %s", user)
    return None
