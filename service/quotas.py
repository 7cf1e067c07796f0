"""What a project may use, as the views ask for it: refusals are problems."""

from __future__ import annotations

from service.errors import ProblemError
from service.services import Services
from tasks.submission import NO_ROOM_HINT
from tasks.usage import StorageFull

__all__ = ["check_room", "keep"]


def keep(app: Services, project: str, resource_id: str, size: int, *, instead_of: str = "") -> None:
    """Count the bytes of a resource, and those of another not any more; storage_quota_exceeded."""
    try:
        app.accounts.keep(project, resource_id, size, instead_of=instead_of)
    except StorageFull as error:
        raise _no_room(error) from None


def check_room(app: Services, project: str, size: int) -> None:
    """storage_quota_exceeded when `size` bytes more would be too many: asked before they are read."""
    try:
        app.accounts.check_room(project, size)
    except StorageFull as error:
        raise _no_room(error) from None


def _no_room(error: StorageFull) -> ProblemError:
    return ProblemError(
        "storage_quota_exceeded",
        str(error),
        hint=NO_ROOM_HINT,
    )
