"""The local parts are the real thing: they keep data, ask for passwords, and never stay behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
import redis
from botocore.exceptions import ClientError
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.local.object_store import ObjectStore
from deploy.local.processes import GRPC_OFFSET, Process, StartError, free_port, is_free, wait_until
from deploy.local.redis_server import RedisServer, find_redis_server


def test_a_port_is_given_out_once_and_with_its_grpc_twin_free() -> None:
    ports = [free_port(with_grpc=True) for _ in range(50)]
    assert len(set(ports)) == 50
    assert all(is_free(port) and is_free(port + GRPC_OFFSET) for port in ports)
    assert max(ports) + GRPC_OFFSET < 65_536


def test_a_port_that_is_listened_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_free(server.getsockname()[1])


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


def _expect(text: str, path: Path) -> None:
    if text not in path.read_text():
        raise OSError(f"no {text!r} yet")
