"""The Lua scripts of ``tasks/lua``, each with the prelude and the settings it needs in front of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis

from featherweight.job import TRANSITIONS
from tasks.endings import endings
from tasks.limits import defaults
from tasks.settings import Settings

__all__ = ["load_scripts"]

_SCRIPTS = Path(__file__).with_name("lua")


def load_scripts(client: redis.Redis, settings: Settings) -> Mapping[str, Any]:
    """The scripts by name, to be called with ``keys=[]`` and ``args``. Redis is not asked yet."""
    head = _constants(settings) + (_SCRIPTS / "prelude.lua").read_text()
    return {
        path.stem: client.register_script(head + path.read_text())
        for path in _SCRIPTS.glob("*.lua")
        if path.stem != "prelude"
    }


def _constants(settings: Settings) -> str:
    transitions = {old: dict.fromkeys(news, True) for old, news in TRANSITIONS.items()}
    problems = {code: each.model_dump_json() for code, each in endings(settings).items()}
    return (
        f"local TRANSITIONS = cjson.decode('{json.dumps(transitions)}')\n"
        f"local LIMITS = cjson.decode('{defaults(settings).model_dump_json()}')\n"
        f"local PROBLEMS = cjson.decode([==[{json.dumps(problems)}]==])\n"
        f"local EVENT_MAX = {settings.event_stream_max}\n"
        f"local EVENT_EXPIRY = {settings.event_expiry_s}\n"
        f"local MAX_ATTEMPTS = {settings.max_attempts}\n"
        f"local RETRY_FIRST, RETRY_MAX = {settings.retry_first_s}, {settings.retry_max_s}\n"
        f"local STALE_AFTER = {settings.stale_queued_s}\n"
    )
