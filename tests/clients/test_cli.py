"""The command: what it prints where, and the exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from featherweight import cli, errors
from featherweight.cli import exit_codes
from featherweight.cli.progress import ProgressLine
from featherweight.events import EVENT
from featherweight.problem import CODES, problem
from tests.clients.conftest import SPEC
from tests.clients.fake_service import FakeService, problem_answer
from tests.clients.sample_report import REPORT
from tests.clients.test_waiting import EVENTS

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(service: FakeService, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, standard output and standard error of a command."""

    def run(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([str(each) for each in argv], connect=lambda args: service.client())
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def done(service: FakeService) -> str:
    id_ = str(service.add_job(state="succeeded", done=True, verdict="smaller", name="digits")["id"])
    service.add_artifacts(id_, model__tflite=b"tflite" * 100)
    service.report = REPORT
    service.events[id_] = EVENTS
    return id_


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(json.dumps(SPEC))
    return path


# -- compress


def test_compress_prints_the_id_of_the_queued_job(run: Run, model_file: Path, spec_file: Path) -> None:
    assert run("compress", model_file, "--spec", spec_file) == (0, "job_0\n", "")


def test_compress_sends_what_was_asked_for(
    run: Run, service: FakeService, model_file: Path, spec_file: Path
) -> None:
    options = ["--name", "n", "--metadata", "a=b", "--metadata", "c=d=e", "--max-run", "60"]
    options += ["--idempotency-key", "mine"]
    assert run("compress", model_file, "--data", model_file, "--spec", spec_file, *options)[0] == 0
    (request,) = service.asked("POST", "/v1/jobs")
    body = json.loads(request.content)
    assert (body["model_id"], body["dataset_id"], body["name"]) == ("mdl_0", "ds_1", "n")
    assert body["metadata"] == {"a": "b", "c": "d=e"}
    assert body["limits"] == {"max_run_s": 60}
    assert request.headers["Idempotency-Key"] == "mine"


def test_compress_takes_ids_inline_json_and_standard_input(
    run: Run, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    assert run("compress", "mdl_7", "--data", "ds_7", "--spec", json.dumps(SPEC))[0] == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(SPEC)))
    assert run("compress", "mdl_7", "--spec", "-")[0] == 0
    assert [r.url.path for r in service.requests] == ["/v1/jobs", "/v1/jobs"]


def test_compress_and_wait_brings_results_and_report(
    run: Run, service: FakeService, spec_file: Path, tmp_path: Path
) -> None:
    service.report = REPORT
    service.script("POST", "/v1/jobs", lambda request: _finished(service))
    code, out, err = run("compress", "mdl_7", "--spec", spec_file, "-o", tmp_path / "out")
    assert code == 0
    assert (tmp_path / "out" / "model.tflite").read_bytes() == b"tflite"
    assert "verdict: smaller" in out
    assert out.endswith(f"{tmp_path}/out/model.tflite\n")
    assert err == "job job_0\n"


def _finished(service: FakeService) -> httpx.Response:
    job = service.add_job(state="succeeded", done=True)
    service.add_artifacts(job["id"], model__tflite=b"tflite")
    return httpx.Response(202, json=job)


def test_faulty_spec_is_found_before_anything_is_sent(
    run: Run, service: FakeService, model_file: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("steps:\n  - technique: finetune\n    epoch: 2\n")
    code, out, err = run("compress", model_file, "--spec", bad)
    assert (code, out) == (3, "")
    assert "line 3, /steps/0/epoch: Extra inputs are not permitted" in err
    assert service.requests == []


# -- waiting


def test_failed_job_is_exit_code_1(run: Run, service: FakeService, done: str) -> None:
    why = problem("bad_data", "NaN in x").model_dump(mode="json")
    service.change(done, state="failed", error=why)
    code, out, err = run("jobs", "wait", done)
    assert (code, out) == (1, "")
    assert "NaN in x (bad_data)" in err


@pytest.fixture
def diverged(service: FakeService) -> str:
    why = problem("training_diverged", "the loss became NaN", hint="a lower rate").model_dump(mode="json")
    id_ = str(service.add_job(state="failed", done=True, error=why)["id"])
    service.add_artifacts(id_, checkpoint__keras=b"weights")
    return id_


def test_what_a_failed_job_kept_is_brought_where_a_folder_is_named(
    run: Run, diverged: str, tmp_path: Path
) -> None:
    code, out, err = run("jobs", "wait", diverged, "-o", tmp_path / "out")
    assert (code, out) == (1, f"{tmp_path}/out/checkpoint.keras\n")
    assert (tmp_path / "out" / "checkpoint.keras").read_bytes() == b"weights"
    assert "the loss became NaN (training_diverged)" in err


def test_waiting_for_a_failed_job_says_how_to_get_what_it_kept(run: Run, diverged: str) -> None:
    code, out, err = run("jobs", "wait", diverged)
    assert (code, out) == (1, "")
    assert f"featherweight download {diverged} -o" in err
    assert "kept: checkpoint.keras" in err


def test_what_a_failed_job_kept_is_no_success_of_its_download(
    run: Run, diverged: str, tmp_path: Path
) -> None:
    code, out, err = run("download", diverged, "-o", tmp_path, "--json")
    assert code == 1
    assert json.loads(out)["files"] == [str(tmp_path / "checkpoint.keras")]
    assert json.loads(err)["error"]["problem"]["code"] == "training_diverged"


def test_report_of_a_failed_job_is_why_it_failed(run: Run, service: FakeService, diverged: str) -> None:
    service.script("GET", f"/v1/jobs/{diverged}/report", problem_answer("not_found"))
    code, _, err = run("report", diverged)
    assert code == 1
    assert "the loss became NaN (training_diverged)" in err


def test_show_has_hint_and_files_of_a_failed_job(run: Run, diverged: str) -> None:
    code, out, _ = run("jobs", "show", diverged)
    assert code == 0
    assert re.search(r"^hint +a lower rate$", out, re.M)
    assert "checkpoint.keras" in out


@pytest.mark.parametrize(("state", "code"), [("failed", 1), ("expired", 1), ("cancelled", 9), ("melted", 1)])
def test_job_that_ended_otherwise_is_still_pure_json(
    run: Run, service: FakeService, done: str, state: str, code: int
) -> None:
    service.change(done, state=state)
    result, out, err = run("jobs", "wait", done, "--json")
    assert result == code
    assert json.loads(out)["job"]["state"] == state
    assert json.loads(err)["error"]["type"].startswith("Job")


def test_timeout_is_exit_code_8(run: Run, service: FakeService) -> None:
    service.add_job()
    code, _, err = run("jobs", "wait", "job_0", "--timeout", "5")
    assert code == 8
    assert "it goes on" in err


def test_timeout_may_cancel(run: Run, service: FakeService) -> None:
    service.add_job()
    assert run("jobs", "wait", "job_0", "--timeout", "5", "--cancel-on-timeout")[0] == 9


@pytest.mark.parametrize("cancel", [False, True])
def test_interrupt_says_how_to_come_back_or_cancels(run: Run, service: FakeService, cancel: bool) -> None:
    def interrupt(request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    service.add_job()
    service.script("GET", "/v1/jobs/job_0", lambda request: service._routed(request), interrupt)
    code, out, err = run("jobs", "wait", "job_0", *(["--cancel-on-interrupt"] if cancel else []))
    assert (code, out) == (130, "")
    assert ("featherweight jobs wait job_0" in err) is not cancel
    assert service.jobs["job_0"]["state"] == ("cancelled" if cancel else "queued")


def test_interrupt_anywhere_else_is_130(run: Run, service: FakeService) -> None:
    def interrupt(request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    service.script("GET", "/v1/techniques", interrupt)
    assert run("techniques") == (130, "", "interrupted\n")


# -- the other commands, for people and for programs


COMMANDS: list[tuple[list[str], str]] = [
    (["jobs", "ls"], r"job_0 +succeeded .* smaller +2026-01-02 03:04:05 +digits"),
    (["jobs", "show", "job_0"], r"verdict +smaller"),
    (["jobs", "logs", "job_0"], r"one line\nanother \ufffd\[31mline"),
    (["jobs", "cancel", "job_0"], r"job_0 cancelled"),
    (["jobs", "wait", "job_0"], r"verdict: smaller"),
    (["download", "job_0", "-o", "."], r"model\.tflite"),
    (["report", "job_0"], r"conv2d +Conv2D +300 +0\.0% +80\.0% +80\.0%"),
    (["models", "ls"], r"mdl_0 +model\.keras +keras_zip +4,352"),
    (["models", "show", "mdl_0"], r"framework +tensorflow"),
    (["datasets", "ls"], r"id +file"),
    (["techniques"], r"prune +tensorflow +tflite +depends +The smallest weights become zero"),
    (["usage"], r"bytes stored +4,352 +1,000,000\n  models +4,352"),
    (["health"], r"ok \(version 9\)\n  redis: ok"),
    (["version"], r"featherweight \d"),
    (["check", json.dumps(SPEC)], r"valid: prune, finetune, quantize; outputs: tflite"),
]


@pytest.mark.parametrize(("argv", "shown"), COMMANDS, ids=lambda value: " ".join(value)[:24])
def test_command_shows_a_table_or_json_and_nothing_else(
    run: Run,
    service: FakeService,
    done: str,
    model_file: Path,
    argv: list[str],
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(model_file.parent)
    with service.client() as client:
        client.models.upload(model_file)
    code, out, err = run(*argv)
    assert code == 0
    assert re.search(shown, out)
    assert err == ""
    for position in (["--json", *argv], [*argv, "--json"]):
        code, out, err = run(*position)
        assert code == 0
        json.loads(out)
        assert err == ""


def test_show_has_every_attempt_and_where_it_went_on(run: Run, service: FakeService) -> None:
    times = {"started_at": "2026-01-02T03:04:05Z", "ended_at": "2026-01-02T03:05:00Z"}
    lost = {"number": 1, "worker": "one:7", "ended_because": "worker_lost", **times}
    place = {"step": 1, "epoch": 2, "round": None}
    going_on = {"number": 2, "worker": "two:9", "started_at": times["started_at"], "resumed_from": place}
    job = service.add_job(state="running", attempt=2, attempts=[lost, going_on])
    code, out, err = run("jobs", "show", job["id"])
    assert (code, err) == (0, "")
    assert [line.strip() for line in out.splitlines() if " on " in line] == [
        "attempt 1 on one:7: worker_lost; 2026-01-02 03:04:05 to 2026-01-02 03:05:00",
        "attempt 2 on two:9: running; went on in step 1 after epoch 2; 2026-01-02 03:04:05 to now",
    ]
    shown = json.loads(run("jobs", "show", job["id"], "--json")[1])
    assert [attempt["resumed_from"] for attempt in shown["attempts"]] == [None, place]


def test_events_are_json_lines_with_their_ids(run: Run, done: str) -> None:
    assert run("jobs", "events", done)[1].splitlines() == [
        "running (attempt 1)",
        " 50% step 1  loss=0.25",
        "poem: {'type': 'poem', 'verse': 'roses'}",
        "succeeded (attempt 1)",
    ]
    lines = run("jobs", "events", done, "--json", "--after", "2")[1].splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["3", "4"]


def test_import_of_a_data_set_prints_its_id(run: Run, service: FakeService) -> None:
    url = "https://models.example/digits.npz"
    assert run("datasets", "import", url, "--name", "d.npz", "--sha256", "0" * 64) == (0, "ds_0\n", "")
    sent = json.loads(service.requests[-1].content)
    assert sent == {"kind": "dataset", "url": url, "sha256": "0" * 64, "filename": "d.npz"}
    assert service.requests[-1].headers["Idempotency-Key"]


def test_upload_and_removal_of_a_model(run: Run, service: FakeService, model_file: Path) -> None:
    assert run("models", "upload", model_file) == (0, "mdl_0\n", "")
    assert run("models", "rm", "mdl_0", "--json")[1] == '{\n  "id": "mdl_0",\n  "deleted": true\n}\n'
    assert run("models", "show", "mdl_0")[0] == 5


def test_listing_goes_over_pages_up_to_the_limit(run: Run, service: FakeService) -> None:
    for _ in range(150):
        service.add_job()
    assert len(json.loads(run("jobs", "ls", "--json", "--limit", "120")[1])) == 120
    assert len(json.loads(run("jobs", "ls", "--json")[1])) == 20


def test_report_of_a_downloaded_file_needs_no_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(REPORT))
    assert cli.main(["report", str(path)]) == 0
    assert "95 % interval" in capsys.readouterr().out


def test_download_of_an_unknown_name_says_what_there_is(run: Run, done: str) -> None:
    code, _, err = run("download", done, "other.bin")
    assert code == 2
    assert "it has: model.tflite" in err


# -- exit codes


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("bad_request", 3),
        ("invalid_request", 3),
        ("payload_too_large", 3),
        ("unsupported_media_type", 3),
        ("unauthenticated", 4),
        ("forbidden", 4),
        ("not_found", 5),
        ("artifact_gone", 5),
        ("job_not_done", 6),
        ("rate_limited", 7),
        ("internal_error", 7),
        ("overloaded", 7),
    ],
)
def test_problem_has_the_exit_code_of_its_class(
    run: Run, service: FakeService, code: str, expected: int
) -> None:
    service.script("GET", "/v1/jobs/job_0", *[problem_answer(code) for _ in range(9)])
    result, out, err = run("jobs", "show", "job_0")
    assert (result, out) == (expected, "")
    assert f"({CODES[code].status} {code})" in err
    service.script("GET", "/v1/jobs/job_0", *[problem_answer(code) for _ in range(9)])
    result, out, err = run("jobs", "show", "job_0", "--json")
    assert (result, out) == (expected, "")
    assert json.loads(err)["error"]["problem"]["code"] == code


def test_no_connection_is_7(run: Run, service: FakeService) -> None:
    service.script("GET", "/v1/techniques", *[httpx.ConnectError("refused") for _ in range(9)])
    assert run("techniques")[0] == 7


def test_wrong_bytes_are_10(run: Run, service: FakeService, done: str, tmp_path: Path) -> None:
    service.script("GET", f"/{done}/model.tflite", httpx.Response(200, content=b"evil"))
    assert run("download", done, "-o", tmp_path)[0] == 10


def test_missing_file_and_missing_url_are_2(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("models", "upload", tmp_path / "nowhere.keras")[0] == 2
    assert run("compress", "mdl_1", "--spec", tmp_path / "nowhere.yaml")[0] == 2
    assert cli.main(["techniques"]) == 2
    assert "FEATHERWEIGHT_URL" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["jobs"],
        ["dance"],
        ["compress", "m.keras"],
        ["jobs", "ls", "--limit", "0"],
        ["jobs", "wait", "j", "--timeout", "soon"],
        ["jobs", "wait", "j", "--timeout", "nan"],
        ["compress", "m", "--spec", "s", "--metadata", "novalue"],
    ],
)
def test_wrong_usage_is_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(argv)
    assert raised.value.code == 2
    assert capsys.readouterr().out == ""


def test_every_error_has_an_exit_code_that_the_help_explains() -> None:
    explained = {int(number) for number in re.findall(r"^(\d+) ", exit_codes.__doc__ or "", re.MULTILINE)}
    assert {code for _, code in exit_codes.TABLE} | {0, exit_codes.DIFFERS, 130} == explained
    assert exit_codes.exit_code(errors.ChecksumMismatch("m", expected="a", actual="b")) == 10
    assert exit_codes.exit_code(errors.ConnectionFailed("refused", url="http://x")) == 7
    assert exit_codes.exit_code(FileNotFoundError("x")) == 2


def test_no_row_of_the_table_is_hidden_by_one_before_it() -> None:
    for position, (kind, _) in enumerate(exit_codes.TABLE):
        assert not any(issubclass(kind, before) for before, _ in exit_codes.TABLE[:position])


@pytest.mark.parametrize("argv", [["--help"], ["jobs", "wait", "--help"], ["compress", "--help"]])
def test_help_lists_the_exit_codes(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(argv)
    assert raised.value.code == 0
    assert "130  interrupted (Ctrl-C)" in capsys.readouterr().out


# -- the terminal


class _Terminal:
    def __init__(self) -> None:
        self.written = ""

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None:
        pass


def test_progress_line_shows_bytes_stages_and_warnings() -> None:
    terminal = _Terminal()
    line = ProgressLine(terminal)  # type: ignore[arg-type]
    line.bytes("upload", 5 * 1024**2, 5 * 1024**2)
    assert "100%  upload  5.0 MiB of 5.0 MiB" in terminal.written
    for event in (
        {"type": "stage", "stage": "finetune", "index": 3, "total": 7},
        {"type": "warning", "code": "slower", "message": "slower \x1b[2Jthan before"},
    ):
        line.event(EVENT.validate_python(event))
    assert "warning: slower \ufffd[2Jthan before\n" in terminal.written
    line._drawn_at = 0.0
    progress: dict[str, Any] = {
        "type": "progress",
        "stage": "finetune",
        "fraction": 0.5,
        "step": 3,
        "total": 9,
    }
    line.event(EVENT.validate_python({**progress, "eta_s": 75.0, "metrics": {"loss": 0.123456}}))
    assert (
        "[############............]  50%  finetune 4/7  3/9  loss 0.1235  eta 1 min 15 s" in terminal.written
    )


def test_no_progress_is_written_where_there_is_no_terminal(run: Run, done: str) -> None:
    assert run("jobs", "wait", done)[2] == ""


def test_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    program = f"{sys.executable} -m featherweight check '{json.dumps(SPEC)}' --json | true"
    ran = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False)
    assert ran.stderr == ""


def test_program_exits_with_the_code(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "featherweight", "check", "--json", '{"steps": []}'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 3
    assert ran.stdout == ""
    assert json.loads(ran.stderr)["error"]["errors"][0]["pointer"] == "/steps"
