"""Object storage (S3): the few verbs this project uses.

A missing object is FileNotFoundError, one that exists already FileExistsError, and everything that
keeps us from knowing (unreachable, refused, 5xx, cut off) StorageUnavailable.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote

import boto3
import botocore.loaders
import botocore.session
import urllib3.exceptions
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError

from featherweight.resources import ReceivedPart
from tasks.breaker import Breaker, Open
from tasks.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

__all__ = [
    "IMPATIENT",
    "OCTETS",
    "PATIENT",
    "ObjectChanged",
    "OpenUpload",
    "Patience",
    "Storage",
    "StorageUnavailable",
    "StoredObject",
    "TooLarge",
    "part_headers",
]

OCTETS = "application/octet-stream"

_CHUNK = 1024 * 1024
_MISSING = {"404", "NoSuchKey", "NoSuchUpload", "NotFound"}
_TAKEN = {"412", "PreconditionFailed", "ConditionalRequestConflict"}


class StorageUnavailable(Exception):
    """The object storage could not be asked, or did not answer."""


class ObjectChanged(Exception):
    """The object is no longer the one that was asked for."""


class StoredObject(NamedTuple):
    """`etag` changes with the bytes; `modified` is the storage's time."""

    key: str
    size: int
    etag: str
    modified: datetime


class OpenUpload(NamedTuple):
    """A multipart upload that has neither been completed nor aborted."""

    key: str
    upload_id: str
    begun: datetime


class TooLarge(ValueError):
    """A stream held more than `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"more than {max_bytes} bytes")
        self.max_bytes = max_bytes


def part_headers(sha256: bytes) -> dict[str, str]:
    """What must be sent with a part whose URL was signed over its `sha256` (32 bytes)."""
    return {"x-amz-checksum-sha256": _base64(sha256)}


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


@cache
def _loader(data_path: str | None) -> Any:
    """Reads what botocore knows of S3, which is megabytes, once for all storages of the process."""
    return botocore.loaders.create_loader(data_path)


def _nothing() -> None:
    """Nobody minds."""


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
# What is larger counts as the bytes of a file.
_SMALL = 256 * 1024


class Storage:
    """One bucket. Safe to use from many threads."""

    def __init__(self, settings: Settings, patience: Patience = PATIENT) -> None:
        self._settings = settings
        self._bucket = settings.s3_bucket
        self._patience = patience
        self._breaker = Breaker(_is_silence) if patience.breaks else None
        self._connecting = threading.Lock()

    def ready(self) -> None:
        """Put a sentinel and read it back; StorageUnavailable."""
        key, value = "ready/sentinel", secrets.token_bytes(16)
        with self._asking(key):
            self._client.put_object(Bucket=self._bucket, Key=key, Body=value)
            found = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        # Another process may have put its own in between; what matters is that something came back.
        if len(found) != len(value):
            raise StorageUnavailable("the sentinel came back damaged")

    def wait_ready(self, timeout_s: float) -> None:
        """`ready`, tried again until `timeout_s` have passed."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return self.ready()
            except (StorageUnavailable, FileNotFoundError):
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.2)

    # Whole objects

    def put_json(self, key: str, value: Any, *, if_none_match: bool = False) -> None:
        """`value` as JSON; with `if_none_match` FileExistsError when the key is taken."""
        self.put_bytes(
            key,
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode(),
            media_type="application/json",
            if_none_match=if_none_match,
        )

    def put_bytes(
        self, key: str, data: bytes, *, media_type: str = OCTETS, if_none_match: bool = False
    ) -> None:
        condition: Any = {"IfNoneMatch": "*"} if if_none_match else {}
        with self._asking(key):
            client = self._client if len(data) <= _SMALL else self._file_client
            client.put_object(Bucket=self._bucket, Key=key, Body=data, ContentType=media_type, **condition)

    def get_json(self, key: str) -> Any:
        return json.loads(self.read(key))

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """The object's bytes from `start`, at most `length`."""
        if length == 0:
            return b""
        end = "" if length is None else start + length - 1
        with self._asking(key):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={start}-{end}")
                return answer["Body"].read()
            except ClientError as error:
                # Nothing is left from `start` on.
                if _code(error) in ("416", "InvalidRange"):
                    return b""
                raise

    def stream(self, key: str, *, etag: str | None = None) -> Iterator[bytes]:
        """The object in chunks of 1 MiB; with `etag` ObjectChanged when it has another. Errors may also
        come while iterating."""
        condition: Any = {} if etag is None else {"IfMatch": f'"{etag}"'}
        with self._asking(key):
            try:
                body = self._file_client.get_object(Bucket=self._bucket, Key=key, **condition)["Body"]
            except ClientError as error:
                if etag is not None and _code(error) in _TAKEN:
                    raise ObjectChanged(key) from error
                raise
        with _translated(key), body:
            yield from body.iter_chunks(_CHUNK)

    def digest(self, key: str) -> tuple[int, str]:
        """Size and sha256 of the stored bytes, read once."""
        size, sha256 = 0, hashlib.sha256()
        for chunk in self.stream(key):
            size += len(chunk)
            sha256.update(chunk)
        return size, sha256.hexdigest()

    def get_file(self, key: str, path: Path, *, check: Callable[[], None] = _nothing) -> str:
        """Write the object to `path`, which appears only when it is complete; its sha256.

        `check` is called every MiB and may raise, to stop.
        """
        # A name of its own: one that was left to itself must not meddle with the next that is fetched.
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        sha256 = hashlib.sha256()
        try:
            with part.open("wb") as file:
                for chunk in self.stream(key):
                    check()
                    sha256.update(chunk)
                    file.write(chunk)
            check()
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return sha256.hexdigest()

    def put_file(self, path: Path, key: str, *, media_type: str = OCTETS) -> tuple[int, str]:
        """Store a file; size and sha256 of what was sent."""
        with path.open("rb") as file:
            chunks = iter(lambda: file.read(_CHUNK), b"")
            return self.put_stream(chunks, key, media_type=media_type)

    def put_stream(
        self, chunks: Iterable[bytes], key: str, *, max_bytes: int | None = None, media_type: str = OCTETS
    ) -> tuple[int, str]:
        """Store a stream, holding one part of it in memory; its size and sha256.

        TooLarge beyond `max_bytes`. After any error, also one that `chunks` raises, nothing is left.
        """
        counted = _Counted(chunks, max_bytes)
        parts = _in_parts(counted, self._settings.upload_part_bytes)
        # In a list, so that whoever sends it can let go of it before the next part is gathered.
        first = [next(parts, b"")]
        if len(first[0]) < self._settings.upload_part_bytes:
            self.put_bytes(key, first[0], media_type=media_type)
        else:
            self._put_parts(first, parts, key, media_type)
        return counted.size, counted.sha256.hexdigest()

    def _put_parts(self, first: list[bytes], rest: Iterator[bytes], key: str, media_type: str) -> None:
        upload_id = self.create_multipart(key, media_type=media_type)
        try:
            received = [self._put_part(key, upload_id, 1, first.pop())]
            for part in rest:
                received.append(self._put_part(key, upload_id, len(received) + 1, part))
                del part
            self.complete_multipart(key, upload_id, received)
        except BaseException:
            # Whatever happened, it is not worth hiding behind a storage that is also away.
            with suppress(StorageUnavailable):
                self.abort_multipart(key, upload_id)
            raise

    def _put_part(self, key: str, upload_id: str, number: int, data: bytes) -> ReceivedPart:
        with self._asking(key):
            answer = self._file_client.upload_part(
                Bucket=self._bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=data
            )
        return ReceivedPart(number=number, size=len(data), etag=answer["ETag"])

    # Uploads in parts

    def create_multipart(self, key: str, *, media_type: str = OCTETS, checksums: bool = False) -> str:
        """Begin an upload in parts; its id. With `checksums` every part comes with its sha256, and so must
        the completion."""
        algorithm: Any = {"ChecksumAlgorithm": "SHA256"} if checksums else {}
        with self._asking(key):
            answer = self._client.create_multipart_upload(
                Bucket=self._bucket, Key=key, ContentType=media_type, **algorithm
            )
        return answer["UploadId"]

    def presign_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        size: int,
        expires_s: int,
        *,
        sha256: bytes | None = None,
    ) -> str:
        """A URL to ``PUT`` exactly `size` bytes of part `number` to, without any credentials.

        With `sha256` (32 bytes) `part_headers` must be sent too, and the storage refuses all bytes but those
        of this digest: the header is signed, and what arrives is compared with it.
        """
        checksum: dict[str, Any] = {} if sha256 is None else {"ChecksumSHA256": _base64(sha256)}
        return self._public_client.generate_presigned_url(
            "upload_part",
            Params={
                "Bucket": self._bucket,
                "Key": key,
                "UploadId": upload_id,
                "PartNumber": number,
                "ContentLength": size,
                **checksum,
            },
            ExpiresIn=expires_s,
        )

    def list_parts(self, key: str, upload_id: str) -> list[ReceivedPart]:
        """The parts that arrived, by number; FileNotFoundError for an upload that ended."""
        with self._asking(key):
            pages = self._client.get_paginator("list_parts").paginate(
                Bucket=self._bucket, Key=key, UploadId=upload_id
            )
            parts = [part for page in pages for part in page.get("Parts", [])]
        return [
            ReceivedPart(number=part["PartNumber"], size=part["Size"], etag=part["ETag"]) for part in parts
        ]

    def complete_multipart(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[ReceivedPart],
        sha256: Mapping[int, bytes] | None = None,
    ) -> None:
        """Make the object out of `parts`; FileNotFoundError for an upload that ended.

        `sha256` has the digest of each part by its number, for an upload begun with `checksums`.
        """
        received: list[CompletedPartTypeDef] = [
            {"PartNumber": part.number, "ETag": part.etag} for part in sorted(parts, key=lambda p: p.number)
        ]
        if sha256:
            for part in received:
                part["ChecksumSHA256"] = _base64(sha256[part["PartNumber"]])
        with self._asking(key):
            self._completing_client.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": received}
            )

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """Forget the parts; nothing happens when the upload has ended."""
        with suppress(FileNotFoundError), self._asking(key):
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)

    def abort_uploads(self, prefix: str) -> int:
        """Forget the parts of every upload that has not ended, of keys that begin with `prefix`: those too
        whose id nobody was told, for the answer got lost. How many there were."""
        with self._asking(prefix):
            # Not every store filters by the prefix.
            found = [each for each in self.list_uploads(prefix) if each.key.startswith(prefix)]
        for each in found:
            self.abort_multipart(each.key, each.upload_id)
        return len(found)

    # About objects

    def presign_get(self, key: str, *, filename: str, expires_s: int) -> str:
        """A URL to ``GET`` the object from, which browsers save as `filename`."""
        return self._public_client.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self._bucket,
                "Key": key,
                "ResponseContentDisposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
                "ResponseContentType": OCTETS,
            },
            ExpiresIn=expires_s,
        )

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except FileNotFoundError:
            return False
        return True

    def size(self, key: str) -> int:
        with self._asking(key):
            return self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"]

    def stat(self, key: str) -> StoredObject:
        with self._asking(key):
            found = self._client.head_object(Bucket=self._bucket, Key=key)
        return StoredObject(key, found["ContentLength"], found["ETag"].strip('"'), found["LastModified"])

    def list_objects(
        self, prefix: str, *, after: str | None = None, page_size: int = 1000
    ) -> Iterator[StoredObject]:
        """Those whose key begins with `prefix`, in the storage's order, from behind the key `after`; one
        page of them is in memory. Errors come while iterating."""
        start: Any = {} if after is None else {"StartAfter": after}
        with _translated(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix, PaginationConfig={"PageSize": page_size}, **start
            )
            for page in pages:
                for item in page.get("Contents", []):
                    yield StoredObject(
                        item["Key"], item["Size"], item["ETag"].strip('"'), item["LastModified"]
                    )

    def list_uploads(self, prefix: str) -> Iterator[OpenUpload]:
        """The multipart uploads to keys that begin with `prefix`. Errors come while iterating."""
        with _translated(prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            for page in pages:
                for item in page.get("Uploads", []):
                    # Not every storage filters by the prefix.
                    if item["Key"].startswith(prefix):
                        yield OpenUpload(item["Key"], item["UploadId"], item["Initiated"])

    def iter_keys(self, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`, in order, holding one page of them. Errors may also come while
        iterating."""
        with _translated(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            for page in pages:
                yield from (item["Key"] for item in page.get("Contents", []))

    def list_keys(self, prefix: str) -> list[str]:
        with self._asking(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens when there is none."""
        with self._asking(key):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def delete_prefix(self, prefix: str) -> None:
        """Remove every object whose key begins with `prefix`, which must end in a slash."""
        if not prefix.endswith("/") or prefix == "/":
            raise ValueError(f"{prefix!r} does not name a folder")
        for key in self.list_keys(prefix):
            self.delete(key)

    # Inside

    @contextmanager
    def _asking(self, key: str) -> Iterator[None]:
        """Turn the vendor's errors into ours; StorageUnavailable too when asking is of no use now."""
        try:
            with _translated(key), self._breaker.call() if self._breaker else nullcontext():
                yield
        except Open as error:
            raise StorageUnavailable(f"the object storage is silent: {error}") from None

    @cached_property
    def _session(self) -> boto3.session.Session:
        # One: it makes one client at a time.
        inner = botocore.session.Session()
        session = boto3.session.Session(botocore_session=inner)
        # Last: a session that is made adds to the folders of the loader it finds.
        inner.register_component("data_loader", _loader(inner.get_config_variable("data_path")))
        return session

    @cached_property
    def _client(self) -> S3Client:
        return self._connect(self._settings.s3_endpoint_url, self._patience.answer_s)

    @cached_property
    def _file_client(self) -> S3Client:
        return self._connect(self._settings.s3_endpoint_url, self._patience.bytes_s)

    @cached_property
    def _completing_client(self) -> S3Client:
        return self._connect(self._settings.s3_endpoint_url, _COMPLETE_S)

    @cached_property
    def _public_client(self) -> S3Client:
        # It signs, and sends nothing.
        return self._connect(self._settings.s3_public_endpoint_url or self._settings.s3_endpoint_url, 1)

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


class _Counted:
    """An iterable of bytes that knows how much of it passed."""

    def __init__(self, chunks: Iterable[bytes], max_bytes: int | None) -> None:
        self._chunks = chunks
        self._max_bytes = max_bytes
        self.size = 0
        self.sha256 = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.size += len(chunk)
            if self._max_bytes is not None and self.size > self._max_bytes:
                raise TooLarge(self._max_bytes)
            self.sha256.update(chunk)
            yield chunk


def _in_parts(chunks: Iterable[bytes], part_bytes: int) -> Iterator[bytes]:
    """The same bytes cut into parts of `part_bytes`, the last one shorter."""
    gathered: list[bytes | memoryview] = []
    size = 0
    for chunk in chunks:
        rest = memoryview(chunk)
        while size + len(rest) >= part_bytes:
            taken = part_bytes - size
            gathered.append(rest[:taken])
            rest = rest[taken:]
            part, gathered, size = b"".join(gathered), [], 0
            yield part
            del part
        if rest:
            gathered.append(rest)
            size += len(rest)
    if gathered:
        yield b"".join(gathered)


@contextmanager
def _translated(key: str) -> Iterator[None]:
    """Turn the vendor's errors into ours."""
    try:
        yield
    except ClientError as error:
        code = _code(error)
        if code in _MISSING:
            raise FileNotFoundError(key) from error
        if code in _TAKEN:
            raise FileExistsError(key) from error
        raise StorageUnavailable(f"the object storage answered {code}") from error
    except (BotoCoreError, urllib3.exceptions.HTTPError, ConnectionError) as error:
        raise StorageUnavailable(f"the object storage is unreachable: {type(error).__name__}") from error


def _is_silence(error: BaseException) -> bool:
    return isinstance(error, ReadTimeoutError | ConnectTimeoutError | urllib3.exceptions.TimeoutError)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
