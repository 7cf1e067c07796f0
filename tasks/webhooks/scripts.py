"""The Lua scripts of ``tasks/webhooks/lua``, each with the prelude and settings it needs in front of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import redis

from tasks.recordstore import text
from tasks.settings import Settings
from tasks.webhooks.retries import RetryPolicy

__all__ = ["Scripts", "moment", "pairs"]

_FOLDER = Path(__file__).with_name("lua")
# A delivery waits for as long as its attempts last, and can be made again while it is in the log.
_ON_TOP_S = 4 * 86_400


class Scripts:
    """Called by name, with arguments alone. redis.RedisError."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._settings = settings

    def __call__(self, name: str, *args: str | float) -> Any:
        return self._loaded[name](keys=[], args=list(args))

    @cached_property
    def _loaded(self) -> Mapping[str, Any]:
        head = self._constants() + (_FOLDER / "prelude.lua").read_text()
        return {
            path.stem: self._redis.register_script(head + path.read_text())
            for path in _FOLDER.glob("*.lua")
            if path.stem != "prelude"
        }

    def _constants(self) -> str:
        kept = self._settings.webhook_log_expiry_s
        return (
            f"local LOG_EXPIRY = {kept}\n"
            f"local EVENT_EXPIRY = {kept + _ON_TOP_S}\n"
            f"local LOG_MAX = {self._settings.webhook_log_max}\n"
            f"local DISABLE_AFTER = {self._settings.webhook_disable_after_s}\n"
            f"local MOST_ATTEMPTS = {RetryPolicy.of(self._settings).attempts}\n"
        )


def pairs(answer: Mapping[Any, Any] | Iterable[Any]) -> dict[str, str]:
    """A hash as a script (a flat list) or a command (a mapping) answers it."""
    if isinstance(answer, Mapping):
        return {text(name): text(value) for name, value in answer.items()}
    flat = [text(item) for item in answer]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def moment(fields: Mapping[str, str], name: str) -> datetime | None:
    """The time in a record's field; None when it has none."""
    return datetime.fromtimestamp(float(fields[name]), UTC) if name in fields else None
