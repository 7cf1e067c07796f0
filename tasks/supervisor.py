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

import json
import logging
import os
import socket
import sys
import threading
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import redis
from kombu.exceptions import OperationalError
from pydantic import ValidationError

from featherweight.job import JobState
from featherweight.problem import CODES, Problem, problem
from tasks.deliveries import Deliveries
from tasks.endings import total_timeout
from tasks.endurance import Endurance
from tasks.evidence import INFRASTRUCTURE, code_of, evidence_of_exit, evidence_of_loss
from tasks.fitness import DiskFull, Fitness, is_disk_full
from tasks.inputs import Inputs
from tasks.interruptible import interruptible
from tasks.joblog import Hidden, JobLog
from tasks.lease import Interrupted, Lease, Reason
from tasks.queue import Queue
from tasks.records import Claim, Evidence, Outcome
from tasks.relay import Relay
from tasks.resume import Keeper, take_up
from tasks.runner import Failed, Made, Result
from tasks.sandbox.children import Exit, Runners
from tasks.sandbox.choice import chosen_sandbox, source_of
from tasks.sandbox.collect import OutputRefused, read_output
from tasks.sandbox.disk import DiskUse
from tasks.sandbox.exits import RunnerKilled, explain, kernel_kills, was_killed
from tasks.sandbox.lockdown import Limits, Sandbox
from tasks.scratch import Scratch, claimed_scratch
from tasks.settings import Settings
from tasks.settle import Settler
from tasks.storage import Storage, StorageUnavailable
from tasks.store import JobStore
from tasks.usage import Accounts
from tasks.watch import Refused, Watch

__all__ = ["Supervisor"]

_log = logging.getLogger(__name__)

_ROOT = Path(__file__).parents[1]
_RESULT_BYTES = 1024 * 1024


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
        self._stopping = threading.Event()
        self._endurance = Endurance(self._stopping)
        self._inputs = Inputs(settings, client, storage)
        self._deliveries = Deliveries(settings, storage, self._settler, self._endurance)
        self.fitness = Fitness(settings)
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
            self.fitness.note(error)
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
        except INFRASTRUCTURE as error:
            if is_disk_full(error):
                # What it kept would keep the disk full.
                scratch.discard()
            raise
        except Exception:  # noqa: BLE001 - a fault of ours, which the next attempt would meet too
            _log.exception("%s: attempt %d", claim.job_id, claim.attempt)
            return Outcome.failed(problem("internal_error", "the worker failed"))

    def _attempt(
        self, claim: Claim, lease: Lease, scratch: Scratch, log: JobLog, hidden: Hidden, keeper: Keeper
    ) -> Outcome:
        task = self._endurance.wait_out(
            lambda: interruptible(lambda: self._inputs.fetch(claim, scratch, lease), lease.check), lease
        )
        (scratch.path / "task.json").write_text(json.dumps(task))
        stored = self._endurance.wait_out(lambda: self._take_up(claim, scratch, lease, log), lease)
        keeper.start(stored=stored)
        scratch.mark(claim.attempt)
        relay = Relay(claim, self._store, lease, log, hidden)
        end = self._run_child(claim, scratch, relay, log, lease)
        result = self._said(scratch, end, log, hidden)
        if isinstance(result, Failed) and not result.artifacts:
            return Outcome.failed(result.problem)
        if not self._endurance.wait_out(lambda: self._store.finalizing(claim), lease):
            raise Interrupted(Reason.LOST)
        names, owner = result.artifacts, self._sandbox.uid
        if isinstance(result, Failed):
            kept = self._deliveries.store_kept(claim, scratch, lease, names, result.problem, owner=owner)
            return Outcome.failed(*kept)
        artifacts = self._deliveries.store_made(
            claim, scratch, lease, names, lambda: self._inputs.digests(claim), owner=owner
        )
        return Outcome.succeeded(artifacts, result.verdict)

    def _take_up(self, claim: Claim, scratch: Scratch, lease: Lease, log: JobLog) -> bool:
        """Have what earlier attempts finished, elsewhere too; whether it came from storage."""
        owner = self._sandbox.uid
        return take_up(self._settings, self._storage, claim, scratch, log, owner=owner, check=lease.check)

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

    def _said(self, scratch: Scratch, end: Exit, log: JobLog, hidden: Hidden) -> Made | Failed:
        """`_result`, and DiskFull instead of a failure that a worker with room might not have met."""
        try:
            result = self._result(scratch, end, log, hidden)
        except Refused as error:
            if self.fitness.disk_is_full:
                raise DiskFull from error
            raise
        if isinstance(result, Failed) and (result.problem.code == "disk_full" or self.fitness.disk_is_full):
            raise DiskFull
        return result

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

    # How an attempt ends

    def _commit(self, claim: Claim, outcome: Outcome, scratch: Scratch, log: JobLog) -> None:
        # Who wants the job stopped shall not have to wait for a storage that is away.
        log_first = outcome.state in (JobState.SUCCEEDED, JobState.FAILED)
        if log_first:
            self._deliveries.store_log(claim, log)
        if not self._endurance.wait_out(lambda: self._store.commit(claim, outcome), None):
            raise Interrupted(Reason.LOST)
        if not log_first:
            self._deliveries.store_log(claim, log)
        _log.info("%s: %s (%s)", claim.job_id, outcome.state, outcome.because)
        self._announce_next(claim.job.queue)
        scratch.discard()
        try:
            self._settler.withdraw(claim.job_id, claim.attempt)
        except (redis.RedisError, StorageUnavailable) as error:
            _log.warning("%s is left to the reaper to settle: %s", claim.job_id, error)

    def _lost(self, claim: Claim) -> None:
        _log.warning("%s: attempt %d has lost the job and publishes nothing", claim.job_id, claim.attempt)
        self._endurance.wait_out(lambda: self._settler.withdraw(claim.job_id, claim.attempt), None)

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


def _hidden(scratch: Path) -> Hidden:
    """Paths of this machine that neither logs nor problems show."""
    return Hidden(
        {str(scratch): ".", str(_ROOT): "featherweight", sys.prefix: "python", sys.base_prefix: "python"}
    )


def _shown(error: Problem, hidden: Hidden) -> Problem:
    hint = hidden(error.hint) if error.hint else None
    return error.model_copy(update={"detail": hidden(error.detail), "hint": hint})
