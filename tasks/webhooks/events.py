"""What is sent: the envelope of an event, the same bytes for every endpoint and attempt.

Standard Webhooks asks for small payloads. What is larger than LARGEST_DATA loses its largest parts, emptied
in place so that its form stays, and says which in `truncated`; `url` is where all of it is.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from featherweight.job import Job

__all__ = ["API_VERSION", "LARGEST_DATA", "event_body", "event_id", "job_data"]

API_VERSION = "v1"
LARGEST_DATA = 20 * 1024

_MOST_ATTEMPTS = 10
# By what they are called in the API.
_COLLECTIONS = {
    "job": "jobs",
    "batch": "batches",
    "schedule": "schedules",
    "webhook_endpoint": "webhook_endpoints",
}
# Parts that tell what it is, whatever their size.
_KEPT = frozenset({"id", "object", "state"})


def event_id(project: str, type: str, subject: str) -> str:
    """The same for the same event, told by whomever."""
    digest = hashlib.sha256("\0".join((project, type, subject)).encode()).digest()
    return f"evt_{base64.b32encode(digest[:16]).decode().rstrip('=').lower()}"


def event_body(id: str, type: str, data: dict[str, Any], at: datetime | None = None) -> str:
    """The body, as JSON. `at` is when it happened, now unless given."""
    shrunk, truncated = _shrunk(data)
    event = {
        "id": id,
        "type": type,
        "timestamp": (at or datetime.now(UTC)).astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "api_version": API_VERSION,
        "data": shrunk,
        "url": _url(data),
        "truncated": truncated,
    }
    return _text(event)


def job_data(job: Job) -> dict[str, Any]:
    """A job as the API shows it, of its attempts the last ten."""
    data = job.model_dump(mode="json")
    data["attempts"] = data["attempts"][-_MOST_ATTEMPTS:]
    return data


def _shrunk(data: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """`data` in at most LARGEST_DATA bytes, and JSON pointers to what was emptied."""
    data, truncated = dict(data), []
    for name in _largest_first(data):
        if len(_text(data).encode()) <= LARGEST_DATA:
            break
        data[name] = _emptied(data[name])
        truncated.append(f"/data/{name.replace('~', '~0').replace('/', '~1')}")
    return data, truncated


def _largest_first(data: dict[str, Any]) -> Iterator[str]:
    names = [name for name in data if name not in _KEPT]
    return iter(sorted(names, key=lambda name: -len(_text(data[name]))))


def _emptied(value: Any) -> Any:
    match value:
        # Without its list of faults a problem still says what is wrong.
        case {"code": str(), "errors": list(), **rest}:
            return {**rest, "code": value["code"], "errors": []}
        case dict():
            return {}
        case list():
            return []
        case str():
            return ""
    return None


def _url(data: dict[str, Any]) -> str | None:
    collection = _COLLECTIONS.get(str(data.get("object")))
    return f"/v1/{collection}/{data['id']}" if collection and "id" in data else None


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
