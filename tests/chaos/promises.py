"""What is promised of every job, looked at from outside once a run is over: through the API, and with eyes of
our own in Redis, in the bucket and on the workers' disks.

Each function gives the sentences of what is broken; of nothing, none.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import redis

from featherweight import Client, FeatherweightError
from featherweight.events import StateEvent
from featherweight.job import Job
from featherweight.receipt import ReceiptKey
from featherweight.verify import verify
from tasks.queue import JOB_QUEUES
from tasks.scratch import job_ids
from tasks.storage import OpenUpload
from tasks.strays import UnderWay
from tests.chaos.customers import Served
from tests.chaos.stack import ChaosStack

__all__ = [
    "Bucket",
    "every_end_is_told_once",
    "nothing_is_left_over",
    "nothing_is_lost",
    "nothing_is_published_twice",
    "quiet",
    "wait_for_strays",
]

_ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})
_PROJECT = "local"
_FOLDERS = {"models": "model", "datasets": "dataset"}
# Sorted sets that hold what is still to be done for a job; of each project or queue where there is a star.
_TO_DO = ("leases", "deadlines", "hints", "unsettled", "line:*", "later:*", "turns:*", "uploads-expiring")
_UNDER_WAY = ("queued", "running", "finalizing")


class Bucket:
    """What lies in the object storage, seen past the service and past the proxy."""

    def __init__(self, stack: ChaosStack) -> None:
        self._client = stack.object_store.client()
        self._name = stack.object_store.bucket

    def objects(self) -> dict[str, int]:
        """Every object, and its bytes."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name)
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}

    def read(self, key: str) -> bytes:
        return cast("bytes", self._client.get_object(Bucket=self._name, Key=key)["Body"].read())

    def open_uploads(self) -> list[OpenUpload]:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._name)
        return [
            OpenUpload(item["Key"], item["UploadId"], item["Initiated"])
            for page in pages
            for item in page.get("Uploads", [])
        ]


def quiet(stack: ChaosStack, *, timeout_s: float) -> list[str]:
    """Wait until nothing is left to be done, at most `timeout_s`; what is left then."""
    deadline = time.monotonic() + timeout_s
    client = stack.redis
    try:
        while (left := list(_left_to_do(client))) and time.monotonic() < deadline:
            time.sleep(0.5)
        return left
    finally:
        client.close()


def wait_for_strays(stack: ChaosStack, bucket: Bucket) -> None:
    """Until the workers have ended every upload in parts that nobody is at, or should have."""
    age_s = stack.settings.stray_upload_s
    deadline = time.monotonic() + 2 * age_s
    while bucket.open_uploads() and time.monotonic() < deadline:
        time.sleep(0.5)


def nothing_is_lost(served: Iterable[Served], jobs: Iterable[Job]) -> Iterator[str]:
    """Every order has one job, which succeeded, and there are no others."""
    by_id = {job.id: job for job in jobs}
    named: Counter[str] = Counter()
    for each in served:
        number = each.order.number
        if each.gave_up is not None:
            why = each.gave_up.strip().splitlines()[-1]
            yield f"order {number} ({each.job_id}): its customer gave up: {why}"
        if each.job_id is None:
            yield f"order {number} has no job"
            continue
        named[each.job_id] += 1
        job = by_id.get(each.job_id)
        if job is None:
            yield f"{each.job_id} of order {number} is not among the project's jobs"
        elif job.state != "succeeded":
            why = job.error.detail if job.error else "no error"
            yield f"{job.id} is {job.state}: {why}; {_attempts(job)}"
    yield from (f"{job_id} was given to {count} orders" for job_id, count in named.items() if count > 1)
    yield from (f"{job_id} was ordered by nobody" for job_id in by_id.keys() - named.keys())


def nothing_is_published_twice(client: Client, jobs: Iterable[Job], bucket: Bucket) -> Iterator[str]:
    """One attempt has committed; what is stored and what is delivered is of it alone, and as told."""
    keys, receipt_keys = bucket.objects(), client.receipt_keys()
    for job in jobs:
        yield from (f"{job.id}: {said}" for said in _committed_once(job))
        if job.state == "succeeded":
            yield from (f"{job.id}: {said}" for said in _of_one_attempt(client, job, receipt_keys))
        yield from (f"{job.id}: {said}" for said in _stored_once(job, bucket, keys))


def every_end_is_told_once(client: Client, served: Iterable[Served], jobs: Iterable[Job]) -> Iterator[str]:
    """A job's events have one end, its last; and who followed them was told all of its states."""
    followed = {each.job_id: each for each in served if each.told}
    for job in jobs:
        states = [event.state for event in client.jobs.events(job.id) if isinstance(event, StateEvent)]
        if [state for state in states if state in _ENDED] != [job.state] or states[-1] != job.state:
            yield f"{job.id} is {job.state}: its events are {states}"
        each = followed.get(job.id)
        if each is not None and each.told != states:
            yield f"{job.id} of order {each.order.number}: its customer was told {each.told} of {states}"


def nothing_is_left_over(client: Client, stack: ChaosStack, bucket: Bucket) -> Iterator[str]:
    """No object that no record names, no upload that nobody ends, no folder of an ended job, and no bytes
    counted for what is not there."""
    yield from (f"an upload in parts is open: {said}" for said in _open_uploads(stack, bucket))
    known = {"model": {model.id for model in client.models.list(limit=100)}}
    known["dataset"] = {dataset.id for dataset in client.datasets.list(limit=100)}
    known["job"] = {job.id for job in client.jobs.list(limit=100)}
    unnamed = [key for key in bucket.objects() if not _is_named(key, known)]
    yield from (f"an object that no record names: {key}" for key in unnamed)
    yield from (f"bytes counted for {name}" for name in _counted_for(stack) - set().union(*known.values()))
    for place in stack.places:
        yield from (f"a folder on disk {place.number}: {job_id}" for job_id in job_ids(place.scratch))


# A job


def _committed_once(job: Job) -> Iterator[str]:
    committed = [attempt.number for attempt in job.attempts if attempt.ended_because == "succeeded"]
    if committed != [job.attempt]:
        yield f"attempts {committed} have committed, the job's is {job.attempt}"
    if [attempt.number for attempt in job.attempts] != list(range(1, job.attempt + 1)):
        yield f"its attempts are {[attempt.number for attempt in job.attempts]}"


def _of_one_attempt(client: Client, job: Job, receipt_keys: list[ReceiptKey]) -> Iterator[str]:
    """What is delivered, as its customer gets it: every file has the sha256 that the record, the receipt and
    the report say."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            client.jobs.download(job.id, folder)
            receipt = verify(Path(folder), receipt_keys).receipt
        except FeatherweightError as error:
            yield f"what it delivers is not what it says: {error}"
            return
        report = json.loads(Path(folder, "report.json").read_bytes())
    if (receipt.job_id, receipt.attempt) != (job.id, job.attempt):
        yield f"its receipt is of attempt {receipt.attempt} of {receipt.job_id}"
    if report["job_id"] != job.id:
        yield f"its report is of {report['job_id']}"
    digests = {artifact.name: artifact.sha256 for artifact in job.artifacts}
    if {file.name: file.sha256 for file in receipt.files} != {
        name: sha256 for name, sha256 in digests.items() if name != "receipt.json"
    }:
        yield "its receipt and its record name other files"
    for output in report["outputs"]:
        if output["sha256"] != digests.get(output["name"]):
            yield f"its report and its record differ over {output['name']}"


def _stored_once(job: Job, bucket: Bucket, keys: dict[str, int]) -> Iterator[str]:
    prefix = f"projects/{_PROJECT}/jobs/{job.id}/"
    attempt = f"{prefix}a{job.attempt}/"
    expected = {f"{prefix}job.json", f"{prefix}result.json", f"{attempt}log.txt"}
    expected |= {f"{attempt}{artifact.name}" for artifact in job.artifacts}
    found = {key for key in keys if key.startswith(prefix)}
    yield from (f"{key} is missing" for key in sorted(expected - found))
    yield from (f"{key} is nobody's" for key in sorted(found - expected))
    for artifact in job.artifacts:
        if (key := f"{attempt}{artifact.name}") in found:
            content = bucket.read(key)
            if (len(content), hashlib.sha256(content).hexdigest()) != (artifact.bytes, artifact.sha256):
                yield f"{key} is not what the record says"
    if f"{prefix}result.json" in found:
        result = Job.model_validate_json(bucket.read(f"{prefix}result.json"))
        if (result.state, result.attempt, result.artifacts) != (job.state, job.attempt, job.artifacts):
            yield "its result.json is not what its record says"


def _attempts(job: Job) -> str:
    return "attempts ended because " + ", ".join(str(attempt.ended_because) for attempt in job.attempts)


# What is around jobs


def _is_named(key: str, known: dict[str, set[str]]) -> bool:
    """Whether a record, or no record at all, is what the object belongs to."""
    first, *rest = key.split("/")
    if first != "projects" or len(rest) < 3:
        return first in ("receipt-keys", "ready", ".ready")
    project, folder, resource_id, *_ = rest
    kind = _FOLDERS.get(folder, "job")
    return project == _PROJECT and resource_id in known[kind]


def _open_uploads(stack: ChaosStack, bucket: Bucket) -> Iterator[str]:
    """With what the records say about each."""
    client = stack.redis
    try:
        open_records = {record.s3_upload_id: record.id for record in UnderWay(stack.settings, client).open}
    finally:
        client.close()
    for upload in bucket.open_uploads():
        whose = open_records.get(upload.upload_id, "no record")
        yield f"{upload.key}, {upload.upload_id}, begun {upload.begun:%H:%M:%S}, of {whose}"


def _counted_for(stack: ChaosStack) -> set[str]:
    """Ids of what the project is said to take up room with."""
    client = stack.redis
    try:
        return {name.decode() for name in cast("list[bytes]", client.hkeys(f"fw:stored:{_PROJECT}"))}
    finally:
        client.close()


def _left_to_do(client: redis.Redis) -> Iterator[str]:
    for name in _TO_DO:
        for key in _matching(client, f"fw:{name}"):
            yield from (f"{key.decode()} holds {item.decode()}" for item in client.zrange(key, 0, -1))
    for state in _UNDER_WAY:
        for job_id in client.zrange(f"fw:jobs:{_PROJECT}:state:{state}", 0, -1):
            yield f"{job_id.decode()} is {state}"
    yield from (f"{client.llen(key)} messages in {key.decode()}" for key in _queues(client))
    if delivered := client.hlen("unacked"):
        yield f"{delivered} messages that nobody acknowledged"


def _matching(client: redis.Redis, name: str) -> Iterable[bytes]:
    return cast("Iterable[bytes]", client.scan_iter(name) if name.endswith("*") else [name.encode()])


def _queues(client: redis.Redis) -> list[bytes]:
    queues = [name.encode() for name in JOB_QUEUES]
    queues += [key for name in JOB_QUEUES for key in cast("Iterable[bytes]", client.scan_iter(f"{name}:*"))]
    return [key for key in queues if client.llen(key)]
