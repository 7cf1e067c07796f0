"""A Redis and an object storage of its own for a run outside of the test suite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from deploy.local.object_store import ObjectStore
from deploy.local.redis_server import RedisServer
from tasks.messages import new_message_key
from tasks.settings import Settings

__all__ = ["started"]


@contextmanager
def started(folder: Path, *, user: str) -> Iterator[Settings]:
    """Settings with which `user` of Redis, "api" or "worker", works with them."""
    with RedisServer(folder / "redis") as redis, ObjectStore(folder / "store") as store:
        yield Settings(
            redis_url=redis.url(user),
            message_keys=SecretStr(new_message_key()),
            s3_endpoint_url=store.endpoint_url,
            s3_bucket=store.bucket,
            s3_access_key_id=SecretStr(store.access_key_id),
            s3_secret_access_key=SecretStr(store.secret_access_key),
            scratch_dir=folder / "scratch",
        )
