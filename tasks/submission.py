"""A job on its way in: checked against what is stored and what the framework can do, then queued."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import redis
from kombu.exceptions import OperationalError

from featherweight.job import JobRequest, Origin
from featherweight.problem import CODES, FieldError, Problem, problem
from tasks import keys
from tasks.compression import catalogue
from tasks.compression.abilities import kind_of_format, unable
from tasks.messages import NoMessageKey
from tasks.queue import Queue, queue_of
from tasks.records import DatasetRecord, JobRecord, ModelRecord
from tasks.recordstore import RecordStore
from tasks.settings import Settings
from tasks.storage import Storage, StorageUnavailable
from tasks.store import JobStore, NotFound, QueueFull
from tasks.usage import Accounts, CpuUsedUp, StorageFull

__all__ = ["NO_ROOM_HINT", "SubmissionRefused", "Submitter", "faulty"]

_log = logging.getLogger(__name__)

NO_ROOM_HINT = "GET /v1/usage says what takes the room; remove what is not needed any more"

# Jobs leave a queue more slowly than requests are answered.
_QUEUE_MOVES_S = 15


class SubmissionRefused(Exception):
    """There is no such job. `retry_after_s`: the same request may be accepted then."""

    def __init__(self, problem: Problem, retry_after_s: int | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        return self.problem.status


@dataclass(frozen=True)
class Submitter:
    """Makes jobs, for whoever asks. Safe to use from many threads."""

    jobs: JobStore
    models: RecordStore[ModelRecord]
    datasets: RecordStore[DatasetRecord]
    accounts: Accounts
    storage: Storage
    queue: Queue

    @classmethod
    def of(cls, settings: Settings, client: redis.Redis, storage: Storage, queue: Queue) -> Submitter:
        """Nothing is connected to yet."""
        return cls(
            jobs=JobStore(client, settings),
            models=RecordStore(client, "model", ModelRecord),
            datasets=RecordStore(client, "dataset", DatasetRecord),
            accounts=Accounts(client, settings),
            storage=storage,
            queue=queue,
        )

    def submit(
        self,
        project: str,
        wanted: JobRequest,
        *,
        job_id: str,
        request_id: str | None = None,
        origin: Origin | None = None,
    ) -> JobRecord:
        """Write the record, then its durable copy, then announce the job. May be repeated with the same id.

        SubmissionRefused as `check` raises it, and for too_many_queued_jobs, cpu_quota_exceeded and
        storage_quota_exceeded. RedisError and StorageUnavailable, after which no job is left.
        """
        model = self.check(project, wanted)
        with self._place_in_queue(project, job_id):
            record = self.jobs.create(
                project,
                wanted,
                job_id=job_id,
                queue=queue_of(model.framework),
                request_id=request_id,
                origin=origin,
            )
        self._check_inputs_stayed(project, wanted, job_id)
        try:
            self.storage.put_json(
                keys.job_key(project, job_id), record.model_dump(mode="json"), if_none_match=True
            )
        except FileExistsError:
            pass  # an earlier try came this far
        except StorageUnavailable:
            self.jobs.discard(project, job_id)
            raise
        self._announce(record)
        return record

    def _check_inputs_stayed(self, project: str, wanted: JobRequest, job_id: str) -> None:
        """From its creation on nobody removes what a job needs; between the first look and that somebody may
        have. SubmissionRefused, after which no job is left."""
        try:
            self.find_inputs(project, wanted)
        except SubmissionRefused:
            if self.jobs.discard(project, job_id):
                raise

    def check(self, project: str, wanted: JobRequest) -> ModelRecord:
        """The model. SubmissionRefused with pointers: invalid_request, unsupported_technique,
        unsupported_output, already_quantized, dataset_required."""
        model, _ = self.find_inputs(project, wanted)
        faults = catalogue.support(wanted.spec, model.framework)
        if wanted.dataset_id is None:
            faults += catalogue.missing_dataset(wanted.spec)
        kind = kind_of_format(model.format)
        unfit = [] if kind is None else unable(wanted.spec, kind)
        faults += [fault.fault() for fault in unfit]
        if faults:
            code = faults[0].code if faults[0].code in CODES else "invalid_request"
            pointed = [_in_body(fault) for fault in faults]
            raise SubmissionRefused(faulty(pointed, code, hint=unfit[0].hint if unfit else None))
        return model

    def find_inputs(self, project: str, wanted: JobRequest) -> tuple[ModelRecord, DatasetRecord | None]:
        """The model and the data set; SubmissionRefused names each that the project does not have."""
        missing = []
        model, dataset = None, None
        try:
            model = self.models.get(project, wanted.model_id)
        except NotFound:
            missing.append(_unknown("model", wanted.model_id))
        if wanted.dataset_id is not None:
            try:
                dataset = self.datasets.get(project, wanted.dataset_id)
            except NotFound:
                missing.append(_unknown("dataset", wanted.dataset_id))
        if missing or model is None:
            raise SubmissionRefused(faulty(missing))
        return model, dataset

    def _announce(self, record: JobRecord) -> None:
        """A message that cannot be sent is no loss: the reaper announces queued jobs without one."""
        try:
            self.queue.enqueue(record.id, queue=record.queue)
        except (OperationalError, OSError, NoMessageKey) as error:
            _log.warning("job %s was not announced: %s", record.id, type(error).__name__)

    @contextmanager
    def _place_in_queue(self, project: str, job_id: str) -> Iterator[None]:
        try:
            # A job that an earlier try has made is not refused to the next one.
            if self.jobs.find(job_id) is None:
                self.accounts.check_jobs(project)
            yield
        except StorageFull as error:
            raise SubmissionRefused(
                problem("storage_quota_exceeded", str(error), hint=NO_ROOM_HINT)
            ) from None
        except CpuUsedUp as error:
            again_in_s = max(1, math.ceil(error.again_in_s))
            raise SubmissionRefused(problem("cpu_quota_exceeded", str(error)), again_in_s) from None
        except QueueFull:
            detail = "the project has as many jobs queued as it may have"
            raise SubmissionRefused(problem("too_many_queued_jobs", detail), _QUEUE_MOVES_S) from None


def faulty(
    errors: Sequence[FieldError], code: str = "invalid_request", *, hint: str | None = None
) -> Problem:
    """The problem of values that are not valid, with the first of them in words."""
    first = errors[0]
    more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
    return problem(code, f"{first.pointer or 'the body'}: {first.detail}{more}", hint=hint, errors=errors)


def _in_body(fault: FieldError) -> FieldError:
    return fault.model_copy(update={"pointer": f"/spec{fault.pointer}"})


def _unknown(kind: str, resource_id: str) -> FieldError:
    return FieldError(
        pointer=f"/{kind}_id", code="not_found", detail=f"there is no {kind} {resource_id!r} in this project"
    )
