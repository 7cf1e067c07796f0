"""A bounded run of what ``make fuzz-api`` does with more requests."""

from __future__ import annotations

import redis

from tasks.settings import Settings
from tests.fuzzing.api import fuzz


def test_no_request_made_of_the_description_meets_a_fault_of_ours(
    settings: Settings, redis_client: redis.Redis
) -> None:
    findings = fuzz(settings, examples=2, start=7)
    assert not findings.faults
    assert findings.requests >= 300
    statuses = {status for _, status in findings.answers}
    assert {200, 201, 202, 204, 404, 409, 422} <= statuses
    assert 401 not in statuses
