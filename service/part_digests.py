"""The SHA-256 of every part of an upload: checked when it is announced, kept for as long as parts may come.

They lie beside the upload's record, 32 bytes for each part, because the record is read far more often.
"""

from __future__ import annotations

from datetime import timedelta
from typing import cast

from featherweight.problem import FieldError
from featherweight.resources import UploadRequest
from service.errors import ProblemError, invalid
from service.services import Services
from tasks.records import UploadRecord
from tasks.uploads import digests_key

__all__ = ["check", "keep", "of"]

_BYTES = 32


def check(wanted: UploadRequest) -> None:
    """invalid_request unless each part that `wanted.size` is cut into has its digest, or none has."""
    part_size, digests = wanted.part_size, wanted.part_sha256
    if part_size is None and digests is None:
        return
    if part_size is None:
        raise invalid([_fault("part_size", "missing", "part_sha256 needs the size the file was cut by")])
    if digests is None:
        raise invalid([_fault("part_sha256", "missing", "part_size needs the sha256 of every part")])
    # In whole numbers: a size of any number of digits may be announced.
    count = -(-wanted.size // part_size)
    if len(digests) != count:
        detail = f"{wanted.size} bytes cut by {part_size} are {count} parts, and {len(digests)} digests came"
        raise invalid([_fault("part_sha256", "wrong_length", detail)])


def keep(app: Services, project: str, upload_id: str, digests: list[str], kept_s: float) -> None:
    """Remember `digests` (hexadecimal, in the order of the parts) for `kept_s` seconds."""
    value = b"".join(map(bytes.fromhex, digests))
    app.redis.set(digests_key(project, upload_id), value, ex=timedelta(seconds=kept_s))


def of(app: Services, record: UploadRecord) -> dict[int, bytes]:
    """The raw digests by number of part; empty for an upload begun without.

    upload_expired where they are gone: no URL is signed over less than was asked for.
    """
    if not record.signs_parts:
        return {}
    value = cast("bytes | None", app.redis.get(digests_key(record.project, record.id)))
    if value is None:
        raise ProblemError("upload_expired", "the digests of the upload's parts are gone", hint="begin anew")
    starts = range(0, len(value), _BYTES)
    return {number: value[start : start + _BYTES] for number, start in enumerate(starts, start=1)}


def _fault(field: str, code: str, detail: str) -> FieldError:
    return FieldError(pointer=f"/{field}", code=code, detail=detail)
