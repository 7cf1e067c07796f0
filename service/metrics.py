"""``/metrics``: requests by route and status, how long they took, and the state of everything else.

With more than one process, as under gunicorn, set PROMETHEUS_MULTIPROC_DIR to an empty folder, else
every scrape shows the process it happens to meet.
"""

from __future__ import annotations

import os
import time

from flask import Blueprint, Flask, Response, current_app, g, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from service.auth import public
from service.openapi import Text, operation
from service.services import services
from service.state_metrics import StateMetrics

__all__ = ["bp", "init_app"]

bp = Blueprint("metrics", __name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class _RequestMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        labels = ("method", "route")
        self.count = Counter(
            "featherweight_http_requests", "Requests answered.", (*labels, "status"), registry=registry
        )
        self.seconds = Histogram(
            "featherweight_http_request_seconds",
            "Time until the answer began.",
            labels,
            buckets=_BUCKETS,
            registry=registry,
        )


def init_app(app: Flask) -> None:
    app.extensions["featherweight.metrics"] = _RequestMetrics(CollectorRegistry())
    app.before_request(_begin)
    app.after_request(_count)


@bp.get("/metrics")
@public
@operation(summary="Metrics for Prometheus", answers={200: Text("text/plain", "The exposition format.")})
def show() -> Response:
    registry = CollectorRegistry()
    registry.register(StateMetrics(services()))
    return Response(_request_metrics() + generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _request_metrics() -> bytes:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(_metrics().registry)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _metrics() -> _RequestMetrics:
    metrics: _RequestMetrics = current_app.extensions["featherweight.metrics"]
    return metrics


def _begin() -> None:
    g.counted_from = time.perf_counter()


def _count(response: Response) -> Response:
    # Labels come from fixed sets: no caller can make series without end.
    route = request.url_rule.rule if request.url_rule else "none"
    method = request.method if request.method in _METHODS else "other"
    metrics = _metrics()
    metrics.count.labels(method, route, response.status_code).inc()
    metrics.seconds.labels(method, route).observe(time.perf_counter() - g.counted_from)
    return response
