"""The inbox as a source of batches: its objects are models."""

from __future__ import annotations

from collections.abc import Sequence

from featherweight.problem import Problem
from tasks.batches.sources import SourceBusy, SourceUnreadable
from tasks.inbox import Inbox
from tasks.intake import FileRefused

__all__ = ["Inboxed"]


class Inboxed:
    """The objects of one project under a prefix. StorageUnavailable, redis.RedisError."""

    def __init__(self, inbox: Inbox, project: str, prefix: str) -> None:
        self._inbox = inbox
        self._project = project
        self._prefix = prefix

    def names(self, after: str | None, limit: int) -> Sequence[str]:
        """SourceUnreadable for a prefix that cannot be one."""
        try:
            return [found.name for found in self._inbox.list(self._project, self._prefix, after, limit)]
        except FileRefused as error:
            raise SourceUnreadable(error.problem) from None

    def model(self, name: str) -> str | Problem:
        """SourceBusy when it may be judged later."""
        try:
            return self._inbox.adopt(self._project, name, "model").id
        except FileRefused as error:
            if error.retry_after_s is not None or error.problem.retryable:
                raise SourceBusy(error.problem.detail) from None
            return error.problem
