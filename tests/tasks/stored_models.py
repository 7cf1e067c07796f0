"""Models stored as an upload leaves them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import redis

from tasks import keys
from tasks.gate import VERSION
from tasks.identifiers import new_id
from tasks.records import ModelRecord
from tasks.recordstore import RecordStore
from tasks.sniffing import framework_of
from tasks.storage import Storage

__all__ = ["stored_model"]


def stored_model(
    client: redis.Redis,
    storage: Storage,
    project: str,
    content: bytes,
    *,
    filename: str = "model.keras",
    format_: str = "keras_zip",
    gated: int | None = VERSION,
) -> str:
    """The id of a model of `content`, which the gate is said to have let in."""
    model_id = new_id("model")
    key = keys.model_key(project, model_id)
    storage.put_bytes(key, content)
    record = ModelRecord(
        id=model_id,
        filename=filename,
        format=format_,
        framework=framework_of(format_),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        created_at=datetime.now(UTC),
        project=project,
        key=key,
        gated=gated,
    )
    RecordStore(client, "model", ModelRecord).put(project, record)
    return model_id
