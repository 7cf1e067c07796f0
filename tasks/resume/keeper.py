"""Keeps a job's progress in storage while its runner works: beside it, in a thread of the worker."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import redis

from tasks import keys
from tasks.joblog import JobLog
from tasks.lease import Interrupted, Lease, Reason
from tasks.records import Claim
from tasks.resume.index import FOLDERS, MAX_FILES, Index, KeptFile, by_attempt
from tasks.sandbox.collect import FileEntry, OutputRefused, list_outputs, open_output
from tasks.settings import Settings
from tasks.storage import Storage, StorageUnavailable, TooLarge
from tasks.store import JobStore

__all__ = ["Keeper"]

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5
_AGAIN_AFTER_S = 1.0
# What was refused again and again is looked at less often.
_REFUSED_S = 60.0
# A worker that is told to stop has about half a minute before it is killed (deploy/compose.yaml).
_LAST_S = 15.0
# An upload that was given up ends with the next piece of it, unless storage keeps us waiting.
_GIVE_UP_S = 5.0
_CHUNK = 1024 * 1024


class _GivenUp(Exception):
    """Nothing is to be kept any more."""


@dataclass
class _Cost:
    times: int = 0
    bytes: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0


class Keeper:
    """A context around an attempt. From `start` to `stop`, what the runner finishes is kept in storage, in
    the order in which it was finished and at most every ``progress_interval_s``.

    Left by an exception, the attempt is to be gone on with elsewhere: what is newest is kept before the
    context ends, if that takes no longer than `_LAST_S`. Not so when the job is lost: then nothing is written
    any more. An attempt writes beneath its own number alone, and asks whether the job is still its own before
    it writes an index, so that one which lost the job changes nothing for the next.

    Nothing that goes wrong here ends the attempt: it is told in the job's log, and tried again.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        storage: Storage,
        claim: Claim,
        scratch: Path,
        lease: Lease,
        log: JobLog,
        *,
        owner: int | None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._storage = storage
        self._claim = claim
        self._scratch = scratch
        self._lease = lease
        self._job_log = log
        self._owner = owner
        self._place = (claim.job.project, claim.job_id, claim.attempt)
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._given_up = threading.Event()
        self._obsolete = threading.Event()
        self._known: frozenset[FileEntry] = frozenset()
        self._stored: dict[FileEntry, KeptFile] = {}
        self._number = 0
        self._garbage: set[str] = set()
        self._earlier_is_gone = claim.attempt == 1
        self._refused: list[str] = []
        self._next_at = 0.0
        self._cost = _Cost()

    def __enter__(self) -> Keeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = isinstance(error, Interrupted) and error.reason is Reason.LOST
        self._end(keep_newest=error is not None and not lost)
        if self._cost.times:
            cost = self._cost
            what = (
                f"{cost.times} times, {cost.bytes:,} bytes, {cost.seconds:.2f} s, {cost.cpu_s:.2f} s of CPU"
            )
            _log.info("%s: attempt %d kept its progress: %s", self._claim.job_id, self._claim.attempt, what)

    def start(self, *, stored: bool) -> None:
        """Begin to keep. `stored`: what is in the working folder came from storage, and is there still."""
        if self._settings.max_progress_bytes == 0:
            return
        if stored:
            # The earlier attempt's index names it, and stays until there is something new.
            with suppress(OutputRefused):
                self._known = frozenset(self._found())
        # A job that is over by then costs nothing.
        self._next_at = time.monotonic() + self._settings.progress_interval_s
        self._thread = threading.Thread(target=self._work, name=f"progress-{self._claim.job_id}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The job is about to end: nothing is kept from here on."""
        self._end(keep_newest=False)

    # The end

    def _end(self, *, keep_newest: bool) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if not keep_newest:
            self._obsolete.set()
            self._given_up.set()
        self._wake.set()
        if keep_newest:
            thread.join(_LAST_S)
            self._given_up.set()
        thread.join(_GIVE_UP_S)
        if thread.is_alive():
            _log.warning("%s: storage keeps an upload of progress waiting", self._claim.job_id)

    # In the thread

    def _work(self) -> None:
        last = False
        while not last and not self._given_up.is_set():
            last = self._wake.wait(_LOOK_EVERY_S)
            if last or time.monotonic() >= self._next_at:
                try:
                    self._keep()
                except _GivenUp:
                    return
                except (StorageUnavailable, redis.RedisError, OSError) as error:
                    self._say(f"how far the job has got could not be stored: {error}")
                    self._next_at = time.monotonic() + max(self._settings.progress_interval_s, _AGAIN_AFTER_S)
                except Exception:  # noqa: BLE001 - a fault of ours, which must not cost the job
                    _log.exception("%s: progress is not kept", self._claim.job_id)
                    self._next_at = time.monotonic() + _AGAIN_AFTER_S

    def _keep(self) -> None:
        """Store what is new, and then the index that names it."""
        try:
            found = self._found()
            if frozenset(found) == self._known:
                return
            began = time.monotonic()
            for entry in found:
                if entry not in self._stored:
                    self._stored[entry] = self._put(entry)
        except (OutputRefused, TooLarge) as error:
            self._refuse(str(error))
            return
        self._put_index([self._stored[entry] for entry in found])
        self._cost.times += 1
        self._cost.seconds += time.monotonic() - began
        self._cost.cpu_s = time.thread_time()
        self._next_at = began + self._settings.progress_interval_s
        self._known = frozenset(found)
        self._refused.clear()
        for entry in self._stored.keys() - self._known:
            file = self._stored.pop(entry)
            self._garbage.add(keys.progress_file_key(*self._place, file.number))
        self._tidy_up()

    def _found(self) -> list[FileEntry]:
        """OutputRefused when it is more than may be kept."""
        most = self._settings.max_progress_bytes
        found: list[FileEntry] = []
        for folder in FOLDERS:
            left = MAX_FILES - len(found)
            found += list_outputs(self._scratch, f"work/{folder}", max_files=left)
        if sum(entry.bytes for entry in found) > most:
            raise OutputRefused(f"it is larger than {most} bytes")
        return found

    def _put(self, entry: FileEntry) -> KeptFile:
        self._check()
        self._number += 1
        key = keys.progress_file_key(*self._place, self._number)
        most = self._settings.max_progress_bytes
        with open_output(self._scratch, entry.path, max_bytes=most, owner=self._owner) as file:
            try:
                size, sha256 = self._storage.put_stream(self._chunks(file), key, max_bytes=most)
            except BaseException:
                self._garbage.add(key)
                raise
        self._cost.bytes += size
        if self._given_up.is_set():
            # It came too late, and whoever tidies up may have been here before.
            self._storage.delete(key)
            raise _GivenUp
        path = entry.path.removeprefix("work/")
        return KeptFile(path=path, number=self._number, bytes=size, sha256=sha256)

    def _chunks(self, file: BinaryIO) -> Iterator[bytes]:
        while chunk := file.read(_CHUNK):
            self._check()
            yield chunk

    def _put_index(self, files: Sequence[KeptFile]) -> None:
        self._check()
        if not self._store.poll(self._claim).owned:
            self._lease.lose()
            raise _GivenUp
        index = Index(job_id=self._claim.job_id, attempt=self._claim.attempt, files=files)
        key = keys.progress_index_key(*self._place)
        self._storage.put_json(key, index.model_dump(mode="json"))
        if self._obsolete.is_set():
            self._storage.delete(key)
            raise _GivenUp

    def _tidy_up(self) -> None:
        """Remove what no index names any more, of earlier attempts too: this one's stands for them."""
        if not self._earlier_is_gone:
            project, job_id, attempt = self._place
            prefix = keys.progress_prefix(project, job_id)
            found = by_attempt(prefix, self._storage.list_keys(prefix))
            self._garbage |= {key for number in found if number < attempt for key in found[number]}
            self._earlier_is_gone = True
        while self._garbage:
            key = next(iter(self._garbage))
            self._storage.delete(key)
            self._garbage.discard(key)

    def _check(self) -> None:
        if self._given_up.is_set() or self._lease.interruption is Reason.LOST:
            raise _GivenUp

    def _refuse(self, why: str) -> None:
        """Told when it is so the second time: a file may just have been put in the place of another."""
        self._refused.append(why)
        if self._refused.count(why) == 2:
            self._say(f"how far the job has got is not stored: {why}")
        if len(self._refused) > 2:
            self._next_at = time.monotonic() + _REFUSED_S

    def _say(self, sentence: str) -> None:
        self._job_log.say("warning", sentence)
        _log.warning("%s: %s", self._claim.job_id, sentence)
