"""Whole objects: stored, read, listed and removed."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from botocore.exceptions import ClientError

from tasks.storage.bucket import OCTETS
from tasks.storage.errors import TAKEN, ObjectChanged, StorageUnavailable, code_of, translated
from tasks.storage.multipart import Multipart
from tasks.storage.streams import Counted, in_parts

__all__ = ["Storage", "StoredObject"]

_CHUNK = 1024 * 1024
# What is larger counts as the bytes of a file.
_SMALL = 256 * 1024


class StoredObject(NamedTuple):
    """`etag` changes with the bytes; `modified` is the storage's time."""

    key: str
    size: int
    etag: str
    modified: datetime


def _nothing() -> None:
    """Nobody minds."""


class Storage(Multipart):
    """All the verbs, of one bucket. Safe to use from many threads."""

    def ready(self) -> None:
        """Put a sentinel and read it back; StorageUnavailable."""
        key, value = "ready/sentinel", secrets.token_bytes(16)
        with self._asking(key):
            self._client.put_object(Bucket=self._bucket, Key=key, Body=value)
            found = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        # Another process may have put its own in between; what matters is that something came back.
        if len(found) != len(value):
            raise StorageUnavailable("the sentinel came back damaged")

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
            client = self._client if len(data) <= _SMALL else self._clients.files
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
                if code_of(error) in ("416", "InvalidRange"):
                    return b""
                raise

    def stream(self, key: str, *, etag: str | None = None) -> Iterator[bytes]:
        """The object in chunks of 1 MiB; with `etag` ObjectChanged when it has another. Errors may also
        come while iterating."""
        condition: Any = {} if etag is None else {"IfMatch": f'"{etag}"'}
        with self._asking(key):
            try:
                body = self._clients.files.get_object(Bucket=self._bucket, Key=key, **condition)["Body"]
            except ClientError as error:
                if etag is not None and code_of(error) in TAKEN:
                    raise ObjectChanged(key) from error
                raise
        with translated(key), body:
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

    def put_stream(
        self, chunks: Iterable[bytes], key: str, *, max_bytes: int | None = None, media_type: str = OCTETS
    ) -> tuple[int, str]:
        """Store a stream, holding one part of it in memory; its size and sha256.

        TooLarge beyond `max_bytes`. After any error, also one that `chunks` raises, nothing is left.
        """
        counted = Counted(chunks, max_bytes)
        parts = in_parts(counted, self._part_bytes)
        # In a list, so that whoever sends it can let go of it before the next part is gathered.
        first = [next(parts, b"")]
        if len(first[0]) < self._part_bytes:
            self.put_bytes(key, first[0], media_type=media_type)
        else:
            self._put_parts(first, parts, key, media_type)
        return counted.size, counted.sha256.hexdigest()

    def _put_parts(self, first: list[bytes], rest: Iterator[bytes], key: str, media_type: str) -> None:
        upload_id = self.create_multipart(key, media_type=media_type)
        try:
            received = [self.put_part(key, upload_id, 1, first.pop())]
            for part in rest:
                received.append(self.put_part(key, upload_id, len(received) + 1, part))
                del part
            self.complete_multipart(key, upload_id, received)
        except BaseException:
            # Whatever happened, it is not worth hiding behind a storage that is also away.
            with suppress(StorageUnavailable):
                self.abort_multipart(key, upload_id)
            raise

    # About objects

    def presign_get(self, key: str, *, filename: str, expires_s: int) -> str:
        """A URL to ``GET`` the object from, which browsers save as `filename`."""
        return self._clients.public.generate_presigned_url(
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
        with translated(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix, PaginationConfig={"PageSize": page_size}, **start
            )
            for page in pages:
                for item in page.get("Contents", []):
                    yield StoredObject(
                        item["Key"], item["Size"], item["ETag"].strip('"'), item["LastModified"]
                    )

    def iter_keys(self, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`, in order, holding one page of them. Errors may also come while
        iterating."""
        with translated(prefix):
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
