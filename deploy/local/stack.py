"""The whole of Featherweight on 127.0.0.1: Redis, S3, the API and workers, each a real process."""

from __future__ import annotations

import atexit
import fcntl
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import httpx
import redis
from pydantic import BaseModel, Field, SecretStr

from deploy.local.object_store import ObjectStore, Ports
from deploy.local.processes import HOST, Process, StartError, free_port, wait_until
from deploy.local.redis_server import RedisServer, new_passwords
from tasks.messages import new_message_key
from tasks.queue import JOB_QUEUES, SCHEDULES, WEBHOOKS
from tasks.receipts import new_key
from tasks.settings import Settings

__all__ = ["LocalStack"]

ROOT = Path(__file__).parents[2]
_PROJECT = "local"
_COURIER_THREADS = 16


class _Identity(BaseModel):
    """What must be the same when a stack is started again in its directory."""

    redis_port: int
    redis_passwords: dict[str, str] = Field(default_factory=new_passwords)
    store_ports: Ports
    access_key_id: str
    secret_access_key: str
    api_key: str | None = None
    receipt_key: str | None = None
    message_key: str | None = None


class LocalStack:
    """The running service, with all its data in `directory`.

        with LocalStack(tmp_path) as stack:
            client = featherweight.Client(stack.url, api_key=stack.api_key)

    `port` is the API's, 0 for a free one. `redis_url` is a Redis to use instead of an own one.
    `queues` are those that each worker serves; left out, those of the frameworks that are installed.
    `overrides` are fields of Settings. Start and stop it in the same, long-lived thread: its
    processes are killed when the thread that made them dies.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        workers: int = 1,
        queues: Sequence[str] | None = None,
        redis_url: str | None = None,
        **overrides: Any,
    ) -> None:
        self.directory = directory.resolve()
        self.port = port or free_port()
        self.workers: list[Process] = []
        self.api: Process | None = None
        self.courier: Process | None = None
        self.schedulers: list[Process] = []
        self._made_schedulers = 0
        self._wanted_workers = workers
        self.queues = tuple(queues) if queues is not None else _installed()
        self._made_workers = 0
        self._locked: IO[bytes] | None = None
        self._overrides = overrides
        self._identity = self._load_identity()
        self.redis_server = None if redis_url else self._redis_server()
        self.object_store = self._object_store()
        self._redis_url = redis_url
        self.settings = self._settings(self._redis_url_of("api"))

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def api_key(self) -> str:
        """The key of the project "local". StartError before the stack was started."""
        if self._identity.api_key is None:
            raise StartError("the stack has no API key before it was started")
        return self._identity.api_key

    @property
    def redis(self) -> redis.Redis:
        """A new client of the stack's Redis that may do everything; close it."""
        return redis.Redis.from_url(self._redis_url_of("admin"))

    def start(self) -> LocalStack:
        """Start everything; returns when the API is ready. Started workers may still be loading."""
        self._lock()
        atexit.register(self.stop)
        try:
            if self.redis_server is not None:
                self.redis_server.start()
            self.object_store.start()
            for _ in range(self._wanted_workers):
                self.start_worker()
            self.start_courier()
            self.start_scheduler()
            # Redis is all that the command needs which makes a key: it need not wait for the API.
            with ThreadPoolExecutor(1) as pool:
                made = None if self._identity.api_key else pool.submit(self._create_key)
                self.start_api()
            self._ensure_api_key(None if made is None else made.result())
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End everything, callers first. Does nothing when nothing runs."""
        atexit.unregister(self.stop)
        # All are told at once, and then waited for.
        for process in (self.api, *self.workers, *self.schedulers, self.courier):
            if process is not None:
                process.terminate()
        if self.api is not None:
            self.api.stop(timeout_s=5)
            self.api = None
        while self.workers:
            self.workers.pop().stop(timeout_s=15)
        while self.schedulers:
            self.schedulers.pop().stop(timeout_s=5)
        if self.courier is not None:
            self.courier.stop(timeout_s=15)
            self.courier = None
        self.object_store.stop()
        if self.redis_server is not None:
            self.redis_server.stop()
        if self._locked is not None:
            self._locked.close()
            self._locked = None

    def __enter__(self) -> LocalStack:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start_api(self) -> None:
        """Start the API; returns when it says that it is ready."""
        self.api = self._process(
            "api",
            [
                "gunicorn",
                "--config",
                str(ROOT / "deploy" / "gunicorn.conf.py"),
                "--bind",
                f"{HOST}:{self.port}",
            ],
        )
        wait_until(
            self._check_ready, what="the API", process=self.api, timeout_s=60, retry=(httpx.HTTPError,)
        )

    def start_worker(self, queues: Sequence[str] | None = None) -> Process:
        """Start one more worker and return it; it takes jobs as soon as it has loaded. `queues` other than
        the stack's are those it serves."""
        self._made_workers += 1
        worker = self._celery(
            f"worker-{self._made_workers}",
            app="tasks",
            queues=list(self.queues if queues is None else queues),
            concurrency=self.settings.worker_concurrency,
        )
        self.workers.append(worker)
        return worker

    def start_courier(self) -> None:
        """Start the one that delivers webhooks and fires schedules."""
        self.courier = self._celery(
            "courier",
            app="tasks.courier",
            queues=[WEBHOOKS, SCHEDULES],
            concurrency=_COURIER_THREADS,
            redis_user="courier",
        )

    def _celery(
        self, name: str, *, app: str, queues: list[str], concurrency: int, redis_user: str = "worker"
    ) -> Process:
        arguments = ["--pool=threads", f"--concurrency={concurrency}", f"--queues={','.join(queues)}"]
        arguments += [f"--hostname={name}@{HOST}", f"--loglevel={self.settings.log_level}"]
        arguments += ["--without-gossip", "--without-mingle"]
        return self._process(name, ["celery", f"--app={app}", "worker", *arguments], redis_user=redis_user)

    def start_scheduler(self) -> Process:
        """Start one more scheduler and return it; of several one works."""
        self._made_schedulers += 1
        arguments = ["--pidfile=", f"--loglevel={self.settings.log_level}"]
        scheduler = self._process(
            f"scheduler-{self._made_schedulers}",
            ["celery", "--app=tasks.scheduler", "beat", *arguments],
            redis_user="worker",
        )
        self.schedulers.append(scheduler)
        return scheduler

    def kill_worker(self) -> None:
        """``kill -9`` of the newest worker's process alone: what hangs on it must notice by itself."""
        worker = self.workers.pop()
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()

    def processes(self) -> list[Process]:
        """All that should be running."""
        servers = [self.object_store.process, self.redis_server.process if self.redis_server else None]
        return [
            process
            for process in (*servers, self.api, self.courier, *self.schedulers, *self.workers)
            if process is not None
        ]

    def _process(self, name: str, command: list[str], *, redis_user: str = "api") -> Process:
        program = Path(sys.executable).with_name(command[0])
        return Process(
            name,
            [program, *command[1:]],
            log=self.directory / "logs" / f"{name}.log",
            environment=self.environment(redis_user),
            directory=ROOT,
        )

    def environment(self, redis_user: str = "api") -> dict[str, str]:
        """What the service's processes are given: the settings and the bare necessities, nothing of ours."""
        settings = self.settings.model_copy(update={"redis_url": self._redis_url_of(redis_user)})
        values = {
            f"{Settings.model_config['env_prefix']}{name.upper()}": _plain(value)
            for name, value in settings
            if value is not None
        }
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            **values,
        }

    def _check_ready(self) -> None:
        httpx.get(f"{self.url}/readyz", timeout=5).raise_for_status()

    def _ensure_api_key(self, made: str | None) -> None:
        """Ask for a key once and keep it: the service keeps only its hash. `made` is a new one."""
        if made is None and (self._identity.api_key is None or not self._accepts(self._identity.api_key)):
            made = self._create_key()
        if made is not None:
            self._identity.api_key = made
            self._save_identity()

    def _accepts(self, key: str) -> bool:
        answer = httpx.get(
            f"{self.url}/v1/techniques", headers={"Authorization": f"Bearer {key}"}, timeout=30
        )
        return answer.status_code != httpx.codes.UNAUTHORIZED

    def _create_key(self) -> str:
        flask = Path(sys.executable).with_name("flask")
        made = subprocess.run(  # noqa: S603 - our own command
            [flask, "--app", "service", "keys", "create", "--project", _PROJECT, "--scope", "admin"],
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        found = re.search(r"\bfw_\S+", made.stdout)
        if made.returncode != 0 or found is None:
            raise StartError(f"no API key could be made (exit code {made.returncode})\n{made.stderr}")
        return found[0]

    def _redis_url_of(self, user: str) -> str:
        return self._redis_url or self._redis_server().url(user)

    def _redis_server(self) -> RedisServer:
        return RedisServer(
            self.directory / "redis",
            passwords=self._identity.redis_passwords,
            port=self._identity.redis_port,
        )

    def _object_store(self) -> ObjectStore:
        return ObjectStore(
            self.directory / "object-store",
            access_key_id=self._identity.access_key_id,
            secret_access_key=self._identity.secret_access_key,
            ports=self._identity.store_ports,
        )

    def _settings(self, redis_url: str) -> Settings:
        values: dict[str, Any] = {
            "redis_url": redis_url,
            "message_keys": SecretStr(self._message_key()),
            "s3_endpoint_url": self.object_store.endpoint_url,
            "s3_region": self.object_store.region,
            "s3_bucket": self.object_store.bucket,
            "s3_access_key_id": SecretStr(self.object_store.access_key_id),
            "s3_secret_access_key": SecretStr(self.object_store.secret_access_key),
            "scratch_dir": self.directory / "scratch",
            "receipt_key": SecretStr(self._receipt_key()),
        }
        return Settings(**{**values, **self._overrides})

    def _receipt_key(self) -> str:
        """Made once and kept, so that receipts of earlier runs are still known by their key."""
        if self._identity.receipt_key is None:
            self._identity.receipt_key = new_key()
            self._save_identity()
        return self._identity.receipt_key

    def _message_key(self) -> str:
        """Made once and kept, so that what waits in the queue is still accepted."""
        if self._identity.message_key is None:
            self._identity.message_key = new_message_key()
            self._save_identity()
        return self._identity.message_key

    def _lock(self) -> None:
        # Two stacks on the same data would destroy it. The kernel gives the lock back, whatever happens.
        lock = (self.directory / "lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._locked = lock
        except BlockingIOError:
            lock.close()
            raise StartError(f"a stack is already running in {self.directory}") from None

    def _load_identity(self) -> _Identity:
        path = self.directory / "identity.json"
        if path.exists():
            self._identity = _Identity.model_validate_json(path.read_bytes())
            self._identity.redis_passwords = {**new_passwords(), **self._identity.redis_passwords}
            # What an earlier version did not have is made now and kept.
            self._save_identity()
            return self._identity
        self._identity = _Identity(
            redis_port=free_port(),
            store_ports=Ports.free(),
            access_key_id=secrets.token_hex(10),
            secret_access_key=secrets.token_urlsafe(30),
        )
        self._save_identity()
        return self._identity

    def _save_identity(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "identity.json"
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_text(self._identity.model_dump_json(indent=2))


def _installed() -> tuple[str, ...]:
    """The queues of the frameworks that this Python has; a queue is named as its framework's package is."""
    return tuple(name for name in JOB_QUEUES if find_spec(name) is not None)


def _plain(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value)
