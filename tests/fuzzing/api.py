"""Requests made up from the API's own description, to see that none is answered with a fault of ours.

Requests that fit the description, and requests that break it, in every operation; those with ids in their
path once with ids that mean nothing and once with those of things that exist. ``make fuzz-api`` runs it
with thousands of requests, and a test with fewer; the same seed makes the same requests.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as effort
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation

from featherweight.problem import CODES, MEDIA_TYPE
from service import create_app
from service.services import NAME
from tasks.settings import Settings
from tests.fuzzing.parts import started
from tests.service.helpers import SPEC, Caller

__all__ = ["Findings", "fuzz"]

_PROJECT = "fuzz"
_MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
# Nothing is worth waiting for here.
_QUICK = {"long_poll_max_s": 0.05, "project_queued_jobs": 0, "log_level": "CRITICAL", "max_gate_bytes": 0}


class Fault(NamedTuple):
    operation: str
    request: str
    said: str


class Findings(NamedTuple):
    """How many answers there were by operation and status, and those that must not be."""

    answers: Counter[tuple[str, int]]
    faults: list[Fault]

    @property
    def requests(self) -> int:
        return self.answers.total()


def fuzz(settings: Settings, *, examples: int, start: int) -> Findings:
    """Send up to `examples` requests of each kind to each operation, made from the seed `start`."""
    app = create_app(settings.model_copy(update=_QUICK))
    caller = Caller(app, app.extensions[NAME].keys.create(_PROJECT, scope="admin"))
    findings = Findings(Counter(), [])
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    for operation in sorted(operations, key=lambda each: each.label):
        # Made once: to read what an operation takes is most of the work of a request.
        cases = [operation.as_strategy(generation_mode=mode) for mode in _MODES]
        for ids in _ids(operation, caller):
            for each in cases:
                _send_many(each, ids, caller, findings, examples=examples, start=start)
    return findings


def _send_many(
    cases: SearchStrategy[Case],
    ids: Mapping[str, str],
    caller: Caller,
    findings: Findings,
    *,
    examples: int,
    start: int,
) -> None:
    @seed(start)
    @effort(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def send(case: Case) -> None:
        _send(case, ids, caller, findings)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            send()
    except Unsatisfiable:
        pass  # there is no way to break an operation that takes nothing


def _send(case: Case, ids: Mapping[str, str], caller: Caller, findings: Findings) -> None:
    request = case.as_transport_kwargs()
    method, path = request.pop("method"), request.pop("path")
    # Made up as well, and never a key.
    request["headers"].pop("Authorization", None)
    if ids:
        path = case.operation.path.format(**ids)
        if isinstance(body := request.get("json"), dict):
            request["json"] = {**body, **{name: ids[name] for name in body.keys() & ids.keys()}}
    # Read to its end and closed, as a server does: an event stream holds a place until then.
    answer = caller(method, path, buffered=True, **request)
    findings.answers[case.operation.label, answer.status_code] += 1
    problem = answer.get_json() if answer.content_type == MEDIA_TYPE else None
    if answer.status_code >= 500:
        said = f"{answer.status_code} {answer.text[:300]}"
    elif answer.status_code >= 400 and (problem is None or problem["code"] not in CODES):
        said = f"{answer.status_code} without a problem: {answer.text[:300]}"
    else:
        return
    findings.faults.append(Fault(case.operation.label, f"{path} {request}"[:1000], said))


def _ids(operation: APIOperation, caller: Caller) -> Iterator[dict[str, str]]:
    """None, and then those of things that were made for this operation alone."""
    yield {}
    named = set(re.findall(r"{(\w+)}", operation.path))
    made = {"model_id": caller.model(), "dataset_id": caller.dataset()}
    if "job_id" in named:
        # One that has ended: the events of any other would go on for ever.
        made["job_id"] = caller.job(**made)
        caller.post(f"/v1/jobs/{made['job_id']}/cancel")
    if "upload_id" in named:
        wanted = {"kind": "model", "filename": "m.keras", "size": 7, "sha256": "0" * 64}
        made["upload_id"] = caller.post("/v1/uploads", json=wanted).json["id"]
    if "batch_id" in named:
        line = {"custom_id": "one", "model_id": made["model_id"], "spec": {"steps": [{"technique": "prune"}]}}
        made["batch_id"] = caller.post("/v1/batches", json={"items": [line]}).json["id"]
    if "batch_file_id" in named:
        made["batch_file_id"] = caller.post("/v1/batch_files?filename=b.jsonl", data=b"{}").json["id"]
    if "schedule_id" in named:
        made["schedule_id"] = caller.schedule(job={**made, "spec": SPEC})
    if "endpoint_id" in named:
        endpoint = {"url": "https://1.1.1.1/", "events": ["*"]}
        made["endpoint_id"] = caller.post("/v1/webhook_endpoints", json=endpoint).json["id"]
    if "delivery_id" in named:
        made["delivery_id"] = caller.post(f"/v1/webhook_endpoints/{made['endpoint_id']}/test").json["id"]
    made |= {"name": "report.json", "code": "bad_json"}
    if named <= made.keys():
        yield made


def main() -> int:
    """Fuzz with a Redis and an object storage of its own; what there was, on standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=60, help="requests of each kind to each operation")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, started(Path(folder), user="api") as settings:
        began = time.monotonic()
        findings = fuzz(settings, examples=args.examples, start=args.seed)
    by_status: Counter[int] = Counter()
    for (_, status), count in findings.answers.items():
        by_status[status] += count
    told = ", ".join(f"{status}: {count}" for status, count in sorted(by_status.items()))
    operations = len({label for label, _ in findings.answers})
    seconds = time.monotonic() - began
    print(f"{findings.requests} requests to {operations} operations in {seconds:.0f} s ({told})")  # noqa: T201
    for fault in findings.faults:
        print(f"{fault.operation}: {fault.said}\n    {fault.request}", file=sys.stderr)  # noqa: T201
    return 1 if findings.faults else 0


if __name__ == "__main__":
    sys.exit(main())
