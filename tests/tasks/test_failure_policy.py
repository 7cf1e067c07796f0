"""What is retried and what is not, the evidence that attempts leave, and the job's total deadline."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks import keys
from tasks.evidence import code_of, evidence_of_loss
from tasks.gate import GateFailed
from tasks.reaper import Reaper
from tasks.records import Claim, JobRecord
from tasks.sandbox import exits
from tasks.sandbox.children import Exit, RunnerLost
from tasks.storage import StorageUnavailable
from tasks.store import JobStore
from tests.tasks.conftest import PROJECT, Bench, eventually, pids


def start(bench: Bench, misbehaviour: str, job: JobRecord, **overrides: Any) -> threading.Thread:
    thread = threading.Thread(target=bench.supervisor(misbehaviour, **overrides).run, args=(job.id,))
    thread.start()
    return thread


def lose_worker(bench: Bench, job: JobRecord, *, says: str = "") -> Claim:
    """An attempt whose worker vanishes, after it has said something."""
    from featherweight.events import LogEvent, StageEvent

    claim = bench.store.claim(job.id, f"worker-{bench.store.get(PROJECT, job.id).attempt}")
    assert claim is not None
    if says:
        bench.store.emit(claim, StageEvent(stage="finetune", index=1, total=2))
        bench.store.emit(claim, LogEvent(message=says))
    bench.client.zadd("fw:leases", {job.id: 0})
    bench.store.expire_leases()
    return claim


def resting_s(bench: Bench, job: JobRecord) -> float:
    """For how long nobody may claim the job; 0 when anybody may."""
    until = bench.client.zscore("fw:later:tensorflow", job.id)
    seconds, micros = bench.client.time()
    return max(0.0, until - seconds - micros / 1e6) if until is not None else 0.0


# What is retried


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_runner_killed_from_outside_is_tried_again(bench: Bench, number: int) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("the tests were started by something like nohup, whose children ignore it")
    job = bench.submit()
    thread = start(bench, "sleeps_forever", job)
    (pid,) = eventually(lambda: pids(bench.store, job))
    os.kill(pid, number)
    thread.join(10)
    tried = bench.store.get(PROJECT, job.id)
    assert (tried.state, tried.losses) == ("queued", 1)
    (attempt,) = tried.attempts
    assert (attempt.ended_because, attempt.counted) == ("runner_killed", True)
    assert attempt.signal == signal.Signals(number).name
    assert attempt.signal in str(attempt.detail)
    assert f"pid {pid}" in str(attempt.log_tail)
    bench.supervisor("behaves").run(job.id)
    assert bench.store.get(PROJECT, job.id).state == "succeeded"


def test_a_job_that_the_kernel_killed_for_its_memory_is_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([7, 8])
    monkeypatch.setattr(exits, "kernel_kills", lambda: next(counts))
    monkeypatch.setattr("tasks.supervisor.kernel_kills", exits.kernel_kills)
    job = bench.run("is_killed")
    assert (job.state, job.error and job.error.code) == ("failed", "out_of_memory")
    assert job.attempts[0].signal == "SIGKILL"


def test_nor_where_the_kernel_does_not_say(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exits, "_VMSTAT", bench.settings.scratch_dir / "nothing")
    job = bench.run("is_killed")
    assert (job.state, job.error and job.error.code) == ("failed", "out_of_memory")


@pytest.mark.parametrize(
    ("misbehaviour", "code", "exit_code", "ended_by"),
    [("segfaults", "runner_crashed", None, "SIGSEGV"), ("exits_hard", "runner_crashed", 3, None)],
)
def test_a_crash_is_not_tried_again_and_its_attempt_says_how(
    bench: Bench, misbehaviour: str, code: str, exit_code: int | None, ended_by: str | None
) -> None:
    job = bench.run(misbehaviour)
    assert (job.state, job.attempt, job.losses) == ("failed", 1, 0)
    (attempt,) = job.attempts
    assert (attempt.ended_because, attempt.exit_code, attempt.signal) == (code, exit_code, ended_by)
    assert not attempt.counted


def test_a_job_that_runs_out_of_time_is_not_tried_again(bench: Bench) -> None:
    job = bench.run("ignores_sigterm", max_run_s=1)
    assert (job.state, job.attempt) == ("failed", 1)
    assert (job.attempts[0].ended_because, job.attempts[0].signal) == ("time_limit", "SIGKILL")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (StorageUnavailable("http://10.0.0.1/secret"), "storage_unavailable", "object storage"),
        (RunnerLost("x"), "worker_failed", "process"),
        (GateFailed("/srv/secret"), "worker_failed", "judged"),
        (OSError(28, "No space left on device", "/srv/secret"), "disk_full", "No space left"),
        (MemoryError(), "worker_failed", "memory"),
        (ConnectionError("secret"), "worker_failed", "system"),
    ],
    ids=["storage", "runner", "gate", "disk", "memory", "other"],
)
def test_what_kept_an_attempt_from_going_on_is_told_without_names_of_the_machine(
    error: BaseException, code: str, words: str
) -> None:
    evidence = evidence_of_loss(error, None)
    assert code_of(error) == code
    assert "secret" not in str(evidence)
    assert words in str(evidence.detail)


# Back-off and poison jobs


def test_a_job_that_loses_its_worker_each_time_rests_longer_and_then_fails_with_the_evidence(
    bench: Bench,
) -> None:
    bench.store = JobStore(bench.client, bench.settings.model_copy(update={"retry_first_s": 40}))
    job = bench.submit()
    rests = []
    for words in ("first \N{SNOWMAN}", "second", "third"):
        lose_worker(bench, job, says=words)
        rests.append(resting_s(bench, job))
        bench.client.zadd("fw:later:tensorflow", {job.id: 0}, xx=True)
    # The lease was the first rest.
    assert rests[0] == 0
    assert 19 < rests[1] <= 40
    assert rests[2] == 0
    ended = bench.store.get(PROJECT, job.id)
    assert (ended.state, ended.losses) == ("failed", 3)
    assert [attempt.log_tail for attempt in ended.attempts] == ["first \N{SNOWMAN}", "second", "third"]
    assert {(a.stage, a.counted, a.ended_because) for a in ended.attempts} == {
        ("finetune", True, "worker_lost")
    }
    assert ended.error is not None
    assert ended.error.code == "too_many_attempts"
    for number, worker in enumerate(("worker-0", "worker-1", "worker-2"), 1):
        assert (
            f"attempt {number} on {worker}: worker_lost in finetune (the worker stopped" in ended.error.detail
        )
    assert not ended.error.retryable
    # What is written down for good says the same.
    bench.client.zadd("fw:unsettled", {job.id: 0})
    Reaper(bench.settings, bench.client, bench.store, bench.storage, bench.queue).look()
    result = bench.storage.get_json(keys.result_key(PROJECT, job.id))
    assert result["error"]["detail"] == ended.error.detail
    assert [attempt["log_tail"] for attempt in result["attempts"]][1:] == ["second", "third"]


def test_rests_grow_by_twice_up_to_a_bound_and_are_not_alike(bench: Bench) -> None:
    options = {"retry_first_s": 20, "retry_max_s": 50, "max_attempts": 9}
    bench.store = JobStore(bench.client, bench.settings.model_copy(update=options))
    job = bench.submit()
    rests = []
    for _ in range(6):
        claim = bench.store.claim(job.id, "worker")
        assert claim is not None
        assert bench.store.release(claim, "storage_unavailable", counted=True)
        rests.append(resting_s(bench, job))
        bench.client.zadd("fw:later:tensorflow", {job.id: 0}, xx=True)
    bounds = [20, 40, 50, 50, 50, 50]
    assert all(0.45 * most < rest <= most for rest, most in zip(rests, bounds, strict=True)), rests
    assert len({round(rest, 1) for rest in rests[2:]}) > 1


def test_a_worker_that_is_shut_down_costs_the_job_nothing(bench: Bench) -> None:
    bench.store = JobStore(bench.client, bench.settings.model_copy(update={"retry_first_s": 40}))
    job = bench.submit()
    for _ in range(5):
        claim = bench.store.claim(job.id, "worker")
        assert claim is not None
        assert bench.store.release(claim, "worker_stopped")
        assert resting_s(bench, job) == 0
    assert bench.store.get(PROJECT, job.id).losses == 0


# max_total_s


def overdue(bench: Bench, job: JobRecord, *, by_s: float = 1) -> None:
    """Let the job's total time have passed, so long ago."""
    total_s = job.limits.max_total_s
    assert total_s is not None
    seconds, _ = bench.client.time()
    bench.client.hset(f"fw:job:{job.id}", "created_at", f"{seconds - total_s - by_s:.6f}")
    bench.client.zadd("fw:total-deadlines", {job.id: 0}, xx=True)


def test_a_queued_job_expires_when_its_total_time_is_over(bench: Bench) -> None:
    job, other = bench.submit(max_total_s=60), bench.submit()
    assert bench.store.expire_overdue() == []
    overdue(bench, job)
    assert bench.store.expire_overdue() == [job.id]
    ended = bench.store.get(PROJECT, job.id)
    assert (ended.state, ended.error and ended.error.code) == ("expired", "total_timeout")
    assert bench.store.get(PROJECT, other.id).state == "queued"
    assert bench.client.zcard("fw:total-deadlines") == 0


def test_nobody_claims_a_job_whose_total_time_is_over(bench: Bench) -> None:
    job = bench.submit(max_total_s=60)
    overdue(bench, job)
    assert bench.store.claim(job.id, "worker") is None
    assert bench.store.get(PROJECT, job.id).state == "expired"


def test_a_job_given_back_too_late_expires_instead_of_waiting_again(bench: Bench) -> None:
    job = bench.submit(max_total_s=60)
    claim = bench.store.claim(job.id, "worker")
    assert claim is not None
    overdue(bench, job)
    assert not bench.store.release(claim, "storage_unavailable", counted=True)
    ended = bench.store.get(PROJECT, job.id)
    assert (ended.state, ended.error and ended.error.code) == ("expired", "total_timeout")
    assert ended.attempts[0].ended_because == "storage_unavailable"


@pytest.mark.parametrize("misbehaviour", ["sleeps_forever", "ignores_sigterm"])
def test_a_running_attempt_ends_itself_when_the_total_time_is_over(bench: Bench, misbehaviour: str) -> None:
    job = bench.submit(max_total_s=2)
    thread = start(bench, misbehaviour, job)
    thread.join(8)
    ended = bench.store.get(PROJECT, job.id)
    assert (ended.state, ended.error and ended.error.code) == ("expired", "total_timeout")
    assert ended.attempts[0].ended_because == "total_timeout"
    assert 2 <= (ended.ended_at - ended.created_at).total_seconds() < 6  # type: ignore[operator]
    assert bench.keys(job) == {"result.json", "a1/log.txt"}


def test_a_worker_that_does_not_end_an_overdue_attempt_has_it_taken_away(bench: Bench) -> None:
    job = bench.submit(max_total_s=60)
    claim = bench.store.claim(job.id, "frozen")
    assert claim is not None
    overdue(bench, job, by_s=5)
    assert bench.store.expire_overdue() == []
    overdue(bench, job, by_s=30)
    assert bench.store.expire_overdue() == [job.id]
    ended = bench.store.get(PROJECT, job.id)
    assert (ended.state, ended.attempts[0].ended_because) == ("expired", "total_timeout")
    assert not bench.store.renew(claim).owned
    assert bench.client.zcard("fw:leases") == 0


# Cancelled where no runner is there to be ended


class Hanging:
    """A method of the storage that hangs until it is let go, as one of a storage that does not answer."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.entered, self.let_go, self.over = threading.Event(), threading.Event(), threading.Event()
        real: Callable[..., Any] = getattr(bench.storage, name)

        def hang(*args: Any, **options: Any) -> Any:
            self.entered.set()
            assert self.let_go.wait(30)
            try:
                return real(*args, **options)
            finally:
                self.over.set()

        monkeypatch.setattr(bench.storage, name, hang)


@pytest.mark.parametrize("how", ["cancelled", "expired"])
@pytest.mark.parametrize(("name", "state"), [("get_file", "running"), ("put_stream", "finalizing")])
def test_a_job_whose_storage_hangs_ends_within_five_seconds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str, state: str, how: str
) -> None:
    hanging = Hanging(bench, monkeypatch, name)
    limits = {"max_total_s": 2} if how == "expired" else {}
    job = bench.submit(**limits)
    thread = start(bench, "behaves", job)
    assert hanging.entered.wait(10)
    assert bench.store.get(PROJECT, job.id).state == state
    if how == "cancelled":
        bench.store.request_cancel(PROJECT, job.id)
    thread.join(5)
    assert not thread.is_alive()
    assert bench.store.get(PROJECT, job.id).state == how
    # What arrives in storage after all is taken back.
    hanging.let_go.set()
    assert hanging.over.wait(10)
    eventually(lambda: bench.keys(job) == {"result.json", "a1/log.txt"}, timeout_s=5)


def test_a_job_is_cancelled_while_its_files_are_judged(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr("tasks.file_reader.sys.executable", str(sleeper))
    job = bench.submit(gated=None)
    thread = start(bench, "behaves", job)
    eventually(lambda: bench.store.get(PROJECT, job.id).state == "running")
    eventually(lambda: (bench.settings.scratch_dir / job.id / "in" / "model.keras").exists())
    bench.store.request_cancel(PROJECT, job.id)
    thread.join(5)
    assert not thread.is_alive()
    assert bench.store.get(PROJECT, job.id).state == "cancelled"


def test_a_job_resting_before_its_next_attempt_is_cancelled_at_once(bench: Bench) -> None:
    bench.store = JobStore(bench.client, bench.settings.model_copy(update={"retry_first_s": 60}))
    job = bench.submit()
    claim = bench.store.claim(job.id, "worker")
    assert claim is not None
    assert bench.store.release(claim, "storage_unavailable", counted=True)
    assert resting_s(bench, job) > 0
    assert bench.store.request_cancel(PROJECT, job.id).state == "cancelled"
    assert bench.client.zcard("fw:later:tensorflow") == 0


def test_signals_without_a_name_are_told_too() -> None:
    assert "signal 40" in exits.explain(Exit(40, 0, 0.0), b"", memory_bytes=0).detail
