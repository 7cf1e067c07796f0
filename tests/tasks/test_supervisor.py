"""A job from claim to commit, whatever it does."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from featherweight.errors import VerificationFailed
from featherweight.receipt import ReceiptKey
from featherweight.verify import verify
from tasks import keys
from tasks.receipts import Signer, new_key
from tasks.sandbox.children import Runners
from tests.tasks.conftest import MODEL, PROJECT, Bench, eventually, is_alive, pids


def test_job_ends_succeeded_with_its_outputs_hashed_and_stored(bench: Bench) -> None:
    job = bench.run("behaves")
    assert job.state == "succeeded", job.error
    assert job.verdict == "smaller"
    by_name = {artifact.name: artifact for artifact in job.artifacts}
    assert by_name["model.tflite"].bytes == 2 * len(MODEL)
    assert by_name["model.tflite"].sha256 == hashlib.sha256(2 * MODEL).hexdigest()
    assert by_name["report.json"].media_type == "application/json"
    assert bench.storage.read(keys.artifact_key(PROJECT, job.id, 1, "model.tflite")) == 2 * MODEL
    assert bench.keys(job) == {"result.json", "a1/model.tflite", "a1/report.json", "a1/log.txt"}


def test_what_was_stored_is_signed_for(bench: Bench, tmp_path: Path) -> None:
    key = new_key()
    job = bench.run("behaves", settings={"receipt_key": SecretStr(key)})
    assert job.state == "succeeded", job.error
    assert {artifact.name for artifact in job.artifacts} == {"model.tflite", "report.json", "receipt.json"}
    for artifact in job.artifacts:
        content = bench.storage.read(keys.artifact_key(PROJECT, job.id, 1, artifact.name))
        assert hashlib.sha256(content).hexdigest() == artifact.sha256
        (tmp_path / artifact.name).write_bytes(content)
    public = ReceiptKey.model_validate(
        bench.storage.get_json(keys.receipt_key_key(Signer(key).public.key_id))
    )
    found = verify(tmp_path, [public])
    assert found.files == ["model.tflite", "report.json"]
    assert found.receipt.job_id == job.id
    assert [file.sha256 for file in found.receipt.inputs] == [hashlib.sha256(MODEL).hexdigest()]
    assert key not in bench.log(job) + job.model_dump_json()
    (tmp_path / "report.json").write_bytes(b"{ }")
    with pytest.raises(VerificationFailed, match=r"report\.json was changed"):
        verify(tmp_path, [public])


def test_runner_cannot_write_its_own_receipt(bench: Bench) -> None:
    job = bench.run("forges_receipt", settings={"receipt_key": SecretStr(new_key())})
    assert job.state == "failed"
    assert job.error is not None
    assert job.error.code == "output_refused"
    assert job.artifacts == []


def test_result_json_is_written_from_the_committed_record(bench: Bench) -> None:
    job = bench.run("behaves")
    result = bench.storage.get_json(keys.result_key(PROJECT, job.id))
    assert (result["state"], result["attempt"], result["project"]) == ("succeeded", 1, PROJECT)
    assert bench.store.unsettled() == []


def test_events_become_progress_stream_and_log(bench: Bench) -> None:
    job = bench.run("behaves")
    assert job.stage == "load"
    assert job.progress.fraction == 0.5
    assert job.progress.metrics == {"accuracy": 0.9}
    kinds = [event["type"] for _, event in bench.store.events(PROJECT, job.id)]
    assert kinds == ["state", "state", "stage", "log", "progress", "state", "state"]
    assert "the model is ./in/model.keras" in bench.log(job)


def test_paths_of_the_machine_are_shown_nowhere(bench: Bench) -> None:
    job = bench.run("raises")
    assert job.error is not None
    assert job.error.code == "runner_crashed"
    assert "RuntimeError" in job.error.detail
    shown = bench.log(job) + job.model_dump_json() + str(bench.store.events(PROJECT, job.id))
    assert "cannot read ./in/model.keras" in shown
    assert str(bench.settings.scratch_dir) not in shown
    assert str(Path(__file__).parents[2]) not in shown


@pytest.mark.parametrize(
    ("misbehaviour", "code", "words"),
    [
        ("exits_hard", "runner_crashed", "exit code 3"),
        ("segfaults", "runner_crashed", "SIGSEGV"),
        ("leaves_nonsense", "runner_crashed", "no result"),
        ("aborts_for_memory", "out_of_memory", "no more memory"),
        ("plants_symlink", "output_refused", "model.tflite"),
        ("plants_folder_link", "output_refused", "passwd"),
        ("plants_pipe", "output_refused", "model.tflite"),
        ("plants_hard_link", "output_refused", "more than one name"),
        ("plants_holes", "output_refused", "holes"),
        ("plants_huge", "output_refused", "larger than 2000000"),
        ("traces_its_parent", "sandbox_violation", "system call"),
        ("writes_one_huge_file", "disk_limit", "larger than any may be"),
    ],
)
def test_misbehaviour_fails_the_job_with_its_code(
    bench: Bench, misbehaviour: str, code: str, words: str
) -> None:
    # Files may be as large as a model and a data set together, outputs as large as a model.
    sizes = {"max_model_bytes": 2_000_000, "max_dataset_bytes": 10_000_000}
    job = bench.run(misbehaviour, settings=sizes if "huge" in misbehaviour else {})
    assert job.state == "failed"
    assert job.error is not None
    assert (job.error.code, job.attempts[0].ended_because) == (code, code)
    assert words in job.error.detail
    assert bench.keys(job) == {"result.json", "a1/log.txt"}
    assert not (bench.settings.scratch_dir / job.id).exists()


@pytest.mark.parametrize(
    ("misbehaviour", "words"),
    [
        ("plants_symlink", "Too many levels of symbolic links"),
        ("plants_folder_link", "Too many levels of symbolic links"),
        ("plants_pipe", "not a regular file"),
        ("plants_hard_link", "more than one name"),
    ],
)
def test_planted_outputs_are_refused_also_where_nothing_prevents_planting(
    bench: Bench, misbehaviour: str, words: str
) -> None:
    job = bench.run(misbehaviour, settings={"sandbox": "external"})
    assert job.error is not None
    assert (job.error.code, words in job.error.detail) == ("output_refused", True)
    assert bench.keys(job) == {"result.json", "a1/log.txt"}


@pytest.mark.parametrize(
    ("misbehaviour", "data", "words"),
    [
        ("fills_disk", b"full", "bytes"),
        ("fills_disk", b"empty", "files"),
        ("digs_deep", b"", "cannot be looked"),
    ],
)
def test_job_that_fills_the_disk_fails_and_leaves_nothing(
    bench: Bench, misbehaviour: str, data: bytes, words: str
) -> None:
    job = bench.submit(data=data, max_run_s=60)
    limits = {"runner_disk_bytes": 20_000_000, "runner_files": 5_000}
    bench.supervisor(misbehaviour, **limits).run(job.id)
    error = bench.store.get(PROJECT, job.id).error
    assert error is not None
    assert error.code == "disk_limit"
    assert words in error.detail
    assert not (bench.settings.scratch_dir / job.id).exists()


def test_job_of_very_many_threads_is_ended(bench: Bench) -> None:
    job = bench.run("starts_threads", settings={"runner_processes": 200}, max_run_s=60)
    assert job.error is not None
    assert (job.error.code, "200 threads" in job.error.detail) == ("sandbox_violation", True)


@pytest.mark.parametrize(
    "misbehaviour", ["sleeps_forever", "ignores_sigterm", "prints_endlessly", "computes_forever"]
)
def test_job_that_runs_too_long_fails_with_time_limit(bench: Bench, misbehaviour: str) -> None:
    started = time.monotonic()
    job = bench.run(misbehaviour, max_run_s=1)
    assert job.error is not None
    assert job.error.code == "time_limit"
    assert time.monotonic() - started < 6


def test_job_that_takes_too_much_memory_fails_with_out_of_memory(bench: Bench) -> None:
    job = bench.run("eats_memory", settings={"runner_memory_bytes": 200_000_000})
    assert job.error is not None
    assert job.error.code == "out_of_memory"


@pytest.mark.parametrize(("misbehaviour", "state"), [("behaves", "succeeded"), ("eats_memory", "failed")])
def test_memory_of_the_fork_server_is_not_the_jobs(bench: Bench, misbehaviour: str, state: str) -> None:
    bench.runners = Runners("tests.misbehaving.warms_large:warm", bench.settings.scratch_dir / ".home")
    try:
        job = bench.run(misbehaviour, settings={"runner_memory_bytes": 200_000_000})
    finally:
        bench.runners.stop()
    assert (job.state, job.error and job.error.code) == (
        state,
        None if state == "succeeded" else "out_of_memory",
    )


def test_log_is_capped_and_keeps_beginning_and_end(bench: Bench) -> None:
    job = bench.run("prints_much")
    log = bench.log(job)
    assert len(log) < 1_100_000
    assert log.startswith("the beginning")
    assert log.rstrip().endswith("the end")
    assert "bytes left out" in log


def test_flood_of_events_is_damped_and_lies_are_ignored(bench: Bench) -> None:
    job = bench.run("floods_events")
    assert (job.state, job.attempt) == ("succeeded", 1)
    assert len(bench.store.events(PROJECT, job.id)) < 500
    log = bench.log(job)
    assert "could not be read" in log
    assert "too long" in log
    assert "number 2999" in log


def test_stored_input_that_was_changed_is_refused(bench: Bench) -> None:
    job = bench.submit()
    bench.storage.put_bytes(keys.model_key(PROJECT, job.model_id), b"something else")
    bench.supervisor("behaves").run(job.id)
    error = bench.store.get(PROJECT, job.id).error
    assert error is not None
    assert error.code == "sha256_mismatch"


def test_input_that_is_gone_fails_the_job(bench: Bench) -> None:
    job = bench.submit()
    bench.storage.delete(keys.model_key(PROJECT, job.model_id))
    bench.supervisor("behaves").run(job.id)
    error = bench.store.get(PROJECT, job.id).error
    assert error is not None
    assert error.code == "artifact_gone"


def test_second_message_about_a_job_does_nothing(bench: Bench) -> None:
    job = bench.run("behaves")
    bench.supervisor("behaves").run(job.id)
    assert bench.store.get(PROJECT, job.id) == job


def test_unknown_job_is_ignored(bench: Bench) -> None:
    bench.supervisor("behaves").run("job_unknown")
    bench.supervisor("behaves").run("../../etc")


@pytest.mark.parametrize("misbehaviour", ["sleeps_forever", "ignores_sigterm", "leaves_children"])
def test_cancelled_job_is_dead_within_five_seconds(bench: Bench, misbehaviour: str) -> None:
    job = bench.submit()
    # Starting processes is something that the sandbox prevents.
    kind = "external" if misbehaviour == "leaves_children" else "landlock"
    thread = threading.Thread(target=bench.supervisor(misbehaviour, sandbox=kind).run, args=(job.id,))
    thread.start()
    running = eventually(lambda: pids(bench.store, job))
    started = time.monotonic()
    bench.store.request_cancel(PROJECT, job.id)
    thread.join(10)
    assert time.monotonic() - started < 5
    ended = bench.store.get(PROJECT, job.id)
    assert (ended.state, ended.attempts[0].ended_because) == ("cancelled", "cancelled")
    eventually(lambda: not any(map(is_alive, running)), timeout_s=2)


def test_time_the_fork_server_takes_to_start_is_not_the_jobs(bench: Bench) -> None:
    bench.runners = Runners("tests.misbehaving.slow_to_warm:warm", bench.settings.scratch_dir / ".home")
    try:
        job = bench.run("slow_to_warm", settings={"sandbox": "external"}, max_run_s=1)
        assert job.state == "succeeded"
    finally:
        bench.runners.stop()


def test_job_cancelled_before_its_runner_was_born_never_runs(bench: Bench) -> None:
    bench.runners = Runners("tests.misbehaving.slow_to_warm:warm", bench.settings.scratch_dir / ".home")
    job = bench.submit()
    # Unconfined, so that it could leave its mark outside.
    thread = threading.Thread(target=bench.supervisor("slow_to_warm", sandbox="external").run, args=(job.id,))
    thread.start()
    try:
        eventually(lambda: bench.store.get(PROJECT, job.id).state == "running")
        bench.store.request_cancel(PROJECT, job.id)
        thread.join(10)
        assert bench.store.get(PROJECT, job.id).state == "cancelled"
        # The server serves again, after it has dealt with the one that nobody wants.
        assert bench.run("behaves").state == "succeeded"
        assert not (bench.settings.scratch_dir / "ran").exists()
    finally:
        bench.runners.stop()


def test_stopping_worker_gives_its_job_back_and_announces_it(bench: Bench) -> None:
    job = bench.submit()
    supervisor = bench.supervisor("sleeps_forever")
    thread = threading.Thread(target=supervisor.run, args=(job.id,))
    thread.start()
    (pid,) = eventually(lambda: pids(bench.store, job))
    started = time.monotonic()
    supervisor.stop()
    thread.join(10)
    assert time.monotonic() - started < 1.5
    released = bench.store.get(PROJECT, job.id)
    assert (released.state, released.losses) == ("queued", 0)
    assert released.attempts[0].ended_because == "worker_stopped"
    assert bench.queue.hinted() == {job.id}
    assert not is_alive(pid)


def test_lost_job_is_killed_and_publishes_nothing(bench: Bench) -> None:
    job = bench.submit()
    thread = threading.Thread(target=bench.supervisor("sleeps_forever").run, args=(job.id,))
    thread.start()
    (pid,) = eventually(lambda: pids(bench.store, job))
    # Taken away as if the lease had run out, and done by another.
    bench.client.zadd("fw:leases", {job.id: 0})
    assert bench.store.expire_leases() == [job.id]
    other = bench.supervisor("behaves")
    other.run(job.id)
    thread.join(10)
    assert not is_alive(pid)
    ended = bench.store.get(PROJECT, job.id)
    assert (ended.state, ended.attempt) == ("succeeded", 2)
    assert [attempt.ended_because for attempt in ended.attempts] == ["worker_lost", "succeeded"]
    assert bench.keys(job) == {"result.json", "a2/model.tflite", "a2/report.json", "a2/log.txt"}


def test_outputs_of_an_attempt_that_lost_the_job_are_taken_back(bench: Bench) -> None:
    job = bench.submit()
    claim = bench.store.claim(job.id, "frozen")
    assert claim is not None
    bench.client.zadd("fw:leases", {job.id: 0})
    bench.store.expire_leases()
    bench.supervisor("behaves").run(job.id)
    # The frozen one wakes and goes on where it was: its upload arrives, its commit is refused.
    bench.storage.put_bytes(keys.artifact_key(PROJECT, job.id, claim.attempt, "model.tflite"), b"stale")
    bench.supervisor("behaves")._lost(claim)
    assert bench.keys(job) == {"result.json", "a2/model.tflite", "a2/report.json", "a2/log.txt"}


def test_killed_fork_server_is_replaced_and_the_job_given_back(bench: Bench) -> None:
    job = bench.submit()
    thread = threading.Thread(target=bench.supervisor("sleeps_forever").run, args=(job.id,))
    thread.start()
    (pid,) = eventually(lambda: pids(bench.store, job))
    server = bench.runners.server_pid
    assert server is not None
    os.kill(server, signal.SIGKILL)
    thread.join(10)
    eventually(lambda: not is_alive(pid), timeout_s=2)
    released = bench.store.get(PROJECT, job.id)
    assert (released.state, released.losses) == ("queued", 1)
    assert released.attempts[0].ended_because == "worker_failed"
    bench.supervisor("behaves").run(job.id)
    assert bench.store.get(PROJECT, job.id).state == "succeeded"


def test_finished_steps_are_still_there_in_the_next_attempt(bench: Bench) -> None:
    job = bench.submit()
    first = bench.supervisor("resumes")
    thread = threading.Thread(target=first.run, args=(job.id,))
    thread.start()
    said = lambda word: word in str(bench.store.events(PROJECT, job.id))  # noqa: E731
    eventually(lambda: said("first"))
    first.stop()
    thread.join(10)
    bench.supervisor("resumes").run(job.id)
    assert bench.store.get(PROJECT, job.id).state == "succeeded"
    assert said("again")
    assert not (bench.settings.scratch_dir / job.id).exists()


def test_runner_told_to_stop_has_a_moment_to_keep_what_it_has_done(bench: Bench) -> None:
    job = bench.submit()
    first = bench.supervisor("asks_for_a_moment")
    thread = threading.Thread(target=first.run, args=(job.id,))
    thread.start()
    said = lambda word: word in str(bench.store.events(PROJECT, job.id))  # noqa: E731
    eventually(lambda: said("first"))
    first.stop()
    thread.join(10)
    released = bench.store.get(PROJECT, job.id)
    assert (released.state, released.attempts[0].ended_because) == ("queued", "worker_stopped")
    bench.supervisor("asks_for_a_moment").run(job.id)
    assert bench.store.get(PROJECT, job.id).state == "succeeded"
    assert said("marked")


def test_failed_job_has_the_files_it_kept(bench: Bench) -> None:
    job = bench.run("fails_with_a_file")
    assert (job.state, job.error and job.error.code) == ("failed", "training_diverged")
    (kept,) = job.artifacts
    assert (kept.name, kept.bytes) == ("checkpoint.keras", len(MODEL))
    assert kept.sha256 == hashlib.sha256(MODEL).hexdigest()
    assert bench.keys(job) == {"result.json", "a1/checkpoint.keras", "a1/log.txt"}
    states = [event["state"] for _, event in bench.store.events(PROJECT, job.id) if event["type"] == "state"]
    assert states == ["queued", "running", "finalizing", "failed"]
    result = bench.storage.get_json(keys.result_key(PROJECT, job.id))
    assert [artifact["name"] for artifact in result["artifacts"]] == ["checkpoint.keras"]


def test_failure_with_a_file_that_is_missing_is_told_all_the_same(bench: Bench) -> None:
    job = bench.submit(data=b"missing")
    bench.supervisor("fails_with_a_file").run(job.id)
    ended = bench.store.get(PROJECT, job.id)
    assert (ended.state, ended.artifacts) == ("failed", [])
    assert ended.error is not None
    assert ended.error.code == "training_diverged"
    assert "checkpoint.keras could not be kept" in ended.error.detail


@pytest.mark.parametrize("kind", ["landlock", "external"])
def test_runner_sees_no_secret_and_nothing_but_its_own_descriptors(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "FEATHERWEIGHT_S3_SECRET_ACCESS_KEY", "REDIS_URL", "HF_TOKEN"):
        monkeypatch.setenv(name, "canary")
    job = bench.run("tells_environment", settings={"sandbox": kind})
    seen = json.loads(bench.storage.read(keys.artifact_key(PROJECT, job.id, 1, "seen.json")))
    assert "canary" not in json.dumps(seen)
    assert seen["environment"]["HOME"].startswith(seen["cwd"])
    assert seen["cwd"] == str(bench.settings.scratch_dir / job.id)
    assert seen["session"]
    if kind == "landlock":
        assert seen["parent"] is None
    assert seen["environment"]["FEATHERWEIGHT_SANDBOX"].startswith(kind)
    # The fourth is the listing itself.
    assert len(seen["open"]) == 5
    assert seen["fds"]["0"] == "/dev/null"
