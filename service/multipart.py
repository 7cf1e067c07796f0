"""Files that arrive in parts, straight in the object storage: what is missing, and making one of them.

open ──> completed     every part is there, size and sha256 are as announced
  └────> aborted       by the caller, or because the file was refused
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from featherweight.problem import FieldError
from featherweight.resources import ReceivedPart, Upload, UploadPart, UploadRequest
from service import part_digests
from service.errors import ProblemError
from service.filekinds import adopt
from service.quotas import keep
from service.services import Services
from tasks.filekinds import UPLOADS
from tasks.identifiers import is_id, new_id
from tasks.locks import Busy, KeepAlive, held
from tasks.records import UploadRecord
from tasks.sniffing import HEAD_BYTES
from tasks.storage import Storage, StorageUnavailable, part_headers
from tasks.store import NotFound
from tasks.uploads import REMEMBERED

__all__ = ["abort", "begin", "complete", "load", "shown"]

# S3 numbers parts up to this.
_MAX_PARTS = 10_000
_BLOCK = 8 * 1024 * 1024
_BLOCKS_AHEAD = 2
# How long a second `complete` waits for the first, which reads the whole file.
_WAIT_S = 50


def begin(app: Services, project: str, upload_id: str, wanted: UploadRequest) -> Upload:
    """The upload `upload_id`, as callers see it; invalid_request, payload_too_large, storage_quota_exceeded.

    One that was begun already, by a request of the same body whose answer got lost, is gone on with: a second
    one in its place would leave the storage with parts of the first that no record names.
    """
    part_digests.check(wanted)
    app.begun.sweep()
    if (begun := _begun(app, project, upload_id)) is not None:
        # Saved again: whoever began it may have died before it was noted when it expires.
        return shown(app, app.begun.save(begun))
    # Storage is not asked what has arrived: once the record is there, nothing shall keep the answer back.
    return _shown(app, app.begun.save(_new(app, project, upload_id, wanted)), [])


def _begun(app: Services, project: str, upload_id: str) -> UploadRecord | None:
    """The upload when there is one that parts can be sent to, or that is complete."""
    try:
        record = app.uploads.get(project, upload_id)
    except NotFound:
        return None
    if _is_expired(record):
        with _alone(app, upload_id):
            record = app.begun.give_up(record)
    return None if record.state == "aborted" else record


def _new(app: Services, project: str, upload_id: str, wanted: UploadRequest) -> UploadRecord:
    """Begun at the storage, and not saved."""
    kind = UPLOADS[wanted.kind]
    limit = kind.max_bytes(app.settings)
    if wanted.size > limit:
        error = FieldError(
            pointer="/size",
            code="less_than_equal",
            detail=f"a {kind.name.replace('_', ' ')} may have at most {limit} bytes",
        )
        raise ProblemError("payload_too_large", error.detail, errors=[error])
    keep(app, project, upload_id, wanted.size)
    key = kind.key(project, new_id(kind.name))
    now = datetime.now(UTC)
    expiry = timedelta(seconds=app.settings.upload_expiry_s)
    signs_parts = wanted.part_sha256 is not None
    record = UploadRecord(
        id=upload_id,
        kind=wanted.kind,
        state="open",
        filename=wanted.filename,
        size=wanted.size,
        sha256=wanted.sha256,
        part_size=wanted.part_size
        or max(app.settings.upload_part_bytes, math.ceil(wanted.size / _MAX_PARTS)),
        created_at=now,
        expires_at=now + expiry,
        project=project,
        key=key,
        s3_upload_id=_started(app, project, upload_id, key, checksums=signs_parts),
        signs_parts=signs_parts,
    )
    if wanted.part_sha256:
        kept_s = REMEMBERED * app.settings.upload_expiry_s
        part_digests.keep(app, project, upload_id, wanted.part_sha256, kept_s)
    return record


def _started(app: Services, project: str, upload_id: str, key: str, *, checksums: bool) -> str:
    try:
        return app.storage.create_multipart(key, checksums=checksums)
    except StorageUnavailable:
        app.accounts.forget(project, upload_id)
        raise


def load(app: Services, project: str, upload_id: str) -> UploadRecord:
    """NotFound; upload_expired."""
    record = app.uploads.get(project, upload_id)
    if _is_expired(record):
        raise ProblemError(
            "upload_expired",
            f"the upload expired at {record.expires_at:%Y-%m-%dT%H:%M:%SZ}",
            hint="begin anew",
        )
    return record


def _is_expired(record: UploadRecord) -> bool:
    return record.state == "open" and record.expires_at <= datetime.now(UTC)


def shown(app: Services, record: UploadRecord) -> Upload:
    """The upload as callers see it: what arrived, and a fresh URL for every part that did not."""
    if record.state != "open":
        return record.public()
    return _shown(app, record, _received(app, record) or [])


def _shown(app: Services, record: UploadRecord, received: list[ReceivedPart]) -> Upload:
    return record.public().model_copy(
        update={"received": received, "parts": _missing(app, record, {part.number for part in received})}
    )


def complete(app: Services, project: str, upload_id: str) -> UploadRecord:
    """Make the model or data set: every part there, size and sha256 as announced, a known type.

    Done twice, even at once, it is done once. upload_incomplete leaves the upload open;
    size_mismatch, sha256_mismatch, unknown_file_type and what the gate refuses end it, and nothing is kept.
    """
    with _alone(app, upload_id) as keep_alive:
        record = load(app, project, upload_id)
        if record.state == "aborted":
            raise ProblemError("upload_expired", "the upload was aborted", hint="begin anew")
        return record if record.state == "completed" else _completed(app, record, keep_alive)


def abort(app: Services, project: str, upload_id: str) -> UploadRecord:
    """Give the upload up, with all its parts; upload_completed when it is too late for that."""
    with _alone(app, upload_id):
        record = app.uploads.get(project, upload_id)
        if record.state == "completed":
            raise ProblemError(
                "upload_completed",
                f"the upload became {record.resource_id}",
                hint=f"DELETE /v1/{UPLOADS[record.kind].name}s/{record.resource_id} removes that",
            )
        return app.begun.give_up(record)


@contextmanager
def _alone(app: Services, upload_id: str, *, wait_s: float = _WAIT_S) -> Iterator[KeepAlive]:
    """Nobody else ends the upload meanwhile; overloaded when somebody is at it for longer."""
    if not is_id(upload_id):
        raise NotFound(upload_id)
    try:
        with held(app.redis, f"upload:{upload_id}", wait_s=wait_s) as keep_alive:
            yield keep_alive
    except Busy:
        raise ProblemError("overloaded", "the upload is still being completed") from None


def _completed(app: Services, record: UploadRecord, keep_alive: KeepAlive) -> UploadRecord:
    _assemble(app, record)
    try:
        sha256 = _verified(app, record, keep_alive)
        resource_id = PurePosixPath(record.key).stem
        adopt(
            app,
            UPLOADS[record.kind],
            record.project,
            resource_id,
            filename=record.filename,
            head=app.storage.read(record.key, length=HEAD_BYTES),
            size=record.size,
            sha256=sha256,
            instead_of=record.id,
        )
    except ProblemError as error:
        # One that can succeed later finds everything where it is.
        if error.status < 500:
            app.begun.give_up(record)
        raise
    # Begun by a request whose answer got lost on its way to us, it holds no parts, and nobody knows its id.
    # One that the storage has not come to yet is a stray (tasks.strays).
    app.storage.abort_uploads(record.key)
    return app.begun.save(record.model_copy(update={"state": "completed", "resource_id": resource_id}))


def _assemble(app: Services, record: UploadRecord) -> None:
    """Make one object of the parts, unless that has been done; upload_incomplete."""
    received = _received(app, record)
    if received is None:
        # An earlier try came this far and no further.
        if app.storage.exists(record.key):
            return
        received = []
    sizes = {part.number: part.size for part in received}
    missing = [number for number, size in enumerate(_sizes(record), start=1) if sizes.get(number) != size]
    if missing:
        numbers = ", ".join(map(str, missing[:10])) + (" …" if len(missing) > 10 else "")
        raise ProblemError(
            "upload_incomplete",
            f"{len(missing)} parts are missing or not of their size: {numbers}",
            hint=f"GET /v1/uploads/{record.id} gives a URL for each",
        )
    wanted = [part for part in received if part.number <= len(sizes)]
    app.storage.complete_multipart(
        record.key, record.s3_upload_id, wanted, sha256=part_digests.of(app, record)
    )


def _verified(app: Services, record: UploadRecord, keep_alive: KeepAlive) -> str:
    """The sha256 of the stored bytes, when these are as announced; size_mismatch, sha256_mismatch."""
    size = app.storage.size(record.key)
    if size != record.size:
        raise ProblemError("size_mismatch", f"{size} bytes arrived, announced were {record.size}")
    digest = hashlib.sha256()
    with closing(_read_ahead(app.storage, record.key, size)) as blocks:
        for block in blocks:
            digest.update(block)
            keep_alive()
    if digest.hexdigest() != record.sha256:
        raise ProblemError(
            "sha256_mismatch",
            f"the sha256 of the bytes received is {digest.hexdigest()}, announced was {record.sha256}",
            hint="nothing was kept; the file may have changed while it was sent",
        )
    return record.sha256


def _read_ahead(storage: Storage, key: str, size: int) -> Generator[bytes, None, None]:
    """The object in blocks, in order, the next ones being fetched while one is worked on.

    A caller waits for this, and one block at a time would leave either storage or hashing idle. Three
    blocks are in memory.
    """
    with ThreadPoolExecutor(_BLOCKS_AHEAD, thread_name_prefix="read-ahead") as pool:
        pending: deque[Future[bytes]] = deque()
        try:
            for start in range(0, size, _BLOCK):
                pending.append(pool.submit(storage.read, key, start=start, length=_BLOCK))
                if len(pending) > _BLOCKS_AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _received(app: Services, record: UploadRecord) -> list[ReceivedPart] | None:
    """The parts that arrived; None when storage knows no such upload any more."""
    try:
        return app.storage.list_parts(record.key, record.s3_upload_id)
    except FileNotFoundError:
        return None


def _missing(app: Services, record: UploadRecord, received: set[int]) -> list[UploadPart]:
    digests = part_digests.of(app, record)
    return [
        _part(app, record, number, size, digests.get(number))
        for number, size in enumerate(_sizes(record), start=1)
        if number not in received
    ]


def _part(app: Services, record: UploadRecord, number: int, size: int, sha256: bytes | None) -> UploadPart:
    url = app.storage.presign_part(
        record.key, record.s3_upload_id, number, size, app.settings.presign_expiry_s, sha256=sha256
    )
    headers = part_headers(sha256) if sha256 else {}
    return UploadPart(
        number=number, offset=(number - 1) * record.part_size, size=size, url=url, headers=headers
    )


def _sizes(record: UploadRecord) -> list[int]:
    """How large each part must be."""
    whole, rest = divmod(record.size, record.part_size)
    return [record.part_size] * whole + ([rest] if rest else [])
