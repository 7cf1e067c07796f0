"""The local parts are the real thing: they keep data, ask for passwords, and never stay behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import httpx
import psutil
import pytest
import redis
from botocore.exceptions import ClientError
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.local.object_store import ObjectStore
from deploy.local.processes import GRPC_OFFSET, HOST, Process, StartError, free_port, keep_port, wait_until
from deploy.local.redis_server import RedisServer, find_redis_server

_MANY = 100


def test_processes_that_choose_ports_at_the_same_time_never_get_the_same() -> None:
    # All with the same seed, as processes have that train.
    program = f"""
import random, sys
from deploy.local.processes import free_port
random.seed(0)
sys.stdin.readline()
ports = [free_port(with_grpc=True) for _ in range({_MANY})]
ports += [port + {GRPC_OFFSET} for port in ports] + [free_port() for _ in range({_MANY})]
print(*ports, flush=True)
sys.stdin.readline()
"""
    choosers = [
        subprocess.Popen([sys.executable, "-c", program], stdin=PIPE, stdout=PIPE, text=True)
        for _ in range(3)
    ]
    try:
        for chooser in choosers:
            _say_go(chooser)
        ports = [[int(port) for port in _line(chooser).split()] for chooser in choosers]
    finally:
        for chooser in choosers:
            chooser.communicate()
    chosen = [port for each in ports for port in each]
    assert len(chosen) == 3 * 3 * _MANY
    assert len(set(chosen)) == len(chosen)
    assert max(chosen) < _first_outgoing()


def test_a_server_and_the_next_can_listen_on_a_port_that_was_given_out() -> None:
    port = free_port()
    for _ in range(2):
        with socket.create_server((HOST, port)), socket.create_connection((HOST, port)):
            pass
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((HOST, port))


def test_a_port_that_is_listened_on_cannot_be_kept() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(StartError, match=f"port {port} .* is taken"):
            keep_port(port)


def test_a_part_whose_kept_port_is_taken_says_so(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(StartError, match=f"port {port} .* is taken"):
            RedisServer(tmp_path / "redis", port=port).start()
        ports = ObjectStore(tmp_path / "store").ports._replace(filer=port)
        with pytest.raises(StartError, match=f"port {port} .* is taken"):
            ObjectStore(tmp_path / "store", ports=ports).start()


def test_a_process_that_ends_early_shows_its_log(tmp_path: Path) -> None:
    process = Process("doomed", [sys.executable, "-c", "print('out of luck'); exit(3)"], log=tmp_path / "log")
    with pytest.raises(StartError, match=r"(?s)doomed ended with exit code 3.*out of luck"):
        wait_until(
            lambda: socket.create_connection(("127.0.0.1", free_port())), what="doomed", process=process
        )


def test_stop_insists_when_sigterm_is_ignored(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    process = Process("stubborn", [sys.executable, "-c", code], log=tmp_path / "log")
    wait_until(lambda: _expect("up", tmp_path / "log"), what="stubborn", process=process)
    assert process.stop(timeout_s=0.2) == -signal.SIGKILL


def test_redis_asks_for_its_password_and_evicts_nothing(redis_server: RedisServer) -> None:
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=redis_server.port, retry=Retry(NoBackoff(), 0)).ping()
    client = redis.Redis.from_url(redis_server.url("admin"), decode_responses=True)
    assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    assert client.config_get("appendonly")["appendonly"] == "yes"
    client.close()


def test_redis_has_its_data_after_a_restart(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    with server, redis.Redis.from_url(server.url("admin")) as client:
        client.set("job", "queued")
    with server, redis.Redis.from_url(server.url("admin")) as client:
        assert client.get("job") == b"queued"


def test_no_redis_anywhere_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StartError, match=r"apt-get install redis-server.*REDIS_URL"):
        find_redis_server()


def test_the_object_store_refuses_wrong_keys_and_keeps_objects_over_a_crash(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "data")
    with store:
        client = store.client()
        client.put_object(Bucket=store.bucket, Key="a/model.bin", Body=b"weights")
        stranger = ObjectStore(
            tmp_path / "other", access_key_id=store.access_key_id, ports=store.ports
        ).client()
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            stranger.get_object(Bucket=store.bucket, Key="a/model.bin")
        store.kill()
        store.start()
        assert client.get_object(Bucket=store.bucket, Key="a/model.bin")["Body"].read() == b"weights"
        client.close()
        stranger.close()


def test_the_object_store_answers_nobody_without_keys_on_any_port(object_store: ObjectStore) -> None:
    client = object_store.client()
    client.put_object(Bucket=object_store.bucket, Key="secret.bin", Body=b"weights")
    assert httpx.get(f"{object_store.endpoint_url}/{object_store.bucket}/secret.bin").status_code == 403
    path = f"/buckets/{object_store.bucket}/secret.bin"
    assert httpx.get(f"http://127.0.0.1:{object_store.ports.filer}{path}").status_code == 401
    assert httpx.delete(f"http://127.0.0.1:{object_store.ports.filer}{path}").status_code == 401
    client.close()


def test_the_object_store_listens_on_loopback_only(object_store: ObjectStore) -> None:
    assert object_store.process is not None
    addresses = {
        connection.laddr.ip
        for connection in psutil.Process(object_store.process.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_the_parts_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from deploy.local.object_store import ObjectStore
from deploy.local.redis_server import RedisServer
redis = RedisServer(Path({str(tmp_path / "redis")!r})).start()
store = ObjectStore(Path({str(tmp_path / "store")!r})).start()
print(redis.process.pid, store.process.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while any(map(psutil.pid_exists, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, children))


def _say_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _first_outgoing() -> int:
    """The lowest port that the kernel gives an outgoing connection."""
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def _expect(text: str, path: Path) -> None:
    if text not in path.read_text():
        raise OSError(f"no {text!r} yet")
