"""Who did what: an entry for everything that changes something, fetches a file or was refused.

Each entry is a line of the logger ``service.audit``, and stays for some time in the project's stream in
Redis. The line is the record of last resort: should Redis fail after the work was done, the answer is
given all the same. Requests without a valid key belong to no project, and have the line alone.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import redis

from featherweight.resources import AuditEntry
from tasks.identifiers import check_name
from tasks.recordstore import text
from tasks.settings import Settings

__all__ = ["OPERATOR", "AuditLog"]

log = logging.getLogger("service.audit")

# Who works with the commands, on the machine itself.
OPERATOR = "operator"

_CURSOR = re.compile(r"\d{1,16}-\d{1,16}")


class AuditLog:
    """Safe to use from many threads."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._kept_s = settings.audit_expiry_s
        self._most = settings.audit_max

    def record(
        self,
        *,
        project: str | None,
        key_id: str | None,
        action: str,
        outcome: str,
        target: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        """`action` is a resource and a verb, `target` what it was done to, `outcome` ok or a problem code."""
        facts = {
            "key_id": key_id,
            "action": action,
            "target": target,
            "outcome": outcome,
            "status": status,
            "request_id": request_id,
        }
        log.info("audit", extra={"project": project, **facts})
        if project is not None:
            self._store(project, {name: str(value) for name, value in facts.items() if value is not None})

    def list(
        self, project: str, *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[AuditEntry], str | None]:
        """Newest first, and the cursor of what follows; ValueError for a cursor not of ours."""
        if cursor is not None and not _CURSOR.fullmatch(cursor):
            raise ValueError("not a cursor of this list")
        newest = "+" if cursor is None else f"({cursor}"
        found = cast("list[Any]", self._redis.xrevrange(_key(project), max=newest, count=limit + 1))
        entries = [_entry(text(entry_id), fields) for entry_id, fields in found[:limit]]
        return entries, text(found[limit - 1][0]) if len(found) > limit else None

    def _store(self, project: str, facts: dict[str, str]) -> None:
        oldest_ms = max(0, int(1000 * (time.time() - self._kept_s)))
        try:
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.xadd(_key(project), cast("Any", facts), maxlen=self._most, approximate=True)
            pipeline.xtrim(_key(project), minid=f"{oldest_ms}-0", approximate=True)
            pipeline.expire(_key(project), self._kept_s)
            pipeline.execute()
        except redis.RedisError as error:
            log.warning("an audit entry stands in this log alone: %s", type(error).__name__)


def _key(project: str) -> str:
    return f"fw:audit:{check_name(project)}"


def _entry(entry_id: str, fields: dict[Any, Any]) -> AuditEntry:
    at = datetime.fromtimestamp(int(entry_id.partition("-")[0]) / 1000, UTC)
    known = {text(name): text(value) for name, value in fields.items()}
    return AuditEntry.model_validate({"id": entry_id, "at": at, **known})
