"""Whole jobs of damaged models that the gate let in, each in a runner as a worker starts it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import redis

from featherweight.job import JobRequest
from tasks.identifiers import new_id
from tasks.queue import DEFAULT_QUEUE, Queue, make_celery
from tasks.sandbox.children import Runners
from tasks.settings import Settings
from tasks.sniffing import HEAD_BYTES, sniff
from tasks.storage import Storage
from tasks.store import JobStore
from tasks.supervisor import Supervisor
from tasks.warming import warm_targets
from tests.fuzzing.parts import started
from tests.tasks.stored_models import stored_model

__all__ = ["run_jobs"]

_PROJECT = "fuzz"
_SPEC = {"steps": [{"technique": "quantize", "scheme": "dynamic_int8"}]}
_MAX_RUN_S = 60


def run_jobs(models: Iterable[tuple[str, bytes]]) -> Counter[str]:
    """How the jobs of quantising them ended: "succeeded", or the code of the failure."""
    with tempfile.TemporaryDirectory() as folder, started(Path(folder), user="worker") as settings:
        runners = Runners(warm_targets(settings, [DEFAULT_QUEUE]), settings.scratch_dir / ".home")
        try:
            runners.warm_up()
            return Counter(_ended(settings, runners, content) for _, content in models)
        finally:
            runners.stop()


def _ended(settings: Settings, runners: Runners, content: bytes) -> str:
    client = redis.Redis.from_url(settings.redis_url)
    store, storage = JobStore(client, settings), Storage(settings)
    format_ = sniff("model", content[:HEAD_BYTES])
    model_id = stored_model(client, storage, _PROJECT, content, filename="model", format_=format_)
    request = JobRequest.model_validate(
        {
            "model_id": model_id,
            "spec": _SPEC,
            "limits": {"max_run_s": _MAX_RUN_S},
        }
    )
    job = store.create(_PROJECT, request, job_id=new_id("job"))
    queue = Queue(make_celery(settings))
    Supervisor(settings, client, store, storage, queue, runners).run(job.id)
    ended = store.get(_PROJECT, job.id)
    client.close()
    if ended.state == "succeeded":
        return "succeeded"
    return ended.error.code if ended.error is not None else "not ended"
