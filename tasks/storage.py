"""Object storage (S3): the few verbs this project uses.

A missing object is FileNotFoundError, one that exists already FileExistsError, and everything that
keeps us from knowing (unreachable, refused, 5xx, cut off) StorageUnavailable.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import boto3
import urllib3.exceptions
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from featherweight.resources import ReceivedPart
from tasks.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

__all__ = ["OCTETS", "Storage", "StorageUnavailable", "TooLarge", "part_headers"]

OCTETS = "application/octet-stream"

_CHUNK = 1024 * 1024
_MISSING = {"404", "NoSuchKey", "NoSuchUpload", "NotFound"}
_TAKEN = {"412", "PreconditionFailed", "ConditionalRequestConflict"}


class StorageUnavailable(Exception):
    """The object storage could not be asked, or did not answer."""


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


def _nothing() -> None:
    """Nobody minds."""


class Storage:
    """One bucket. Safe to use from many threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bucket = settings.s3_bucket

    def ready(self) -> None:
        """Put a sentinel and read it back; StorageUnavailable."""
        key, value = "ready/sentinel", secrets.token_bytes(16)
        with _translated(key):
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
        with _translated(key):
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=data, ContentType=media_type, **condition
            )

    def get_json(self, key: str) -> Any:
        return json.loads(self.read(key))

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """The object's bytes from `start`, at most `length`."""
        if length == 0:
            return b""
        end = "" if length is None else start + length - 1
        with _translated(key):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={start}-{end}")
                return answer["Body"].read()
            except ClientError as error:
                # Nothing is left from `start` on.
                if _code(error) in ("416", "InvalidRange"):
                    return b""
                raise

    def stream(self, key: str) -> Iterator[bytes]:
        """The object in chunks of 1 MiB. Errors may also come while iterating."""
        with _translated(key):
            body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
            with body:
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
        with _translated(key):
            answer = self._client.upload_part(
                Bucket=self._bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=data
            )
        return ReceivedPart(number=number, size=len(data), etag=answer["ETag"])

    # Uploads in parts

    def create_multipart(self, key: str, *, media_type: str = OCTETS, checksums: bool = False) -> str:
        """Begin an upload in parts; its id. With `checksums` every part comes with its sha256, and so must
        the completion."""
        algorithm: Any = {"ChecksumAlgorithm": "SHA256"} if checksums else {}
        with _translated(key):
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
        with _translated(key):
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
        with _translated(key):
            self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": received}
            )

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """Forget the parts; nothing happens when the upload has ended."""
        with suppress(FileNotFoundError), _translated(key):
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)

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
        with _translated(key):
            return self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"]

    def iter_keys(self, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`, in order, holding one page of them. Errors may also come while
        iterating."""
        with _translated(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            for page in pages:
                yield from (item["Key"] for item in page.get("Contents", []))

    def list_keys(self, prefix: str) -> list[str]:
        with _translated(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens when there is none."""
        with _translated(key):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def delete_prefix(self, prefix: str) -> None:
        """Remove every object whose key begins with `prefix`, which must end in a slash."""
        if not prefix.endswith("/") or prefix == "/":
            raise ValueError(f"{prefix!r} does not name a folder")
        for key in self.list_keys(prefix):
            self.delete(key)

    # Inside

    @cached_property
    def _client(self) -> S3Client:
        return self._connect(self._settings.s3_endpoint_url)

    @cached_property
    def _public_client(self) -> S3Client:
        return self._connect(self._settings.s3_public_endpoint_url or self._settings.s3_endpoint_url)

    def _connect(self, endpoint_url: str | None) -> S3Client:
        key_id, secret = self._settings.s3_access_key_id, self._settings.s3_secret_access_key
        style: Literal["path", "auto"] = "path" if endpoint_url else "auto"
        config = Config(
            signature_version="s3v4",
            retries={"mode": "standard", "max_attempts": 5},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=64,
            # Hashing every body for its signature costs two thirds of the time over plain http; what
            # we store is checked by its sha256 anyway.
            s3={"payload_signing_enabled": False, "addressing_style": style},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return boto3.session.Session().client(
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


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
