"""What is to be done next to a batch, and doing it: called by the reaper, when a job has ended, and by the
service right after a request. All of it may be done by several at once.
"""

from __future__ import annotations

import logging
import threading
import time
from importlib.metadata import PackageNotFoundError

import redis

from featherweight.batch import BatchItem, BatchItemState, BatchRequest, BatchState
from tasks import keys
from tasks.batches.completion import Completion
from tasks.batches.files import BatchFiles
from tasks.batches.identity import Earlier, installed_toolchain
from tasks.batches.inboxed import Inboxed
from tasks.batches.records import BatchRecord, job_id_of
from tasks.batches.sources import Source, SourceBusy, source_of
from tasks.batches.stopping import Stopping
from tasks.batches.store import BatchStore
from tasks.batches.submission import Submission
from tasks.batches.validation import Validation
from tasks.compression.toolchain import OF
from tasks.inbox import Inbox
from tasks.locks import Busy, held
from tasks.notices import Notices
from tasks.queue import Queue
from tasks.records import JobRecord
from tasks.settings import Settings
from tasks.storage import Storage, StorageUnavailable
from tasks.store import NotFound
from tasks.submission import Submitter

__all__ = ["Batches"]

_log = logging.getLogger(__name__)
_AWAY = (redis.RedisError, StorageUnavailable, SourceBusy, OSError)
_BATCHES_AT_ONCE = 20
# How long one batch is worked on before the next has its turn.
_TURN_S = 5.0
_SUBMIT_AT_ONCE = 25
# One has ended, so that one may begin; a second makes good for one that was refused.
_SUBMIT_AT_END = 2
# Batches of so many items need not wait for the reaper to be ended.
_SMALL = 500
# A batch whose jobs all run is looked at again after this time, should nobody have told of their end.
_LOOK_AGAIN_S = 15.0


class Batches:
    """The batches of all projects. Safe to use from many threads."""

    def __init__(
        self,
        settings: Settings,
        client: redis.Redis,
        storage: Storage,
        submitter: Submitter,
        notices: Notices | None = None,
        store: BatchStore | None = None,
    ) -> None:
        """Nothing is connected to yet. Without `notices` nobody is told of ends."""
        self._settings = settings
        self._redis = client
        self._storage = storage
        self._jobs = submitter.jobs
        self.store = store or BatchStore(client)
        self.earlier = Earlier(client, submitter.jobs, storage)
        self.submission = Submission(self.store, storage, submitter, self.earlier, self.files)
        self._validation = Validation(self.store, submitter, self.files, self._source)
        self._stopping = Stopping(self.store, submitter.jobs, self.submission)
        self._completion = Completion(self.store, self.files, notices)
        self._inbox = Inbox(settings, client, storage)
        self._worker: threading.Thread | None = None
        self._announced = False

    @classmethod
    def of(
        cls,
        settings: Settings,
        client: redis.Redis,
        storage: Storage,
        queue: Queue,
        notices: Notices | None = None,
    ) -> Batches:
        return cls(settings, client, storage, Submitter.of(settings, client, storage, queue), notices)

    def files(self, batch: BatchRecord) -> BatchFiles:
        return BatchFiles(self._storage, batch.project, batch.id)

    # Listener and chore

    def job_ended(self, record: JobRecord) -> None:
        """A job has ended: its result may serve others, and if it is of a batch its item has ended and the
        next may begin. RedisError, StorageUnavailable."""
        self.earlier.remember(record)
        origin = record.origin
        if origin is None or origin.type != "batch":
            return
        batch = self.store.find(origin.id)
        if batch is None or batch.done or batch.project != record.project:
            return
        for item in self.store.items_called(batch.id, origin.item or ""):
            # Jobs cannot claim to be of a batch, but their repetitions may say so.
            if job_id_of(batch.id, item.custom_id or "") == record.id:
                self.submission.end_by_job(batch, item, record)
        self.submission.submit(batch, _SUBMIT_AT_END)
        if batch.counts.total <= _SMALL:
            self.finish_if_over(batch.id)

    def finish_if_over(self, batch_id: str) -> None:
        """Bring a small batch to its end at once, when all of its items have ended."""
        batch = self.store.find(batch_id)
        if batch is not None and batch.state == BatchState.FINALIZING:
            self.advance(batch_id)

    def chore(self) -> None:
        """Have what is due done by a thread of its own: reading an input or a prefix takes longer than the
        reaper may be kept."""
        if self._worker is None or not self._worker.is_alive():
            self._worker = threading.Thread(target=self._work, name="batches", daemon=True)
            self._worker.start()

    def _work(self) -> None:
        try:
            self.work()
        except _AWAY as error:
            _log.warning("batches wait: %s", error)
        except Exception:  # noqa: BLE001 - a thread that dies would say so to nobody
            _log.exception("batches wait")

    def work(self) -> None:
        """Do once whatever is due. redis.RedisError."""
        self._announce_toolchain()
        for batch_id in self.store.due(_BATCHES_AT_ONCE, _LOOK_AGAIN_S):
            try:
                self.advance(batch_id)
            except (StorageUnavailable, SourceBusy, NotFound) as error:
                _log.warning("batch %s waits: %s", batch_id, error)

    def _announce_toolchain(self) -> None:
        if self._announced:
            return
        missing = {}
        for framework in OF:
            try:
                self.earlier.announce_toolchain(installed_toolchain(framework), framework)
            except PackageNotFoundError as error:
                missing[framework] = error
        if len(missing) == len(OF):
            _log.warning(
                "results of earlier jobs are not used again; not installed: %s",
                ", ".join(map(str, missing.values())),
            )
        self._announced = True

    # Steps

    def advance(self, batch_id: str, *, finish: bool = True, turn_s: float = _TURN_S) -> None:
        """Take the batch as far as it goes now, for about `turn_s`; with `finish` to its very end.

        RedisError, StorageUnavailable. Nothing is done while somebody else does it."""
        deadline = time.monotonic() + turn_s
        try:
            with held(self._redis, f"batch:{batch_id}") as keep_alive:
                while self._step(batch_id, finish=finish):
                    keep_alive()
                    if time.monotonic() > deadline:
                        self.store.due_at(batch_id, 0)
                        return
        except Busy:
            self.store.due_at(batch_id, 1)

    def _step(self, batch_id: str, *, finish: bool) -> bool:
        """Whether there is more to do at once."""
        batch = self.store.find(batch_id)
        if batch is None:
            self.store.attended(batch_id)
            return False
        if batch.is_open and batch.expires_at.timestamp() <= self.store.now():
            batch = self.store.stop(batch.id, batch.project, "expired")
        match batch.state:
            case BatchState.VALIDATING:
                self._validation.step(batch)
                return True
            case BatchState.IN_PROGRESS:
                return self._go_on(batch)
            case BatchState.CANCELLING:
                return self._stopping.step(batch)
            case BatchState.FINALIZING if finish:
                self._completion.finish(batch)
                return True
            case _ if batch.done and finish:
                self._completion.attend(batch)
        return False

    def _go_on(self, batch: BatchRecord) -> bool:
        self.submission.look_after(batch)
        left = batch.expires_at.timestamp() - self.store.now()
        self.store.due_at(batch.id, max(0.0, min(_LOOK_AGAIN_S, left)))
        more = self.submission.submit(batch, _SUBMIT_AT_ONCE)
        after = self.store.find(batch.id)
        return more or (after is not None and after.state != batch.state)

    # For the service

    def create(
        self, project: str, batch_id: str, request: BatchRequest, *, request_id: str | None
    ) -> BatchRecord:
        """Make the record, then keep the request in storage; may be repeated with the same id. TooManyOpen,
        RedisError, and StorageUnavailable, after which no batch is left."""
        most = self._settings.project_open_batches
        record = self.store.create(project, batch_id, request, request_id=request_id, max_open=most)
        try:
            self.files(record).put_request(request, record.created_at.timestamp())
        except StorageUnavailable:
            self.store.discard(project, batch_id)
            raise
        if request.input_file_id is not None:
            self.store.hold(batch_id, [request.input_file_id])
        self.store.due_at(batch_id, 0)
        return record

    def hasten(self, batch_id: str, turn_s: float) -> None:
        """Do now what the reaper would do soon. What is away is left to the reaper."""
        try:
            self.advance(batch_id, finish=False, turn_s=turn_s)
        except _AWAY as error:
            _log.warning("batch %s is left to the reaper: %s", batch_id, error)

    def live(self, batch: BatchRecord, wanted: range) -> list[BatchItem]:
        """Items of a batch that has not ended, with their jobs as they are now."""
        active = self.store.active(batch.id)
        return [self._seen(batch, item, item.index in active) for item in self.store.items(batch.id, wanted)]

    def running(self, batch: BatchRecord) -> int:
        """How many items' jobs run at this moment."""
        if batch.done:
            return 0
        items = self.store.items(batch.id, self.store.active(batch.id))
        ids = [job_id_of(batch.id, item.custom_id or "") for item in items]
        return sum(state in ("running", "finalizing") for state in self._jobs.states(ids))

    def remove(self, project: str, batch_id: str) -> bool:
        """Remove a batch that has ended, with its files; False for one that has not. Its jobs stay. NotFound,
        StorageUnavailable."""
        batch = self.store.get(project, batch_id)
        if not batch.done:
            return False
        self.files(batch).remove()
        return self.store.remove(project, batch_id)

    def _seen(self, batch: BatchRecord, item: BatchItem, is_active: bool) -> BatchItem:
        if not is_active:
            return item
        job_id = job_id_of(batch.id, item.custom_id or "")
        state = self._jobs.states([job_id])[0]
        if state is None:
            return item
        runs = state in ("running", "finalizing")
        return item.model_copy(
            update={
                "job_id": job_id,
                "state": BatchItemState.RUNNING if runs else BatchItemState.QUEUED,
            }
        )

    # Sources

    def _source(self, batch: BatchRecord, request: BatchRequest) -> Source:
        key = keys.batch_file_key(batch.project, request.input_file_id or "none")
        return source_of(
            request,
            lambda start, length: self._storage.read(key, start=start, length=length),
            Inboxed(self._inbox, batch.project, request.prefix or ""),
            max_line_bytes=self._settings.max_json_bytes,
        )
