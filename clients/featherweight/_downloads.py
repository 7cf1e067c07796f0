"""Artifacts brought home: streamed, checked against their sha256, and only then given their name."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import httpx

from featherweight._files import atomic_writer, safe_names, sha256_of
from featherweight._transport import Session, Storage, connection_error
from featherweight.errors import ChecksumMismatch, StorageError
from featherweight.job import Artifact

__all__ = ["Downloader"]

log = logging.getLogger("featherweight")

# Statuses of the storage that a fresh URL or a little patience can mend.
_PASSING = frozenset({403, 408, 429, 500, 502, 503, 504})


class Downloader:
    def __init__(self, session: Session, storage: Storage) -> None:
        self._session = session
        self._storage = storage

    def fetch(
        self,
        job_id: str,
        artifacts: Sequence[Artifact],
        directory: Path,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Path]:
        """Bring `artifacts` into `directory`, made if need be; the paths in their order.

        A file that is already there with the right content is left as it is; one with another
        content is replaced. Raises ChecksumMismatch, StorageError, ConnectionFailed or APIError,
        and leaves no half a file behind.
        """
        directory.mkdir(parents=True, exist_ok=True)
        total = sum(artifact.bytes for artifact in artifacts)
        before = 0
        paths = []
        for artifact, name in zip(artifacts, safe_names([each.name for each in artifacts]), strict=True):
            target = directory / name
            if not _is_already(target, artifact):
                with atomic_writer(target) as file:
                    transfer = _Transfer(artifact, file, _shifted(on_progress, before, total))
                    self._run(job_id, transfer)
                    transfer.check()
            before += artifact.bytes
            if on_progress:
                on_progress(before, total)
            paths.append(target)
        return paths

    def _run(self, job_id: str, transfer: _Transfer) -> None:
        """Receive it all, continuing after a broken connection where it broke."""
        attempt = 0
        while not transfer.complete:
            had = transfer.received
            try:
                with self._opened(job_id, transfer.artifact.name, had) as response:
                    transfer.receive(response)
                    return
            except httpx.TransportError as error:
                failure: Exception = connection_error(error, str(error.request.url))
            except StorageError as error:
                if error.status not in _PASSING:
                    raise
                failure = error
            attempt = 0 if transfer.received > had else attempt
            pause = self._session.policy.pause(attempt)
            if pause is None:
                raise failure
            log.info("%s; continuing at byte %d in %.1f s", failure, transfer.received, pause)
            self._session.clock.sleep(pause)
            attempt += 1

    @contextmanager
    def _opened(self, job_id: str, name: str, start: int) -> Iterator[httpx.Response]:
        """The artifact's bytes, from where the API says they are, or else through the API."""
        path = f"/v1/jobs/{quote(job_id, safe='')}/artifacts/{quote(name, safe='')}"
        with ExitStack() as stack:
            try:
                response = stack.enter_context(self._redirected(path, start))
            except httpx.ConnectError as error:
                host = error.request.url.host
                log.warning("cannot reach the object storage at %s; downloading through the API", host)
                response = stack.enter_context(
                    self._session.stream("GET", path, headers={"Accept": "*/*"}, params={"redirect": "false"})
                )
            yield response

    @contextmanager
    def _redirected(self, path: str, start: int) -> Iterator[httpx.Response]:
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with self._session.stream("GET", path, headers=headers) as response:
            if not response.has_redirect_location:
                yield response
                return
            url = str(response.url.join(response.headers["Location"]))
        with self._storage.get(url, start=start) as response:
            if not response.is_success:
                raise StorageError(
                    f"the object storage at {response.url.host} answered {response.status_code}",
                    status=response.status_code,
                )
            yield response


class _Transfer:
    """An artifact on its way into `file`."""

    def __init__(self, artifact: Artifact, file: BinaryIO, on_received: Callable[[int], None] | None) -> None:
        self.artifact = artifact
        self.received = 0
        self._file = file
        self._digest = hashlib.sha256()
        self._on_received = on_received

    @property
    def complete(self) -> bool:
        return self.received >= self.artifact.bytes

    def receive(self, response: httpx.Response) -> None:
        """Take in the rest of the file, or the whole of it where the sender ignored the range."""
        if self.received and response.status_code != httpx.codes.PARTIAL_CONTENT:
            self._start_again()
        for chunk in response.iter_raw():
            self._file.write(chunk)
            self._digest.update(chunk)
            self.received += len(chunk)
            if self._on_received:
                self._on_received(self.received)
            if self.received > self.artifact.bytes:
                return  # more than announced: not this file, and no reason to fill the disk with it

    def check(self) -> None:
        actual = self._digest.hexdigest()
        if actual != self.artifact.sha256 or self.received != self.artifact.bytes:
            raise ChecksumMismatch(self.artifact.name, expected=self.artifact.sha256, actual=actual)

    def _start_again(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()
        self.received = 0


def _is_already(target: Path, artifact: Artifact) -> bool:
    return (
        not target.is_symlink()
        and target.is_file()
        and target.stat().st_size == artifact.bytes
        and sha256_of(target) == artifact.sha256
    )


def _shifted(
    on_progress: Callable[[int, int], None] | None, before: int, total: int
) -> Callable[[int], None] | None:
    if on_progress is None:
        return None
    return lambda received: on_progress(before + received, total)
