"""The sandbox by itself: what it refuses, whom it makes of root, and what a worker does where it fails."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.presence import Presence, WorkerStatus, workers
from tasks.readiness import become_ready
from tasks.sandbox import landlock, seccomp
from tasks.sandbox.children import Runners
from tasks.sandbox.disk import DiskUse
from tasks.sandbox.lockdown import DEFAULT, Limits, Sandbox, lock_down
from tasks.sandbox.probe import MUST_WORK
from tasks.sandbox.removal import remove_tree
from tasks.sandbox.selftest import SandboxLeaks, check, probe
from tasks.sandbox.syscalls import ALLOWED, DEADLY, EXAMINED, PRETENDED, REFUSED
from tests.tasks.conftest import eventually

UNISTD = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
TABLES = (ALLOWED, EXAMINED, PRETENDED, REFUSED, DEADLY)
NEVER = ("worker's environment", "worker's memory", "trace the worker", "parent's environment")


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that any user can go through."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def confined(
    scratch: Path, act: Callable[[], Any], *, sandbox: Sandbox = DEFAULT, **options: Any
) -> tuple[Any, int]:
    """What `act` answers in a process that is locked down, and how that process ended."""
    (scratch / "home").mkdir(exist_ok=True)
    parent = os.getpid()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            keep = frozenset({0, 1, 2, writing})
            options.setdefault("limits", Limits())
            lock_down(scratch, parent=parent, keep_fds=keep, sandbox=sandbox, **options)
            try:
                answer = act()
            except OSError as error:
                answer = errno.errorcode[error.errno or 0]
            os.write(writing, json.dumps(answer).encode())
        except BaseException as error:  # noqa: BLE001
            os.write(writing, json.dumps(f"{type(error).__name__}: {error}").encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    return json.loads(said) if said else None, os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize("abi", [2, 3, 4, 5, 6])
def test_every_access_is_blocked_with_every_version_of_landlock(
    runners: Runners, tmp_path: Path, abi: int
) -> None:
    found = probe(runners, Sandbox(landlock_abi=abi), tmp_path)
    assert {name for name, outcome in found.items() if outcome == "allowed"} == MUST_WORK
    assert len(found) > 25
    assert list(tmp_path.glob(".selftest-*")) == []


def test_probe_gets_through_where_nothing_confines_it(runners: Runners, tmp_path: Path) -> None:
    found = probe(runners, Sandbox("external"), tmp_path)
    blocked = {name for name, outcome in found.items() if outcome == "blocked"}
    # These are refused to a process of another user, or of fewer capabilities, whatever the sandbox.
    assert blocked <= set(NEVER)
    with pytest.raises(SandboxLeaks, match=r"read a file.*TCP connection.*start a program"):
        check(runners, Sandbox("external"), tmp_path)


def test_landlock_too_old_for_renames_is_no_sandbox(runners: Runners, tmp_path: Path) -> None:
    with pytest.raises(SandboxLeaks, match=r"Landlock has ABI 1 here; ABI 2 \(Linux 5\.19\)"):
        check(runners, Sandbox(landlock_abi=1), tmp_path)


def test_kernel_without_landlock_is_no_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(landlock, "syscall", absent)
    answer, _ = confined(tmp_path, lambda: "still running")
    assert answer == "Unavailable: [Errno 38] the kernel has no Landlock, or what it runs under hides it"


def test_unknown_processor_is_no_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "machine", lambda: "riscv64")
    answer, _ = confined(tmp_path, lambda: "still running")
    assert answer == "UnknownMachine: [Errno 95] there is no system call filter for riscv64"


def test_process_of_several_threads_is_not_confined_by_half(tmp_path: Path) -> None:
    def lock() -> str:
        import threading

        over = threading.Event()
        threading.Thread(target=over.wait).start()
        try:
            lock_down(tmp_path, Limits(), parent=os.getppid(), keep_fds=frozenset(range(64)))
        except RuntimeError as error:
            return str(error)
        finally:
            over.set()
        return "confined"

    answer, _ = confined(tmp_path, lock, sandbox=Sandbox("external"))
    assert answer == "a process of several threads cannot be confined"


def test_scratch_folder_can_be_for_reading_alone(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("x")

    def act() -> list[str]:
        with pytest.raises(PermissionError):
            (tmp_path / "made").touch()
        return [(tmp_path / "model").read_text(), *sorted(os.listdir(tmp_path))]

    assert confined(tmp_path, act, writable=False) == (["x", "home", "model"], 0)


def test_more_can_be_made_readable(tmp_path: Path) -> None:
    scratch, other = tmp_path / "scratch", tmp_path / "other"
    scratch.mkdir()
    other.write_text("x")
    assert confined(scratch, other.read_text)[0] == "EACCES"
    assert confined(scratch, other.read_text, read=[other])[0] == "x"


def test_permissions_are_said_to_be_changed_and_are_not(tmp_path: Path) -> None:
    made = tmp_path / "made"

    def act() -> int:
        made.touch(0o600)
        made.chmod(0o777)
        return stat.S_IMODE(made.stat().st_mode)

    assert confined(tmp_path, act)[0] == 0o600
    assert confined(tmp_path, lambda: os.utime(made, (1, 1)))[0] == "EPERM"


def test_streams_of_a_pair_work_and_datagrams_are_refused(tmp_path: Path) -> None:
    def stream() -> str:
        first, second = socket.socketpair()
        first.sendall(b"x")
        return second.recv(1).decode()

    assert confined(tmp_path, stream)[0] == "x"
    assert confined(tmp_path, lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))[0] == "EPERM"


def test_deadly_call_ends_the_process_with_sigsys(tmp_path: Path) -> None:
    def act() -> None:
        import ctypes

        ctypes.CDLL(None).unshare(0)

    assert confined(tmp_path, act) == (None, -31)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_becomes_a_user_of_its_own_who_dies_with_its_parent(folder: Path) -> None:
    def act() -> dict[str, Any]:
        status = Path("/proc/self/status").read_text()
        (folder / "made").touch()
        return {
            "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
            "capabilities": re.findall(r"Cap(?:Inh|Prm|Eff|Amb):\s+(\w+)", status),
            "oom": Path("/proc/self/oom_score_adj").read_text().strip(),
            "privileges": re.findall(r"NoNewPrivs:\s+(\d)", status),
            "dies_with_parent": _death_signal(),
        }

    answer, _ = confined(folder, act, sandbox=Sandbox("external", uid=61_234))
    assert answer == {
        "ids": [61_234] * 6,
        "capabilities": ["0" * 16] * 4,
        "oom": "1000",
        "privileges": ["1"],
        "dies_with_parent": 9,
    }
    assert (folder / "made").stat().st_uid == 61_234
    answer, _ = confined(folder, lambda: os.getuid(), sandbox=Sandbox(uid=61_234))
    assert answer == 61_234


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to lose")
def test_root_that_stays_has_no_capability(tmp_path: Path) -> None:
    def act() -> list[str]:
        return re.findall(r"Cap(?:Prm|Eff):\s+(\w+)", Path("/proc/self/status").read_text())

    assert confined(tmp_path, act)[0] == ["0" * 16] * 2


def _death_signal() -> int:
    import ctypes

    signal = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(2, ctypes.byref(signal), 0, 0, 0)
    return signal.value


def test_tables_of_system_calls_do_not_overlap() -> None:
    names = [name for table in TABLES for name in table]
    assert len(names) == len(set(names))
    for machine in (0, 1):
        numbers = [n for table in TABLES for entry in table.values() if (n := entry[machine]) is not None]
        assert len(numbers) == len(set(numbers))


@pytest.mark.skipif(not UNISTD.exists(), reason="the kernel's headers are not installed")
def test_numbers_of_system_calls_are_the_kernels() -> None:
    known = dict(re.findall(r"#define __NR_(\w+) (\d+)", UNISTD.read_text()))
    ours = {name: entry[0] for table in TABLES for name, entry in table.items() if entry[0] is not None}
    assert {name: int(known[name]) for name in ours if name in known} == {
        name: number for name, number in ours.items() if name in known
    }
    assert len(set(ours) - set(known)) <= 1


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter_is_a_program_the_kernel_can_load(machine: str) -> None:
    program = seccomp.filter_program(machine, 1234, truncate=False)
    steps = len(program) // 8
    assert 400 < steps < 4096
    for index in range(steps):
        code, yes, no = program[8 * index] | program[8 * index + 1] << 8, *program[8 * index + 2 :][:2]
        if code in (0x15, 0x35):
            assert index + 1 + max(yes, no) < steps


def test_disk_use_counts_what_is_on_disk_and_looks_now_and_then(tmp_path: Path) -> None:
    now = [0.0]
    use = DiskUse(tmp_path, max_bytes=1 << 20, max_files=3, clock=lambda: now[0])
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 30)
    assert use.excess() is None
    (tmp_path / "full").write_bytes(b"x" * (2 << 20))
    now[0] += 1.0
    assert use.excess() == "more than 1048576 bytes"
    (tmp_path / "full").unlink()
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    now[0] += 1.0
    assert use.excess() == "more than 3 files"


def test_any_tree_can_be_removed(tmp_path: Path) -> None:
    top, outside = tmp_path / "top", tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    top.mkdir()
    (top / "link").symlink_to(outside)
    (top / ".removing-1").mkdir()
    here = os.getcwd()
    os.chdir(top)
    try:
        for number in range(1500):
            os.mkdir("folder-in-folder")
            os.chdir("folder-in-folder")
            if number % 500 == 0:
                Path("file").touch()
    finally:
        os.chdir(here)
    (top / "closed" / "in").mkdir(parents=True)
    (top / "closed" / "in" / "file").touch()
    (top / "closed" / "in").chmod(0)
    (top / "closed").chmod(0)
    remove_tree(top)
    remove_tree(top)
    assert not top.exists()
    assert (outside / "file").exists()


class Stopping:
    """Stops a worker after it has waited once."""

    def __init__(self) -> None:
        self.over = False

    def is_set(self) -> bool:
        return self.over

    def wait(self, _timeout: float) -> bool:
        self.over = True
        return True


@pytest.mark.parametrize("kind", ["landlock", "external"])
def test_worker_is_ready_once_its_sandbox_holds(
    settings: Any, redis_client: Any, runners: Runners, kind: str
) -> None:
    presence = Presence(redis_client, "worker-1")
    settings = settings.model_copy(update={"sandbox": kind})
    stopping: Any = Stopping()
    assert become_ready(settings, runners, presence, stopping)
    assert workers(redis_client) == {"worker-1": WorkerStatus(state="ready", sandbox=kind)}
    presence.stop()
    assert workers(redis_client) == {}


def test_worker_whose_sandbox_fails_is_not_ready_and_says_why(
    settings: Any, redis_client: Any, runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.readiness.chosen_sandbox", lambda _: Sandbox("external"))
    presence = Presence(redis_client, "worker-1")
    presence.start()
    eventually(lambda: workers(redis_client))
    stopping: Any = Stopping()
    assert not become_ready(settings, runners, presence, stopping)
    (status,) = workers(redis_client).values()
    assert status.state == "unusable"
    assert status.why.startswith("the sandbox lets through: read a file")
    presence.stop()


def test_machine_is_one_we_have_a_filter_for() -> None:
    assert platform.machine() in ("x86_64", "aarch64")


def test_exit_code_of_a_plan_without_sandbox_is_known_to_the_service() -> None:
    from tasks import plan_process, plans

    assert plans._ended(plan_process.CANNOT_CONFINE, 30) == (
        "files cannot be read safely here: the service has no sandbox"
    )
