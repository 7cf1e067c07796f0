"""Identifiers: a prefix that says what it is, and 128 random bits."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import Literal

__all__ = ["PREFIXES", "Kind", "check_name", "derived_id", "is_id", "new_id"]

Kind = Literal["model", "dataset", "job", "upload", "key", "batch", "schedule", "endpoint", "delivery"]
PREFIXES: dict[Kind, str] = {
    "model": "mdl",
    "dataset": "ds",
    "job": "job",
    "upload": "upl",
    "key": "key",
    "batch": "bat",
    "schedule": "sch",
    "endpoint": "whe",
    "delivery": "dlv",
}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def new_id(kind: Kind) -> str:
    """``<prefix>_`` and 26 lower-case base32 characters."""
    return f"{PREFIXES[kind]}_{_spelled(secrets.token_bytes(16))}"


def derived_id(kind: Kind, *parts: str) -> str:
    """The id of what exists once for these `parts`: the same for the same ones, and unguessable only if they
    are."""
    digest = hashlib.sha256("\0".join((kind, *parts)).encode()).digest()
    return f"{PREFIXES[kind]}_{_spelled(digest[:16])}"


def is_id(text: str) -> bool:
    """Whether `text` can be the name of a record or project.

    Names become parts of Redis and storage keys, so neither ``:`` nor ``/`` may stand in one.
    """
    return _NAME.fullmatch(text) is not None


def check_name(text: str) -> str:
    """`text` itself; ValueError when it cannot name a project."""
    if not is_id(text):
        raise ValueError(f"{text!r} is not a name: letters, digits, '.', '_' and '-', at most 128")
    return text


def _spelled(value: bytes) -> str:
    return base64.b32encode(value).decode().rstrip("=").lower()
