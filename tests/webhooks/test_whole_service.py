"""From a request to the API to a verified event, every part a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from featherweight import Client, JobFailed
from tests.service.helpers import KERAS
from tests.tasks.conftest import eventually
from tests.webhooks.receiver import Receiver


@pytest.mark.stack
@pytest.mark.slow
def test_the_end_of_a_job_is_told(served: Receiver, tmp_path: Path) -> None:
    model = tmp_path / "model.keras"
    model.write_bytes(KERAS)
    directory = tmp_path / "stack"
    with (
        LocalStack(
            directory,
            runner_warm="",
            max_gate_bytes=0,
            webhook_trusted_origins=served.origin,
            log_level="INFO",
        ) as stack,
        Client(stack.url, stack.api_key) as client,
    ):
        endpoint = client.webhook_endpoints.create(f"{served.origin}/hook", events=["job.failed"])
        client.webhook_endpoints.test(endpoint.id)
        job = client.compress(
            model, {"steps": [{"technique": "quantize", "scheme": "dynamic_int8"}], "outputs": ["tflite"]}
        )
        with pytest.raises(JobFailed):
            job.wait(timeout=120)
        eventually(lambda: len(served.requests) == 2, timeout_s=30)
        first, second = (request.verified(endpoint.secret or "") for request in served.requests)
        assert (first.type, second.type) == ("webhook.test", "job.failed")
        assert second.job == client.jobs.get(job.id)
        assert second.job.error is not None
        assert [each.state for each in client.webhook_endpoints.deliveries(endpoint.id)] == ["succeeded"] * 2
        secret = (endpoint.secret or "").removeprefix("whsec_")
        logs = "".join(path.read_text() for path in (directory / "logs").glob("*.log"))
        assert "attempt 1: delivered" in logs
        assert secret not in logs
