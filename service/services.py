"""What the views work with, made once for an application from its settings."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import redis
from flask import current_app

from service.auditlog import AuditLog
from service.idempotency import Ledger
from service.importslots import ImportSlots
from service.keys import KeyRing
from service.throttle import Throttle
from service.version import version
from tasks.gate import Gate
from tasks.limits import Pauses, ProjectLimits
from tasks.outbound import Fetcher, Policy
from tasks.plans import Planner
from tasks.queue import Queue, make_celery
from tasks.records import DatasetRecord, ModelRecord, UploadRecord
from tasks.recordstore import RecordStore
from tasks.settings import Settings
from tasks.storage import Storage
from tasks.store import JobStore, connect
from tasks.submission import Submitter
from tasks.usage import Accounts

__all__ = ["NAME", "Services", "make_services", "services"]

# Of gunicorn's 64 threads a process: the others stay free for short requests and health checks.
MAX_WAITING = 48

NAME = "featherweight"


@dataclass(frozen=True)
class Services:
    """`waiting` counts the requests that hold their thread to wait for something to happen."""

    settings: Settings
    redis: redis.Redis
    storage: Storage
    queue: Queue
    jobs: JobStore
    models: RecordStore[ModelRecord]
    datasets: RecordStore[DatasetRecord]
    uploads: RecordStore[UploadRecord]
    submitter: Submitter
    keys: KeyRing
    limits: ProjectLimits
    pauses: Pauses
    accounts: Accounts
    throttle: Throttle
    audit: AuditLog
    ledger: Ledger
    gate: Gate
    planner: Planner
    fetcher: Fetcher
    imports: ImportSlots
    waiting: threading.BoundedSemaphore


def make_services(settings: Settings) -> Services:
    """Nothing is connected to yet."""
    client = connect(settings)
    storage = Storage(settings)
    limits, accounts = ProjectLimits(client, settings), Accounts(client, settings)
    queue = Queue(make_celery(settings))
    submitter = Submitter.of(settings, client, storage, queue)
    return Services(
        settings=settings,
        redis=client,
        storage=storage,
        queue=queue,
        jobs=submitter.jobs,
        models=submitter.models,
        datasets=submitter.datasets,
        uploads=RecordStore(client, "upload", UploadRecord),
        submitter=submitter,
        keys=KeyRing(client),
        limits=limits,
        pauses=Pauses(client),
        accounts=accounts,
        throttle=Throttle(accounts, limits),
        audit=AuditLog(client, settings),
        ledger=Ledger(client, settings.idempotency_expiry_s),
        gate=Gate(settings, storage),
        planner=Planner(settings, client, storage),
        fetcher=Fetcher(
            Policy.of(settings.import_ports, settings.import_trusted_origins),
            user_agent=f"featherweight/{version()}",
        ),
        imports=ImportSlots(),
        waiting=threading.BoundedSemaphore(MAX_WAITING),
    )


def services() -> Services:
    """Those of the application that handles the request."""
    found: Services = current_app.extensions[NAME]
    return found
