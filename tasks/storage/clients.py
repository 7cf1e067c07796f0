"""The clients that ask the object storage, and how long each of them waits."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Literal

import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config

from tasks.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["IMPATIENT", "PATIENT", "Clients", "Patience"]


@dataclass(frozen=True)
class Patience:
    """Seconds to wait for a connection, for the answer to a question and for the next bytes of a file, and
    how often to try. With `breaks` one call that waited in vain spares others the wait."""

    connect_s: float
    answer_s: float
    bytes_s: float
    attempts: int
    breaks: bool = False


# For workers, who have all day and only must not miss that their job was cancelled.
PATIENT = Patience(connect_s=3, answer_s=20, bytes_s=20, attempts=3)
# For those who answer callers.
IMPATIENT = Patience(connect_s=2, answer_s=4, bytes_s=10, attempts=2, breaks=True)
# Putting the parts of a large file together takes some servers long.
_COMPLETE_S = 120.0


class Clients:
    """Of one storage, made when they are first needed. Safe to use from many threads."""

    def __init__(self, settings: Settings, patience: Patience) -> None:
        self._settings = settings
        self._patience = patience
        self._connecting = threading.Lock()

    @cached_property
    def answers(self) -> S3Client:
        """For questions, and for small objects."""
        return self._connect(self._settings.s3_endpoint_url, self._patience.answer_s)

    @cached_property
    def files(self) -> S3Client:
        """For the bytes of files."""
        return self._connect(self._settings.s3_endpoint_url, self._patience.bytes_s)

    @cached_property
    def completing(self) -> S3Client:
        """For putting the parts of an object together."""
        return self._connect(self._settings.s3_endpoint_url, _COMPLETE_S)

    @cached_property
    def public(self) -> S3Client:
        """For URLs that callers are given: it signs, and sends nothing."""
        return self._connect(self._settings.s3_public_endpoint_url or self._settings.s3_endpoint_url, 1)

    @cached_property
    def _session(self) -> boto3.session.Session:
        # One: it makes one client at a time.
        inner = botocore.session.Session()
        session = boto3.session.Session(botocore_session=inner)
        # Last: a session that is made adds to the folders of the loader it finds.
        inner.register_component("data_loader", _loader(inner.get_config_variable("data_path")))
        return session

    def _connect(self, endpoint_url: str | None, read_timeout_s: float) -> S3Client:
        key_id, secret = self._settings.s3_access_key_id, self._settings.s3_secret_access_key
        style: Literal["path", "auto"] = "path" if endpoint_url else "auto"
        config = Config(
            signature_version="s3v4",
            retries={"mode": "standard", "total_max_attempts": self._patience.attempts},
            connect_timeout=self._patience.connect_s,
            read_timeout=read_timeout_s,
            max_pool_connections=64,
            # Hashing every body for its signature costs two thirds of the time over plain http; what
            # we store is checked by its sha256 anyway.
            s3={"payload_signing_enabled": False, "addressing_style": style},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        with self._connecting:
            return self._session.client(
                "s3",
                endpoint_url=endpoint_url,
                region_name=self._settings.s3_region,
                aws_access_key_id=key_id.get_secret_value() if key_id else None,
                aws_secret_access_key=secret.get_secret_value() if secret else None,
                config=config,
            )


@cache
def _loader(data_path: str | None) -> Any:
    """Reads what botocore knows of S3, which is megabytes, once for all storages of the process."""
    return botocore.loaders.create_loader(data_path)
