"""What the views work with, made once for an application from its settings."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import redis
from flask import current_app

from service.auditlog import AuditLog
from service.idempotency import Ledger
from service.importslots import ImportSlots
from service.keys import KeyRing
from service.places import Places
from service.throttle import Throttle
from service.version import version
from tasks.batches.engine import Batches
from tasks.batches.store import BatchStore
from tasks.gate import Gate
from tasks.inbox import Inbox
from tasks.intake import Intake
from tasks.limits import Pauses, ProjectLimits
from tasks.outbound import Fetcher, Policy, Poster
from tasks.plans import Planner
from tasks.queue import Queue, make_celery
from tasks.records import DatasetRecord, ModelRecord, UploadRecord
from tasks.recordstore import RecordStore
from tasks.redis_clients import for_requests, for_waiting, redis_breaker
from tasks.retention.removal import Removal
from tasks.retention.sweeper import Sweeper
from tasks.schedules.parts import ScheduleParts, schedule_parts
from tasks.settings import Settings
from tasks.storage import IMPATIENT, Storage
from tasks.store import BLOCK_S, JobStore
from tasks.submission import Submitter
from tasks.uploads import Uploads
from tasks.usage import Accounts
from tasks.webhooks.deliveries import DeliveryStore
from tasks.webhooks.endpoints import EndpointStore
from tasks.webhooks.notices import WebhookNotices
from tasks.webhooks.sender import make_poster

__all__ = ["NAME", "Services", "make_services", "services"]

NAME = "featherweight"


@dataclass(frozen=True)
class Services:
    """`begun` ends the uploads whose records `uploads` has. `working` are the places of requests that are
    being answered, `waiting` those of requests that hold their thread until something happens. `closing` is
    set when the process is about to end."""

    settings: Settings
    redis: redis.Redis
    storage: Storage
    queue: Queue
    jobs: JobStore
    models: RecordStore[ModelRecord]
    datasets: RecordStore[DatasetRecord]
    uploads: RecordStore[UploadRecord]
    batches: Batches
    begun: Uploads
    submitter: Submitter
    schedules: ScheduleParts
    keys: KeyRing
    limits: ProjectLimits
    pauses: Pauses
    accounts: Accounts
    throttle: Throttle
    audit: AuditLog
    ledger: Ledger
    gate: Gate
    intake: Intake
    inbox: Inbox
    removal: Removal
    sweeper: Sweeper
    planner: Planner
    fetcher: Fetcher
    imports: ImportSlots
    webhook_endpoints: EndpointStore
    webhook_deliveries: DeliveryStore
    webhooks: WebhookNotices
    poster: Poster
    working: Places
    waiting: threading.BoundedSemaphore
    closing: threading.Event


def make_services(settings: Settings) -> Services:
    """Nothing is connected to yet."""
    breaker, closing = redis_breaker(), threading.Event()
    client = for_requests(settings, breaker)
    waits = for_waiting(settings, breaker, longest_s=BLOCK_S)
    storage = Storage(settings, IMPATIENT)
    limits, accounts = ProjectLimits(client, settings), Accounts(client, settings)
    gate = Gate(settings, storage)
    queue = Queue(make_celery(settings, patient=False))
    jobs = JobStore(client, settings, waits=waits, hurried=closing.is_set)
    submitter = replace(Submitter.of(settings, client, storage, queue), jobs=jobs)
    webhooks = WebhookNotices(client, settings, queue)
    intake = Intake(settings, client, storage, gate=gate, accounts=accounts)
    return Services(
        settings=settings,
        redis=client,
        storage=storage,
        queue=queue,
        jobs=jobs,
        models=submitter.models,
        datasets=submitter.datasets,
        uploads=RecordStore(client, "upload", UploadRecord),
        batches=Batches(
            settings,
            client,
            storage,
            submitter,
            webhooks,
            BatchStore(client, waits=waits, hurried=closing.is_set),
        ),
        begun=Uploads(settings, client, storage),
        submitter=submitter,
        schedules=schedule_parts(settings, client, storage, queue, webhooks),
        keys=KeyRing(client),
        limits=limits,
        pauses=Pauses(client),
        accounts=accounts,
        throttle=Throttle(accounts, limits),
        audit=AuditLog(client, settings),
        ledger=Ledger(client, settings.idempotency_expiry_s),
        gate=gate,
        intake=intake,
        inbox=Inbox(settings, client, storage, intake=intake, accounts=accounts),
        removal=Removal(settings, client, storage),
        sweeper=Sweeper(settings, client, storage),
        planner=Planner(settings, client, storage),
        fetcher=Fetcher(
            Policy.of(settings.import_ports, settings.import_trusted_origins),
            user_agent=f"featherweight/{version()}",
        ),
        imports=ImportSlots(),
        webhook_endpoints=EndpointStore(client, settings),
        webhook_deliveries=DeliveryStore(client, settings),
        webhooks=webhooks,
        poster=make_poster(settings),
        working=Places(settings.working_requests),
        waiting=threading.BoundedSemaphore(settings.waiting_requests),
        closing=closing,
    )


def services() -> Services:
    """Those of the application that handles the request."""
    found: Services = current_app.extensions[NAME]
    return found
