"""Files sent to the service: in parts straight to the object storage, picked up where they broke off.

    POST /v1/uploads ──> parts, each with a presigned URL
    PUT every part     ──> the storage, several at once, each streamed from its slice of the file; it takes
                           only the bytes whose sha256 was announced
    GET /v1/uploads/{id}   says after any trouble which parts are still missing
    POST …/complete    ──> the service checks size and sha256 and makes the model or data set

Where the storage cannot be reached from here (behind a tunnel of one port, say), the file goes
through the API as one stream instead.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import httpx

from featherweight._files import PART_BYTES, SourceFile, atomic_writer
from featherweight._outage import Outage
from featherweight._transport import Session, Storage, connection_error, decode
from featherweight.batch import BatchFile
from featherweight.errors import (
    APIError,
    Conflict,
    ConnectionFailed,
    Gone,
    NotFound,
    ServiceUnavailable,
    StorageError,
    UnexpectedResponse,
)
from featherweight.resources import Dataset, Model, Upload, UploadKind, UploadPart, UploadRequest

__all__ = ["OnProgress", "Uploader"]

log = logging.getLogger("featherweight")

OnProgress = Callable[[int, int], None]
"""Called with the bytes sent so far and the bytes to send, from several threads but never at once."""

PARALLEL_PARTS = 4
# How often the list of missing parts is fetched anew without one of them having arrived. Of rounds
# that get somewhere there may be any number: the URLs of a large file expire on a slow line.
_FRUITLESS_ROUNDS = 4
_WRONG_BYTES = {"BadDigest", "XAmzContentChecksumMismatch"}
# Completing reads the whole file on the other side; at this pace, or faster.
_COMPLETE_BYTES_PER_S = 10_000_000

R = TypeVar("R", bound=Model | Dataset | BatchFile)


class _StorageUnreachable(ConnectionFailed):
    """A connection to the storage could not even be made."""


class Uploader:
    """Sends files. Safe to share between threads."""

    def __init__(self, session: Session, storage: Storage, *, state: UploadState | None = None) -> None:
        self._session = session
        self._storage = storage
        self._state = state or UploadState(session.base_url)

    def send(
        self,
        kind: UploadKind,
        type_: type[R],
        collection: str,
        path: str | os.PathLike[str],
        on_progress: OnProgress | None = None,
    ) -> R:
        """What was made of the file at `path`, as the API has it below `collection` (``/v1/models``, ...).

        Raises ValueError for a folder or an empty file, OSError where it cannot be read, and this
        library's errors for whatever the service or the storage answered.
        """
        file = SourceFile.open(path, part_bytes=PART_BYTES)
        tally = _Tally(file.size, on_progress)
        upload = self._resumed(kind, file) or self._begun(kind, file)
        try:
            resource_id = self._sent_in_parts(upload, file, tally)
        except _StorageUnreachable as error:
            log.warning("%s; sending %s through the API instead", error, file.path.name)
            self._give_up(upload, file)
            return self._sent_through_api(collection, type_, file, tally)
        return Outage(self._session).endured(lambda: self._session.get(f"{collection}/{resource_id}", type_))

    def _begun(self, kind: UploadKind, file: SourceFile) -> Upload:
        request = UploadRequest(
            kind=kind,
            filename=file.path.name,
            size=file.size,
            sha256=file.sha256,
            part_size=file.part_size,
            part_sha256=list(file.part_sha256),
        )
        upload = decode(self._session.post("/v1/uploads", json=request.model_dump(mode="json")), Upload)
        self._state.remember(kind, file, upload.id)
        return upload

    def _resumed(self, kind: str, file: SourceFile) -> Upload | None:
        """The upload of the same file that an earlier call, perhaps in another process, left open."""
        upload_id = self._state.recall(kind, file)
        if upload_id is None:
            return None
        with suppress(NotFound, Gone):
            upload = self._fetched(upload_id)
            if upload.state == "open" and (upload.size, upload.sha256) == (file.size, file.sha256):
                log.info("resuming the upload of %s: %d parts to go", file.path.name, len(upload.parts))
                return upload
        self._state.forget(kind, file)
        return None

    def _fetched(self, upload_id: str) -> Upload:
        return self._session.get(f"/v1/uploads/{upload_id}", Upload)

    def _give_up(self, upload: Upload, file: SourceFile) -> None:
        self._state.forget(upload.kind, file)
        with suppress(APIError, ConnectionFailed):  # it expires by itself
            self._session.delete(f"/v1/uploads/{upload.id}")

    def _sent_in_parts(self, upload: Upload, file: SourceFile, tally: _Tally) -> str:
        """The id of what the upload became."""
        fruitless, outage = 0, Outage(self._session)
        while True:
            tally.arrived({part.number: part.size for part in upload.received})
            try:
                self._put_all(upload.parts, file, tally)
                return self._completed(upload, file)
            except (StorageError, ConnectionFailed, ServiceUnavailable, Conflict) as error:
                if _is_outage(error, tally):
                    outage.endure(error)
                elif fruitless >= _FRUITLESS_ROUNDS or not _is_mended_by_asking(error):
                    raise
                else:
                    fruitless += 1
                log.info("%s; asking which parts are missing", error)
            before = len(upload.received)
            upload = outage.endured(partial(self._fetched, upload.id))
            if len(upload.received) > before:
                fruitless = 0
                outage.over()

    def _completed(self, upload: Upload, file: SourceFile) -> str:
        try:
            response = self._session.post(f"/v1/uploads/{upload.id}/complete", timeout=_patience(upload.size))
        except Conflict as error:
            if error.code != "upload_completed":
                raise
            response = self._session.request("GET", f"/v1/uploads/{upload.id}")
        except APIError as error:
            if error.status < 500:
                self._state.forget(upload.kind, file)  # refused for good, not to be resumed
            raise
        self._state.forget(upload.kind, file)
        return _resource_id(response)

    def _put_all(self, parts: list[UploadPart], file: SourceFile, tally: _Tally) -> None:
        """Send `parts`. After a failure no further part is begun, but those on their way arrive."""
        stop = threading.Event()
        with ThreadPoolExecutor(PARALLEL_PARTS, thread_name_prefix="featherweight-upload") as pool:
            running = [pool.submit(self._put, part, file, tally, stop) for part in parts]
            try:
                wait(running, return_when=FIRST_EXCEPTION)
            except BaseException:
                stop.set()  # Ctrl-C: nobody waits for the parts on their way
                raise
            finally:
                for future in running:
                    future.cancel()
        for future in running:
            if not future.cancelled():
                future.result()

    def _put(self, part: UploadPart, file: SourceFile, tally: _Tally, stop: threading.Event) -> None:
        attempt = 0
        while True:
            try:
                body = _counted(part, file, tally, stop)
                answer = self._storage.put(part.url, body, part.size, part.headers)
            except httpx.TransportError as error:
                failure: ConnectionFailed | StorageError = _broken(error, part.url)
            else:
                if answer.is_success:
                    tally.storage_reached = True
                    tally.arrived({part.number: part.size})
                    return
                failure = _refusal(answer, part, file)
                if answer.status_code < 500:
                    raise failure
            tally.restarted(part.number)
            pause = self._session.policy.pause(attempt)
            if pause is None or stop.is_set() or (attempt > 0 and _is_out_of_reach(failure, tally)):
                raise failure
            self._session.clock.sleep(pause)
            attempt += 1

    def _sent_through_api(self, collection: str, type_: type[R], file: SourceFile, tally: _Tally) -> R:
        def body() -> Iterator[bytes]:
            tally.restarted(0)
            for chunk in file.slice(0, file.size):
                tally.sent(0, len(chunk))
                yield chunk

        key = str(uuid.uuid4())

        def post() -> httpx.Response:
            return self._session.post(
                collection,
                params={"filename": file.path.name, "sha256": file.sha256},
                body=body,
                headers={"Content-Length": str(file.size), "Content-Type": "application/octet-stream"},
                timeout=_patience(file.size),
                idempotency_key=key,
            )

        return decode(Outage(self._session).endured(post), type_)


class UploadState:
    """Which upload a file was going into, kept in the user's cache folder across processes.

    One small file for each; the name is a digest of the service, the path, the size, the time of
    the last change and the sha256, so that a changed file is never taken for the old one. Where
    the folder cannot be written, nothing is resumed and nothing else is lost.
    """

    def __init__(self, base_url: str, folder: Path | None = None) -> None:
        self._base_url = base_url
        self._folder = folder or _cache_folder() / "uploads"

    def recall(self, kind: str, file: SourceFile) -> str | None:
        try:
            value = json.loads(self._place(kind, file).read_bytes())
        except (OSError, ValueError):
            return None
        upload_id = value.get("upload_id") if isinstance(value, dict) else None
        return upload_id if isinstance(upload_id, str) and upload_id.isidentifier() else None

    def remember(self, kind: str, file: SourceFile, upload_id: str) -> None:
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with atomic_writer(self._place(kind, file)) as out:
                out.write(json.dumps({"upload_id": upload_id}).encode())

    def forget(self, kind: str, file: SourceFile) -> None:
        with suppress(OSError):
            self._place(kind, file).unlink(missing_ok=True)

    def _place(self, kind: str, file: SourceFile) -> Path:
        facts = [self._base_url, kind, str(file.path.absolute()), file.size, file.mtime_ns, file.sha256]
        return self._folder / f"{sha256(json.dumps(facts).encode()).hexdigest()}.json"


class _Tally:
    """Bytes of each part that are on their way or there; the sum is what progress shows."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self._total = total
        self._report = on_progress
        self._parts: dict[int, int] = {}
        self._lock = threading.Lock()
        self.storage_reached = False

    def arrived(self, sizes: dict[int, int]) -> None:
        with self._lock:
            self._parts.update(sizes)
            self._tell()

    def sent(self, number: int, count: int) -> None:
        with self._lock:
            self._parts[number] = self._parts.get(number, 0) + count
            self._tell()

    def restarted(self, number: int) -> None:
        with self._lock:
            self._parts[number] = 0
            self._tell()

    def _tell(self) -> None:
        if self._report:
            self._report(sum(self._parts.values()), self._total)


def _counted(part: UploadPart, file: SourceFile, tally: _Tally, stop: threading.Event) -> Iterator[bytes]:
    for chunk in file.slice(part.offset, part.size):
        if stop.is_set():
            raise httpx.WriteError("the upload was stopped")
        yield chunk
        tally.sent(part.number, len(chunk))


def _resource_id(response: httpx.Response) -> str:
    """Of the answer to `complete`: the upload itself, or the model or data set made of it."""
    answer = decode(response, dict[str, Any])
    name = "resource_id" if answer.get("object") == "upload" else "id"
    if not isinstance(answer.get(name), str):
        raise UnexpectedResponse(f"{response.url} completed the upload and named nothing made of it")
    return str(answer[name])


def _broken(error: httpx.TransportError, url: str) -> ConnectionFailed:
    failure = connection_error(error, url)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return _StorageUnreachable(str(failure), url=failure.url)
    return failure


def _is_out_of_reach(failure: Exception, tally: _Tally) -> bool:
    """Not one connection to the storage could be made so far."""
    return isinstance(failure, _StorageUnreachable) and not tally.storage_reached


def _is_outage(error: Exception, tally: _Tally) -> bool:
    """The service or the storage is away, and was there before."""
    if isinstance(error, StorageError):
        return error.status is not None and error.status >= 500
    return isinstance(error, ConnectionFailed | ServiceUnavailable) and not _is_out_of_reach(error, tally)


def _is_mended_by_asking(error: Exception) -> bool:
    """Fresh URLs for what is missing may help: they had expired, or a part was lost."""
    if isinstance(error, Conflict):
        return error.code == "upload_incomplete"
    return isinstance(error, StorageError) and error.status in (403, 404, 408, 429)


def _patience(size: int) -> float:
    """Seconds to wait for an answer that comes when all `size` bytes have been read once more."""
    return 60.0 + size / _COMPLETE_BYTES_PER_S


def _refusal(answer: httpx.Response, part: UploadPart, file: SourceFile) -> StorageError:
    found = re.search(rb"<Code>(\w{1,64})</Code>", answer.content)
    code = found[1].decode() if found else ""
    message = f"part {part.number} of {file.path.name}: the object storage at {answer.url.host} answered "
    message += f"{answer.status_code} {code}".strip()
    if code in _WRONG_BYTES:
        message += ": these are not the bytes announced; the file may have changed while it was sent"
    return StorageError(message, status=answer.status_code)


def _cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "featherweight"
