"""A job from claim to commit, in a thread of the worker.

    claim ──> fetch inputs ──> run ──> finalizing: store outputs ──> commit ──> settle
      │            │            │                   │
      │            └────────────┴── refused ────────┴──> commit failed
      │                         ├── cancelled ─────────> commit cancelled
      │                         ├── max_total_s over ──> commit expired
      │                         ├── worker stops ──────> release: queued again, not counted
      │                         ├── infrastructure ────> release: queued again later, counted
      │                         └── lease lost ────────> publish nothing, take uploads back
      └── nobody's turn (a second message, a cancelled job, limits of projects): nothing to do

Nothing that happens to a job may leave `Supervisor.run` as an exception: a MemoryError that leaves
a task ends the whole worker.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import redis
from kombu.exceptions import OperationalError
from pydantic import ValidationError

from featherweight.job import Artifact, JobState
from featherweight.problem import CODES, Problem, problem
from featherweight.receipt import RECEIPT
from featherweight.report import FileDigest
from tasks import keys
from tasks.endings import total_timeout
from tasks.evidence import INFRASTRUCTURE, code_of, evidence_of_exit, evidence_of_loss
from tasks.gate import VERSION as GATE_VERSION
from tasks.gate import judge
from tasks.interruptible import interruptible
from tasks.joblog import Hidden, JobLog
from tasks.lease import Interrupted, Lease, Reason
from tasks.queue import Queue
from tasks.receipts import Signer
from tasks.records import Claim, DatasetRecord, Evidence, ModelRecord, Outcome
from tasks.recordstore import RecordStore
from tasks.relay import Relay
from tasks.resume import Keeper, take_up
from tasks.runner import Failed, Made, Result
from tasks.sandbox.children import Exit, Runners
from tasks.sandbox.choice import chosen_sandbox, source_of
from tasks.sandbox.collect import OutputRefused, open_output, read_output
from tasks.sandbox.disk import DiskUse
from tasks.sandbox.exits import RunnerKilled, explain, kernel_kills, was_killed
from tasks.sandbox.lockdown import Limits, Sandbox
from tasks.scratch import Scratch, claimed_scratch
from tasks.settings import Settings
from tasks.settle import Settler
from tasks.storage import Storage, StorageUnavailable, TooLarge
from tasks.store import JobStore, NotFound
from tasks.usage import Accounts
from tasks.watch import Refused, Watch

__all__ = ["Supervisor"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_ROOT = Path(__file__).parents[1]
_SUFFIX = {"keras_zip": ".keras", "hdf5": ".h5", "tflite": ".tflite", "npz": ".npz", "zip": ".zip"}
_FORMAT = re.compile(r"\.(tar\.gz|[^.]+)$")
_MEDIA_TYPE = {".json": "application/json", ".html": "text/html"}
_RESULT_BYTES = 1024 * 1024
_CHUNK = 1024 * 1024
# How long an attempt waits for Redis or storage to come back before it gives the job back.
_PATIENCE_S = 300.0


class Supervisor:
    """Runs jobs, any number at a time. `stop` makes all of them end and go back to the queue."""

    def __init__(
        self,
        settings: Settings,
        client: redis.Redis,
        store: JobStore,
        storage: Storage,
        queue: Queue,
        runners: Runners,
        settler: Settler | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._storage = storage
        self._queue = queue
        self._runners = runners
        self._settler = settler or Settler(store, storage)
        self._accounts = Accounts(client, settings)
        self._models = RecordStore(client, "model", ModelRecord)
        self._datasets = RecordStore(client, "dataset", DatasetRecord)
        self._stopping = threading.Event()
        key = settings.receipt_key
        self._signer = None if key is None else Signer(key.get_secret_value())
        self._key_published = False
        self.worker = f"{socket.gethostname()}:{os.getpid()}"

    @cached_property
    def _sandbox(self) -> Sandbox:
        return chosen_sandbox(self._settings)

    @property
    def stop_asked(self) -> threading.Event:
        """Set once `stop` was called."""
        return self._stopping

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        self._stopping.set()

    def run(self, job_id: str) -> None:
        """Do the job whose turn it is, `job_id` or another of its queue, if there is one. Never raises."""
        try:
            claim = self._store.claim(job_id, self.worker)
            if claim is None:
                _log.info("a message about %s, and no job may run now: nothing to do", job_id)
            else:
                self._run(claim)
        except INFRASTRUCTURE as error:
            # The record says what is left to do: the lease runs out, or the job is announced again.
            _log.warning("%s is left to the reaper: %s", job_id, error)
        except BaseException:  # noqa: BLE001 - see the module's docstring
            _log.exception("%s is left to the reaper", job_id)

    # One attempt

    def _run(self, claim: Claim) -> None:
        _log.info("%s: attempt %d", claim.job_id, claim.attempt)
        log: JobLog | None = None
        try:
            with (
                Lease(claim, self._store, self._settings, self._stopping) as lease,
                claimed_scratch(self._settings.scratch_dir, claim.job_id, claim.attempt) as scratch,
            ):
                log = JobLog(hidden := _hidden(scratch.path))
                with self._keeper(claim, scratch, lease, log) as keeper:
                    outcome = self._outcome(claim, lease, scratch, log, hidden, keeper)
                    keeper.stop()
                    self._commit(claim, outcome, scratch, log)
        except Interrupted as error:
            if error.reason is Reason.LOST:
                self._lost(claim)
            else:
                self._release(claim, "worker_stopped", counted=False)
        except INFRASTRUCTURE as error:
            _log.warning("%s: attempt %d cannot go on here: %s", claim.job_id, claim.attempt, error)
            self._release(claim, code_of(error), counted=True, evidence=evidence_of_loss(error, log))

    def _keeper(self, claim: Claim, scratch: Scratch, lease: Lease, log: JobLog) -> Keeper:
        parts = (self._settings, self._store, self._storage)
        return Keeper(*parts, claim, scratch.path, lease, log, owner=self._sandbox.uid)

    def _outcome(
        self, claim: Claim, lease: Lease, scratch: Scratch, log: JobLog, hidden: Hidden, keeper: Keeper
    ) -> Outcome:
        """How the job ends; Interrupted or an infrastructure error when it does not end here."""
        try:
            return self._attempt(claim, lease, scratch, log, hidden, keeper)
        except Refused as error:
            return Outcome.failed(error.problem, evidence=evidence_of_exit(error.exit, log))
        except Interrupted as error:
            if error.reason is Reason.CANCELLED:
                return Outcome.cancelled()
            if error.reason is Reason.OVERDUE:
                return Outcome.expired(total_timeout())
            raise
        except INFRASTRUCTURE:
            raise
        except Exception:  # noqa: BLE001 - a fault of ours, which the next attempt would meet too
            _log.exception("%s: attempt %d", claim.job_id, claim.attempt)
            return Outcome.failed(problem("internal_error", "the worker failed"))

    def _attempt(
        self, claim: Claim, lease: Lease, scratch: Scratch, log: JobLog, hidden: Hidden, keeper: Keeper
    ) -> Outcome:
        task = self._patiently(
            lambda: interruptible(lambda: self._fetch(claim, scratch, lease), lease.check), lease
        )
        (scratch.path / "task.json").write_text(json.dumps(task))
        keeper.start(stored=self._patiently(lambda: self._take_up(claim, scratch, lease, log), lease))
        scratch.mark(claim.attempt)
        relay = Relay(claim, self._store, lease, log, hidden)
        end = self._run_child(claim, scratch, relay, log, lease)
        result = self._result(scratch, end, log, hidden)
        if isinstance(result, Failed) and not result.artifacts:
            return Outcome.failed(result.problem)
        if not self._patiently(lambda: self._store.finalizing(claim), lease):
            raise Interrupted(Reason.LOST)
        if isinstance(result, Failed):
            return self._store_kept(claim, scratch, lease, result)
        names = sorted(set(result.artifacts))
        if RECEIPT in names:
            raise Refused(problem("output_refused", f"{RECEIPT} is not a runner's to make"))
        artifacts = [self._store_output(claim, scratch, lease, name) for name in names]
        if self._signer is not None:
            artifacts.append(self._store_receipt(claim, self._signer, artifacts, lease))
        return Outcome.succeeded(artifacts, result.verdict)

    def _store_receipt(
        self, claim: Claim, signer: Signer, artifacts: list[Artifact], lease: Lease
    ) -> Artifact:
        """Sign for the files stored, with the digests made while storing them."""
        inputs = self._patiently(lambda: self._input_digests(claim), lease)
        receipt = signer.receipt(claim.job_id, claim.attempt, inputs, artifacts)
        content = receipt.model_dump_json(indent=2).encode()
        key = keys.artifact_key(claim.job.project, claim.job_id, claim.attempt, RECEIPT)

        def store() -> None:
            if not self._key_published:
                public = signer.public
                self._storage.put_json(keys.receipt_key_key(public.key_id), public.model_dump(mode="json"))
                self._key_published = True
            self._storage.put_bytes(key, content, media_type="application/json")

        self._storing(store, claim, lease)
        return Artifact(
            name=RECEIPT,
            format="json",
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            media_type="application/json",
        )

    def _input_digests(self, claim: Claim) -> list[FileDigest]:
        """As uploaded; what was downloaded for this attempt was compared with them."""
        job = claim.job
        model = self._models.get(job.project, job.model_id)
        found = [FileDigest(role="model", name=model.filename, bytes=model.bytes, sha256=model.sha256)]
        if job.dataset_id:
            data = self._datasets.get(job.project, job.dataset_id)
            found.append(FileDigest(role="dataset", name=data.filename, bytes=data.bytes, sha256=data.sha256))
        return found

    def _store_kept(self, claim: Claim, scratch: Scratch, lease: Lease, failed: Failed) -> Outcome:
        """A file that cannot be kept does not hide why the job failed."""
        error, artifacts = failed.problem, []
        for name in sorted(set(failed.artifacts)):
            try:
                artifacts.append(self._store_output(claim, scratch, lease, name))
            except Refused as refused:
                detail = f"{error.detail}; {name} could not be kept: {refused.problem.detail}"
                error = error.model_copy(update={"detail": detail})
        return Outcome.failed(error, artifacts)

    def _fetch(self, claim: Claim, scratch: Scratch, lease: Lease) -> dict[str, Any]:
        """Download the inputs and have them judged; the task for the runner."""
        job = claim.job
        try:
            model = self._models.get(job.project, job.model_id)
            dataset = self._datasets.get(job.project, job.dataset_id) if job.dataset_id else None
            inputs = {"model": self._download(model, scratch, "model", lease)}
            if dataset is not None:
                inputs["dataset"] = self._download(dataset, scratch, "dataset", lease)
        except (NotFound, FileNotFoundError) as error:
            raise Refused(
                problem("artifact_gone", "the model or the data set is no longer stored")
            ) from error
        self._check(scratch, inputs, {"model": model, "dataset": dataset}, lease)
        return {
            "job_id": job.id,
            "target": self._settings.runner_target,
            "spec": job.spec,
            "model": inputs["model"],
            "dataset": inputs.get("dataset"),
            "threads": self._settings.runner_threads,
        }

    def _take_up(self, claim: Claim, scratch: Scratch, lease: Lease, log: JobLog) -> bool:
        """Have what earlier attempts finished, elsewhere too; whether it came from storage."""
        owner = self._sandbox.uid
        return take_up(self._settings, self._storage, claim, scratch, log, owner=owner, check=lease.check)

    def _check(
        self,
        scratch: Scratch,
        inputs: dict[str, str],
        records: dict[str, ModelRecord | DatasetRecord | None],
        lease: Lease,
    ) -> None:
        """Refused for files that no loader may see. Those that this gate has let in before are not judged
        twice: what was downloaded has the sha256 of what was judged."""
        unseen = {
            role: inputs[role]
            for role, record in records.items()
            if record is not None and record.gated != GATE_VERSION
        }
        refused = judge(self._settings, scratch.path, unseen, check=lease.check) if unseen else None
        if refused is not None:
            raise Refused(refused)

    def _download(
        self, record: ModelRecord | DatasetRecord, scratch: Scratch, role: str, lease: Lease
    ) -> str:
        path = scratch.inputs / f"{role}{_SUFFIX.get(record.format, '.bin')}"
        sha256 = self._storage.get_file(record.key, path, check=lease.check)
        if sha256 != record.sha256:
            raise Refused(
                problem("sha256_mismatch", f"the stored {role} is not what was uploaded: its sha256 differs")
            )
        return str(path.relative_to(scratch.path))

    def _run_child(self, claim: Claim, scratch: Scratch, relay: Relay, log: JobLog, lease: Lease) -> Exit:
        settings = self._settings
        limits = Limits(
            memory_bytes=settings.runner_memory_bytes,
            file_bytes=settings.max_model_bytes + settings.max_dataset_bytes,
            # The kernel counts those of a user, whose jobs may be several: Watch counts those of a job.
            processes=0 if self._sandbox.uid is None else 4 * settings.runner_processes,
        )
        read = source_of(settings.runner_target)
        kills = kernel_kills()
        child = self._runners.start(scratch.path, limits, self._sandbox, read=read)
        try:
            watch = Watch(
                child,
                relay,
                log,
                lease,
                max_run_s=claim.job.limits.max_run_s,
                memory_bytes=settings.runner_memory_bytes,
                disk=DiskUse(
                    scratch.path, max_bytes=settings.runner_disk_bytes, max_files=settings.runner_files
                ),
                processes=settings.runner_processes,
            )
            end = watch.until_dead()
            if was_killed(end, kills):
                raise RunnerKilled(end)
            return end
        finally:
            child.close()
            if child.exit is not None:
                self._charge(claim, child.exit.cpu_s)

    def _charge(self, claim: Claim, cpu_s: float) -> None:
        try:
            self._accounts.charge(claim.job.project, cpu_s)
        except redis.RedisError as error:
            _log.warning("%s: %.1f CPU seconds are not counted: %s", claim.job_id, cpu_s, error)

    def _result(self, scratch: Scratch, end: Exit, log: JobLog, hidden: Hidden) -> Made | Failed:
        """What the runner says; Refused, with a problem for how it died, where it has nothing to say."""
        crashed = explain(end, log.tail, memory_bytes=self._settings.runner_memory_bytes)
        if end.code != 0:
            raise Refused(crashed, end)
        try:
            text = read_output(scratch.path, "result.json", max_bytes=_RESULT_BYTES, owner=self._sandbox.uid)
            result = Result.model_validate_json(text)
        except (OutputRefused, ValidationError) as error:
            raise Refused(crashed, end) from error
        if result.ok is not None:
            return result.ok
        failed = result.failed
        if failed is None or failed.problem.code not in CODES:
            raise Refused(crashed, end)
        return Failed(problem=_shown(failed.problem, hidden), artifacts=failed.artifacts)

    def _store_output(self, claim: Claim, scratch: Scratch, lease: Lease, name: str) -> Artifact:
        suffix = Path(name).suffix
        media_type = _MEDIA_TYPE.get(suffix, "application/octet-stream")
        key = keys.artifact_key(claim.job.project, claim.job_id, claim.attempt, name)
        limit = self._settings.max_model_bytes

        def store() -> tuple[int, str]:
            path, owner = f"work/out/{name}", self._sandbox.uid
            with open_output(scratch.path, path, max_bytes=limit, owner=owner) as file:
                chunks = _checked_chunks(file.read, lease.check_claim)
                return self._storage.put_stream(chunks, key, max_bytes=limit, media_type=media_type)

        try:
            size, sha256 = self._storing(store, claim, lease)
        except (OutputRefused, TooLarge) as error:
            raise Refused(problem("output_refused", str(error))) from error
        form = _FORMAT.search(name)
        return Artifact(
            name=name, format=form[1] if form else "bin", bytes=size, sha256=sha256, media_type=media_type
        )

    def _storing(self, store: Callable[[], _T], claim: Claim, lease: Lease) -> _T:
        """The answer of `store`. What a hanging call stored after all, once nobody wanted it any more, is
        taken back."""

        def take_back() -> None:
            self._settler.withdraw(claim.job_id, claim.attempt)

        return self._patiently(lambda: interruptible(store, lease.check_claim, when_late=take_back), lease)

    # How an attempt ends

    def _commit(self, claim: Claim, outcome: Outcome, scratch: Scratch, log: JobLog) -> None:
        # Who wants the job stopped shall not have to wait for a storage that is away.
        log_first = outcome.state in (JobState.SUCCEEDED, JobState.FAILED)
        if log_first:
            self._store_log(claim, log)
        if not self._patiently(lambda: self._store.commit(claim, outcome), None):
            raise Interrupted(Reason.LOST)
        if not log_first:
            self._store_log(claim, log)
        _log.info("%s: %s (%s)", claim.job_id, outcome.state, outcome.because)
        self._announce_next(claim.job.queue)
        scratch.discard()
        try:
            self._settler.withdraw(claim.job_id, claim.attempt)
        except (redis.RedisError, StorageUnavailable) as error:
            _log.warning("%s is left to the reaper to settle: %s", claim.job_id, error)

    def _store_log(self, claim: Claim, log: JobLog) -> None:
        key = keys.log_key(claim.job.project, claim.job_id, claim.attempt)
        try:
            self._storage.put_bytes(key, log.getvalue(), media_type="text/plain; charset=utf-8")
        except StorageUnavailable as error:
            _log.warning("%s: its log is lost: %s", claim.job_id, error)

    def _lost(self, claim: Claim) -> None:
        _log.warning("%s: attempt %d has lost the job and publishes nothing", claim.job_id, claim.attempt)
        self._patiently(lambda: self._settler.withdraw(claim.job_id, claim.attempt), None)

    def _release(self, claim: Claim, code: str, *, counted: bool, evidence: Evidence | None = None) -> None:
        if self._store.release(claim, code, counted=counted, evidence=evidence) and not counted:
            self._queue.enqueue(claim.job_id, queue=claim.job.queue)
        self._announce_next(claim.job.queue)
        with suppress(StorageUnavailable):
            self._settler.withdraw(claim.job_id, claim.attempt)

    def _announce_next(self, queue: str) -> None:
        """A job whose message came when its project had as many jobs running as it may have is announced
        anew now that one has ended. What fails here the reaper makes good."""
        with suppress(redis.RedisError, OperationalError, OSError):
            for job_id in self._store.unannounced(queue)[:1]:
                self._queue.enqueue(job_id, queue=queue)

    def _patiently(self, action: Callable[[], _T], lease: Lease | None) -> _T:
        """The answer of `action`, tried again while Redis or storage are away; Interrupted."""
        deadline = time.monotonic() + _PATIENCE_S
        pause = 0.5
        while True:
            try:
                return action()
            except (redis.RedisError, StorageUnavailable) as error:
                if time.monotonic() > deadline or (lease is None and self.stopping):
                    raise
                _log.warning("waiting for %s", error)
            self._wait(pause, lease)
            pause = min(2 * pause, 10.0)

    def _wait(self, seconds: float, lease: Lease | None) -> None:
        if lease is not None:
            lease.wait(seconds)
        else:
            self._stopping.wait(seconds)


def _hidden(scratch: Path) -> Hidden:
    """Paths of this machine that neither logs nor problems show."""
    return Hidden(
        {str(scratch): ".", str(_ROOT): "featherweight", sys.prefix: "python", sys.base_prefix: "python"}
    )


def _checked_chunks(read: Callable[[int], bytes], check: Callable[[], None]) -> Any:
    while chunk := read(_CHUNK):
        check()
        yield chunk


def _shown(error: Problem, hidden: Hidden) -> Problem:
    hint = hidden(error.hint) if error.hint else None
    return error.model_copy(update={"detail": hidden(error.detail), "hint": hint})
