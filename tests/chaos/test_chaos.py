"""A bounded run of what ``make chaos`` does with more jobs and more faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import Options, run
from tests.chaos.schedule import Kind
from tests.chaos.table import markdown

pytestmark = [pytest.mark.slow, pytest.mark.stack]


def test_no_promise_is_broken_by_a_fault_of_each_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = Options(
        jobs=12,
        seed=5,
        workers=2,
        directory=tmp_path,
        customers=8,
        counts=dict.fromkeys(Kind, 1),
        storage_outage_s=5,
        lease_s=6,
    )
    result = run(options)
    assert {name: found for name, found in result.broken.items() if found} == {}
    assert {struck.kind for struck in result.struck} == set(Kind)
    assert result.jobs == 12
    assert sum(result.attempts.values()) > 12, "no fault has hit a job"
    assert result.repeated < 0.5
    assert "| **lost** | **0** |" in markdown(result)
