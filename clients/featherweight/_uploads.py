"""Files sent to the service: in parts straight to the object storage, picked up where they broke off.

    POST /v1/uploads ──> parts, each with a presigned URL
    PUT every part     ──> the storage, several at once, each streamed from its slice of the file
    GET /v1/uploads/{id}   says after any trouble which parts are still missing
    POST …/complete    ──> the service checks size and sha256 and makes the model or data set

Where the storage cannot be reached from here (behind a tunnel of one port, say), the file goes
through the API as one stream instead.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx

from featherweight._files import SourceFile, atomic_writer
from featherweight._transport import Session, Storage, connection_error, decode
from featherweight.errors import (
    APIError,
    Conflict,
    ConnectionFailed,
    Gone,
    NotFound,
    StorageError,
    UnexpectedResponse,
)
from featherweight.resources import Dataset, Model, Upload, UploadPart, UploadRequest

__all__ = ["OnProgress", "Uploader"]

log = logging.getLogger("featherweight")

OnProgress = Callable[[int, int], None]
"""Called with the bytes sent so far and the bytes to send, from several threads but never at once."""

PARALLEL_PARTS = 4
# How often the list of missing parts is fetched anew before giving up, as URLs expire meanwhile.
_ROUNDS = 4

R = TypeVar("R", bound=Model | Dataset)


class _StorageUnreachable(Exception):
    """Not one connection to the storage could be made."""


class Uploader:
    """Sends files. Safe to share between threads."""

    def __init__(self, session: Session, storage: Storage, *, state: UploadState | None = None) -> None:
        self._session = session
        self._storage = storage
        self._state = state or UploadState(session.base_url)

    def send(
        self,
        kind: Literal["model", "dataset"],
        type_: type[R],
        path: str | os.PathLike[str],
        on_progress: OnProgress | None = None,
    ) -> R:
        """The model or data set made of the file at `path`.

        Raises ValueError for a folder or an empty file, OSError where it cannot be read, and this
        library's errors for whatever the service or the storage answered.
        """
        file = SourceFile.open(path)
        tally = _Tally(file.size, on_progress)
        upload = self._resumed(kind, file) or self._begun(kind, file)
        try:
            resource_id = self._sent_in_parts(upload, file, tally)
        except _StorageUnreachable as error:
            log.warning("%s; sending %s through the API instead", error, file.path.name)
            self._state.forget(kind, file)
            return self._sent_through_api(kind, type_, file, tally)
        return self._session.get(f"/v1/{kind}s/{resource_id}", type_)

    def _begun(self, kind: Literal["model", "dataset"], file: SourceFile) -> Upload:
        request = UploadRequest(kind=kind, filename=file.path.name, size=file.size, sha256=file.sha256)
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

    def _sent_in_parts(self, upload: Upload, file: SourceFile, tally: _Tally) -> str:
        """The id of what the upload became."""
        for attempt in range(_ROUNDS):
            last = attempt == _ROUNDS - 1
            tally.arrived({part.number: part.size for part in upload.received})
            try:
                self._put_all(upload.parts, file, tally)
                return self._completed(upload, file)
            except (StorageError, ConnectionFailed) as error:
                if last or (isinstance(error, StorageError) and error.status not in (403, 404, 408, 429)):
                    raise
                log.info("%s; asking which parts are missing", error)
            except Conflict as error:
                if last or error.code != "upload_incomplete":
                    raise
            upload = self._fetched(upload.id)
        raise AssertionError("the last round returns or raises")

    def _completed(self, upload: Upload, file: SourceFile) -> str:
        try:
            response = self._session.post(f"/v1/uploads/{upload.id}/complete")
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
        stop = threading.Event()
        with ThreadPoolExecutor(PARALLEL_PARTS, thread_name_prefix="featherweight-upload") as pool:
            running = [pool.submit(self._put, part, file, tally, stop) for part in parts]
            try:
                ended, _ = wait(running, return_when=FIRST_EXCEPTION)
            finally:
                # On the first failure, and on Ctrl-C, the other parts stop at their next chunk.
                stop.set()
                for future in running:
                    future.cancel()
            failed = [error for future in ended if (error := future.exception())]
        if failed:
            raise failed[0]

    def _put(self, part: UploadPart, file: SourceFile, tally: _Tally, stop: threading.Event) -> None:
        attempt = 0
        while True:
            try:
                answer = self._storage.put(part.url, _counted(part, file, tally, stop), part.size)
            except httpx.TransportError as error:
                failure: Exception = connection_error(error, part.url)
                if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and not tally.any_arrived:
                    failure = _StorageUnreachable(str(failure))
            else:
                if answer.is_success:
                    tally.arrived({part.number: part.size})
                    return
                failure = _refusal(answer)
                if answer.status_code < 500:
                    raise failure
            tally.restarted(part.number)
            limit = 1 if isinstance(failure, _StorageUnreachable) else self._session.policy.max_retries
            pause = self._session.policy.pause(attempt)
            if pause is None or attempt >= limit or stop.is_set():
                raise failure
            self._session.clock.sleep(pause)
            attempt += 1

    def _sent_through_api(self, kind: str, type_: type[R], file: SourceFile, tally: _Tally) -> R:
        def body() -> Iterator[bytes]:
            tally.restarted(0)
            for chunk in file.slice(0, file.size):
                tally.sent(0, len(chunk))
                yield chunk

        response = self._session.post(
            f"/v1/{kind}s",
            params={"filename": file.path.name, "sha256": file.sha256},
            body=body,
            headers={"Content-Length": str(file.size), "Content-Type": "application/octet-stream"},
        )
        return decode(response, type_)


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
        self.any_arrived = False

    def arrived(self, sizes: dict[int, int]) -> None:
        self.any_arrived = self.any_arrived or bool(sizes)
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
            raise httpx.WriteError("another part failed")
        yield chunk
        tally.sent(part.number, len(chunk))


def _resource_id(response: httpx.Response) -> str:
    """Of the answer to `complete`: the upload itself, or the model or data set made of it."""
    answer = decode(response, dict[str, Any])
    name = "resource_id" if answer.get("object") == "upload" else "id"
    if not isinstance(answer.get(name), str):
        raise UnexpectedResponse(f"{response.url} completed the upload and named nothing made of it")
    return str(answer[name])


def _refusal(answer: httpx.Response) -> StorageError:
    host = answer.url.host
    return StorageError(
        f"the object storage at {host} answered {answer.status_code}", status=answer.status_code
    )


def _cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "featherweight"
