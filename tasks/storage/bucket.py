"""One bucket, asked with the patience of whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from tasks.breaker import Breaker, Open
from tasks.settings import Settings
from tasks.storage.clients import PATIENT, Clients, Patience
from tasks.storage.errors import StorageUnavailable, is_silence, translated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["OCTETS", "Bucket"]

OCTETS = "application/octet-stream"


class Bucket:
    """What every verb needs. Safe to use from many threads."""

    def __init__(self, settings: Settings, patience: Patience = PATIENT) -> None:
        self._bucket = settings.s3_bucket
        self._part_bytes = settings.upload_part_bytes
        self._clients = Clients(settings, patience)
        self._breaker = Breaker(is_silence) if patience.breaks else None

    @property
    def _client(self) -> S3Client:
        return self._clients.answers

    @contextmanager
    def _asking(self, key: str) -> Iterator[None]:
        """Turn the vendor's errors into ours; StorageUnavailable too when asking is of no use now."""
        try:
            with translated(key), self._breaker.call() if self._breaker else nullcontext():
                yield
        except Open as error:
            raise StorageUnavailable(f"the object storage is silent: {error}") from None
