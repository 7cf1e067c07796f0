# ruff: noqa: N999 - the name gunicorn looks for
"""How gunicorn serves the API: ``gunicorn --config deploy/gunicorn.conf.py``.

Threads, because what holds a request here is waiting: for Redis, for S3, for a job. Event streams
and long polls keep a thread each, so there may be many; they are made when they are needed, and one that
waits costs some tens of kilobytes.
"""

import os
import resource
import shutil
import signal
import tempfile
from typing import Any

from prometheus_client import multiprocess

from tasks.settings import Settings

# Where its processes add up what they count; it has to be empty at the start and known before the
# application is imported.
_METRICS = tempfile.mkdtemp(prefix="featherweight-metrics-")
os.environ["PROMETHEUS_MULTIPROC_DIR"] = _METRICS

wsgi_app = "service:create_app()"
bind = "0.0.0.0:8080"

worker_class = "gthread"
workers = 2
# Those who find no place are told so by a thread, too, and so are those who ask whether we live.
_settings = Settings()
threads = _settings.working_requests + _settings.waiting_requests + 64
# Those whose next request is awaited included.
worker_connections = 2 * threads
keepalive = 30
# The heartbeat file of each worker: on memory, for a slow disk must not look like a hung worker.
worker_tmp_dir = "/dev/shm"  # noqa: S108
# What is under way when we are told to stop has this long. Long polls are answered and event streams ended
# within five seconds; their clients come back to whoever serves then.
graceful_timeout = 20

accesslog = "-"
# No query string: it may name files. %(D)s is in microseconds.
access_log_format = '%(h)s "%(m)s %(U)s" %(s)s %(B)s %(D)sus "%({x-request-id}o)s"'

# Its socket would be one more door; the process manager tells us what to do by signals.
control_socket_disable = True


def on_starting(server: Any) -> None:
    """A connection to a caller and one to Redis for each that waits: many systems begin with 1024 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = worker_connections + 2 * threads
    if hard == resource.RLIM_INFINITY or hard > soft:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def post_worker_init(worker: Any) -> None:
    """Tell what waits when the process is to end, and then do what gunicorn does."""
    closing = worker.wsgi.extensions["featherweight"].closing
    end = signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: Any) -> None:
        closing.set()
        end(number, frame)  # type: ignore[operator, misc]

    signal.signal(signal.SIGTERM, stop)


def child_exit(server: Any, worker: Any) -> None:
    """Gauges of a process that is gone are not counted."""
    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:
    shutil.rmtree(_METRICS, ignore_errors=True)
