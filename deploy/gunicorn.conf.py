# ruff: noqa: N999 - the name gunicorn looks for
"""How gunicorn serves the API: ``gunicorn --config deploy/gunicorn.conf.py``.

Threads, because what holds a request here is waiting: for Redis, for S3, for a job. Event streams
and long polls keep a thread each, so there are many; with few, health checks would starve.
"""

import os
import shutil
import tempfile
from typing import Any

from prometheus_client import multiprocess

# Where its processes add up what they count; it has to be empty at the start and known before the
# application is imported.
_METRICS = tempfile.mkdtemp(prefix="featherweight-metrics-")
os.environ["PROMETHEUS_MULTIPROC_DIR"] = _METRICS

wsgi_app = "service:create_app()"
bind = "0.0.0.0:8080"

worker_class = "gthread"
workers = 2
threads = 64
keepalive = 30
# The heartbeat file of each worker: on memory, for a slow disk must not look like a hung worker.
worker_tmp_dir = "/dev/shm"  # noqa: S108
# What is under way when we are told to stop has this long; streams are resumed by their clients.
graceful_timeout = 20

accesslog = "-"
# No query string: it may name files. %(D)s is in microseconds.
access_log_format = '%(h)s "%(m)s %(U)s" %(s)s %(B)s %(D)sus "%({x-request-id}o)s"'

# Its socket would be one more door; the process manager tells us what to do by signals.
control_socket_disable = True


def child_exit(server: Any, worker: Any) -> None:
    """Gauges of a process that is gone are not counted."""
    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:
    shutil.rmtree(_METRICS, ignore_errors=True)
