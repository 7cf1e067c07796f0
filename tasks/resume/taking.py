"""Takes up what an earlier attempt kept in storage, where this machine knows less."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tasks import keys
from tasks.joblog import JobLog
from tasks.records import Claim
from tasks.resume.index import INDEX_BYTES, Index, KeptFile, by_attempt
from tasks.scratch import Scratch
from tasks.settings import Settings
from tasks.storage import Storage

__all__ = ["take_up"]

_log = logging.getLogger(__name__)


class _Unusable(Exception):
    """What is stored cannot be gone on with; says why."""


def take_up(
    settings: Settings,
    storage: Storage,
    claim: Claim,
    scratch: Scratch,
    log: JobLog,
    *,
    owner: int | None,
    check: Callable[[], None],
) -> bool:
    """Put the newest progress there is into the working folder; whether it came from storage.

    An attempt that ran on this machine left at least what it had stored: the folder is then as it was. What
    is damaged, missing or somebody else's is told in the job's log, and what an attempt before that stored
    is looked at; in the end the job goes on with what is in the folder, or begins anew. `owner` is who the
    runner will be, None for who we are; `check` is called now and then and may raise, to stop.
    StorageUnavailable; OSError for a full disk.
    """
    if claim.attempt == 1 or settings.max_progress_bytes == 0:
        return False
    project, prefix = claim.job.project, keys.progress_prefix(claim.job.project, claim.job_id)
    stored = by_attempt(prefix, storage.list_keys(prefix))
    for attempt in sorted(stored, reverse=True):
        if attempt >= claim.attempt:
            continue
        if attempt <= scratch.left_by:
            break
        if keys.progress_index_key(project, claim.job_id, attempt) not in stored[attempt]:
            continue  # broken off before it was complete
        source = _Source(storage, project, claim.job_id, attempt, settings.max_progress_bytes)
        try:
            index = _Taking(source, scratch, owner, check).fetch()
        except _Unusable as why:
            _say(claim, log, "warning", f"what attempt {attempt} stored cannot be gone on with: {why}")
            continue
        what = f"{len(index.files)} files, {index.bytes:,} bytes"
        _say(claim, log, "info", f"what attempt {attempt} had finished was fetched from storage: {what}")
        return True
    return False


@dataclass(frozen=True)
class _Source:
    """What one attempt stored, at most `max_bytes` of it."""

    storage: Storage
    project: str
    job_id: str
    attempt: int
    max_bytes: int

    def index(self) -> Index:
        """_Unusable; FileNotFoundError."""
        key = keys.progress_index_key(self.project, self.job_id, self.attempt)
        try:
            index = Index.model_validate_json(self.storage.read(key, length=INDEX_BYTES))
        except ValidationError as error:
            raise _Unusable("its index cannot be read") from error
        if (index.job_id, index.attempt) != (self.job_id, self.attempt):
            raise _Unusable("it is another job's")
        if index.bytes > self.max_bytes:
            raise _Unusable(f"it is larger than {self.max_bytes} bytes")
        return index

    def file(self, file: KeptFile, path: Path, check: Callable[[], None]) -> None:
        """Write its bytes to `path`; _Unusable, FileNotFoundError."""
        key = keys.progress_file_key(self.project, self.job_id, self.attempt, file.number)
        if self.storage.size(key) != file.bytes:
            raise _Unusable(f"{file.path} is of another size")
        if self.storage.get_file(key, path, check=check) != file.sha256:
            raise _Unusable(f"the sha256 of {file.path} differs")


@dataclass(frozen=True)
class _Taking:
    """Into a fresh folder, which nobody else has access to, and from there to the working folder's place."""

    source: _Source
    scratch: Scratch
    owner: int | None
    check: Callable[[], None]

    def fetch(self) -> Index:
        """All or nothing; _Unusable."""
        try:
            index = self.source.index()
            while True:
                try:
                    return self._fetched(index)
                except (_Unusable, FileNotFoundError):
                    # A worker that was cut off may have written a newer one meanwhile.
                    earlier, index = index, self.source.index()
                    if index == earlier:
                        raise
        except FileNotFoundError as error:
            raise _Unusable("a file is missing") from error
        finally:
            self.scratch.forget_fresh()

    def _fetched(self, index: Index) -> Index:
        folder = self.scratch.fresh_work()
        self._give(folder)
        for file in index.files:
            self._place(file, folder)
        self.scratch.replace_work()
        return index

    def _place(self, file: KeptFile, top: Path) -> None:
        path = top / file.path
        try:
            for folder in list(path.relative_to(top).parents)[-2::-1]:
                with suppress(FileExistsError):
                    (top / folder).mkdir()
                    self._give(top / folder)
            self.source.file(file, path, self.check)
        except (NotADirectoryError, IsADirectoryError) as error:
            raise _Unusable(f"{file.path} is a file and a folder") from error
        self._give(path)

    def _give(self, path: Path) -> None:
        if self.owner is not None:
            os.chown(path, self.owner, self.owner, follow_symlinks=False)


def _say(claim: Claim, log: JobLog, level: str, sentence: str) -> None:
    log.say(level, sentence)
    _log.log(logging.INFO if level == "info" else logging.WARNING, "%s: %s", claim.job_id, sentence)
