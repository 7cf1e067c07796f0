"""The users of ``deploy/redis.acl``: what they may do is shown by all other tests, what they may not here."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.local.processes import HOST, Process, free_port, wait_until
from deploy.local.redis_server import USERS, RedisServer, find_redis_server, users_file
from deploy.local.stack import LocalStack

ROOT = Path(__file__).parents[2]
DENIED = redis.exceptions.NoPermissionError


@pytest.fixture(params=["api", "worker", "courier"])
def member(
    request: pytest.FixtureRequest, redis_server: RedisServer, redis_admin: redis.Redis
) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url(request.param)) as client:
        yield client


@pytest.fixture
def worker(redis_server: RedisServer, redis_admin: redis.Redis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url("worker")) as client:
        yield client


@pytest.mark.parametrize("command", [
    "CONFIG SET dir /", "CONFIG GET *", "KEYS *", "SCAN 0", "RANDOMKEY", "FLUSHALL", "FLUSHDB", "SHUTDOWN",
    "SAVE", "REPLICAOF 127.0.0.1 1", "MODULE LIST", "ACL LIST", "ACL SETUSER default on", "DEBUG SLEEP 0",
    "CLIENT LIST", "CLIENT KILL TYPE normal", "SCRIPT FLUSH", "SLOWLOG GET", "SWAPDB 0 1", "LATENCY LATEST",
    "MONITOR", "GET foreign", "SET foreign 1", "LPUSH celery x", "DEL foreign", "SUBSCRIBE any",
    "PUBLISH any x",
])  # fmt: skip
def test_service_and_workers_may_not(member: redis.Redis, command: str) -> None:
    with pytest.raises(DENIED):
        member.execute_command(*command.split())


def test_a_script_may_no_more_than_its_user(member: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError, match="can't access at least one of the keys"):
        member.eval("return redis.call('GET', 'foreign')", 0)


def test_workers_come_near_no_keys_of_callers(worker: redis.Redis, redis_admin: redis.Redis) -> None:
    redis_admin.set("fw:key:registry:key_a", "record")
    for command in (
        ("GET", "fw:key:registry:key_a"),
        ("SET", "fw:key:registry:key_b", "forged"),
        ("ZADD", "fw:keys:registry", 1, "key_b"),
        ("GET", "fw:idempotency:acme:x"),
        ("GET", "fw:kwh:whe_a"),
        ("SET", "fw:kwh:whe_a", "forged"),
    ):
        with pytest.raises(DENIED):
            worker.execute_command(*command)


def test_the_courier_has_the_secrets_of_webhooks_and_no_other(
    redis_server: RedisServer, redis_admin: redis.Redis
) -> None:
    redis_admin.set("fw:kwh:whe_a", "[]")
    with redis.Redis.from_url(redis_server.url("courier")) as courier:
        assert courier.get("fw:kwh:whe_a") == b"[]"
        for name in ("fw:key:registry:key_a", "fw:keys:registry", "fw:idempotency:acme:x"):
            with pytest.raises(DENIED):
                courier.get(name)


def test_nobody_comes_in_without_a_name_and_health_only_pings(redis_server: RedisServer) -> None:
    for password in ("", "guess", "none"):
        client = redis.Redis(port=redis_server.port, password=password, retry=Retry(NoBackoff(), 0))
        with client, pytest.raises(redis.AuthenticationError):
            client.ping()
    with redis.Redis.from_url(f"redis://health:none@{HOST}:{redis_server.port}") as client:
        assert client.ping()
        with pytest.raises(DENIED):
            client.execute_command("GET", "fw:sequence")


def test_secrets_lie_in_files_of_their_owner_and_redis_is_given_hashes(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path)
    assert stack.redis_server is not None
    with stack.redis_server as server:
        secret_files = [tmp_path / "identity.json", *(tmp_path / "redis").glob("*.acl")]
        assert len(secret_files) == 2
        assert {stat.S_IMODE(path.stat().st_mode) for path in secret_files} == {0o600}
        password = server.url("api").split(":")[2].split("@")[0]
        assert password in secret_files[0].read_text()
        assert password not in secret_files[1].read_text()


def test_every_stack_has_secrets_of_its_own(tmp_path: Path) -> None:
    one, other = LocalStack(tmp_path / "one").settings, LocalStack(tmp_path / "other").settings
    for name in ("redis_url", "message_keys", "s3_access_key_id", "s3_secret_access_key", "receipt_key"):
        assert getattr(one, name) != getattr(other, name)


def test_the_container_starts_redis_with_the_same_users(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(find_redis_server())
    shutil.copy(ROOT / "deploy" / "redis.sh", tmp_path)
    shutil.copy(ROOT / "deploy" / "redis.acl", tmp_path)
    passwords = {user: f"password of {user} / & \\ '" for user in USERS}
    port = free_port()
    process = Process(
        "redis.sh",
        ["sh", tmp_path / "redis.sh", "--port", str(port), "--bind", HOST],
        log=tmp_path / "log",
        directory=tmp_path,
        environment={
            "PATH": f"{tmp_path / 'bin'}:{os.defpath}",
            "TMPDIR": str(tmp_path),
            **{f"REDIS_{user.upper()}_PASSWORD": password for user, password in passwords.items()},
        },
    )
    try:
        for user, password in passwords.items():
            with redis.Redis(
                port=port, username=user, password=password, retry=Retry(NoBackoff(), 0)
            ) as client:
                wait_until(client.ping, what="Redis", process=process, retry=(redis.ConnectionError,))
        written = tmp_path / "users.acl"
        assert written.read_text() == users_file(passwords)
        assert stat.S_IMODE(written.stat().st_mode) == 0o600
    finally:
        process.stop()


def test_the_container_does_not_start_redis_with_an_empty_password(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", ROOT / "deploy" / "redis.sh"],
        env={"PATH": os.defpath, "TMPDIR": str(tmp_path), "REDIS_API_PASSWORD": "a"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "a password of Redis is empty" in done.stderr
    assert not (tmp_path / "users.acl").exists()
