"""Models and data sets as the views make them: refusals of ``tasks.intake`` are problems."""

from __future__ import annotations

from typing import Any

from service.errors import ProblemError
from service.services import Services
from tasks.filekinds import FileKind, R
from tasks.intake import FileRefused, sniffed
from tasks.sniffing import StoredKind

__all__ = ["GATE_PROBLEMS", "adopt", "refused", "sniff"]

# Of the gate's codes those of both kinds of files; docs/security.md has all of them.
GATE_PROBLEMS = ("archive_bomb", "bad_archive", "archive_path_not_allowed", "too_many_files")


def adopt(app: Services, kind: FileKind[R], project: str, resource_id: str, **file: Any) -> R:
    """``Intake.adopt``, with its refusals as problems."""
    try:
        return app.intake.adopt(kind, project, resource_id, **file)
    except FileRefused as error:
        raise refused(error) from None


def sniff(kind: StoredKind, head: bytes) -> str:
    """The format of the file that begins with `head`; unknown_file_type when no `kind` has it."""
    try:
        return sniffed(kind, head)
    except FileRefused as error:
        raise refused(error) from None


def refused(error: FileRefused) -> ProblemError:
    """The refusal as an answer."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return ProblemError.of(error.problem, headers)
