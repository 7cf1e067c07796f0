"""Jobs: asking for them, and every way of watching them."""

from __future__ import annotations

from tests.service.helpers import Caller


def test_a_job_is_queued_and_found_again(caller: Caller) -> None:
    job_id = caller.job()
    answer = caller.get(f"/v1/jobs/{job_id}")
    assert answer.status_code == 200
    assert answer.json["state"] == "queued"
    assert answer.json["spec"]["steps"][0]["technique"] == "prune"
