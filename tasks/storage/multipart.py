"""Uploads in parts: by this process, or by callers with URLs of their own."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from featherweight.resources import ReceivedPart
from tasks.storage.bucket import OCTETS, Bucket
from tasks.storage.errors import translated

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

__all__ = ["Multipart", "OpenUpload", "part_headers"]


class OpenUpload(NamedTuple):
    """A multipart upload that has neither been completed nor aborted."""

    key: str
    upload_id: str
    begun: datetime


def part_headers(sha256: bytes) -> dict[str, str]:
    """What must be sent with a part whose URL was signed over its `sha256` (32 bytes)."""
    return {"x-amz-checksum-sha256": _base64(sha256)}


class Multipart(Bucket):
    """The verbs of uploads in parts."""

    def create_multipart(self, key: str, *, media_type: str = OCTETS, checksums: bool = False) -> str:
        """Begin an upload in parts; its id. With `checksums` every part comes with its sha256, and so must
        the completion."""
        algorithm: Any = {"ChecksumAlgorithm": "SHA256"} if checksums else {}
        with self._asking(key):
            answer = self._client.create_multipart_upload(
                Bucket=self._bucket, Key=key, ContentType=media_type, **algorithm
            )
        return answer["UploadId"]

    def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> ReceivedPart:
        """Store one part of an upload begun without `checksums`."""
        with self._asking(key):
            answer = self._clients.files.upload_part(
                Bucket=self._bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=data
            )
        return ReceivedPart(number=number, size=len(data), etag=answer["ETag"])

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
        return self._clients.public.generate_presigned_url(
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
            self._clients.completing.complete_multipart_upload(
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

    def list_uploads(self, prefix: str) -> Iterator[OpenUpload]:
        """The multipart uploads to keys that begin with `prefix`. Errors come while iterating."""
        with translated(prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            for page in pages:
                for item in page.get("Uploads", []):
                    # Not every storage filters by the prefix.
                    if item["Key"].startswith(prefix):
                        yield OpenUpload(item["Key"], item["UploadId"], item["Initiated"])


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
