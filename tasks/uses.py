"""Who needs a model, a data set or a job: what anybody needs is removed neither on request nor by its age.

A job that has not ended needs its model and data set; the job store's scripts see to that. Whoever else
counts on something – a batch on the models of items it has not submitted yet, a schedule on its model – says
so here.
"""

from __future__ import annotations

from typing import cast

import redis

from tasks.identifiers import check_name
from tasks.recordstore import checked, text

__all__ = ["Uses"]


class Uses:
    """Any method may raise redis.RedisError. Safe to use from many threads."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def hold(self, project: str, subject: str, user: str) -> None:
        """`user` (the id of a batch, say) needs `subject` until it is released; done twice, it is done once.

        It keeps what is there: look whether it is afterwards, and release it if not.
        """
        self._redis.sadd(_key(project, subject), checked(user))

    def release(self, project: str, subject: str, user: str) -> None:
        """`user` does not need `subject` any more."""
        self._redis.srem(_key(project, subject), checked(user))

    def of(self, project: str, subject: str) -> list[str]:
        """Who needs it."""
        found = cast("set[bytes]", self._redis.smembers(_key(project, subject)))
        return sorted(text(user) for user in found)


def _key(project: str, subject: str) -> str:
    return f"fw:users:{check_name(project)}:{checked(subject)}"
