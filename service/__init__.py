"""The HTTP service: ``create_app`` wires it together, and nothing more.

A module per resource holds a blueprint: uploads, imports, models, datasets, jobs, techniques, health,
metrics, problems, plans, usage, projects, audit, openapi, index. What they share:

    auth        API keys, their project and their scope    (keys, key_commands)
    throttle    requests per second of a project
    quotas      what else a project may use                (usage, limit_commands)
    audit       who did what                               (auditlog)
    bodies      strict JSON and streamed files             (strict_json, receiving, multipart, sniffing)
    errors      exceptions to RFC 9457 problems
    idempotency Idempotency-Key                            (locks)
    requestlog  request ids, log lines, headers            (redaction)
    services    what views work with: stores, storage, queue
"""

from __future__ import annotations

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from service import (
    audit,
    auth,
    bodies,
    datasets,
    errors,
    health,
    imports,
    index,
    jobs,
    key_commands,
    limit_commands,
    metrics,
    models,
    openapi,
    plans,
    problems,
    projects,
    rebuild_commands,
    receipts,
    repeats,  # noqa: F401 - adds views to those of jobs
    requestlog,
    techniques,
    throttle,
    uploads,
    usage,
)
from service.services import NAME, make_services
from tasks.settings import Settings

__all__ = ["create_app"]

_BLUEPRINTS = (
    index.bp,
    health.bp,
    metrics.bp,
    openapi.bp,
    problems.bp,
    receipts.bp,
    uploads.bp,
    imports.bp,
    models.bp,
    datasets.bp,
    jobs.bp,
    plans.bp,
    techniques.bp,
    usage.bp,
    projects.bp,
    audit.bp,
)


def create_app(settings: Settings | None = None) -> Flask:
    """The WSGI application. Without `settings` they are read from the environment, now."""
    settings = settings or Settings()
    requestlog.configure_logging(settings)
    app = Flask(__name__, static_folder=None)
    # One address for each thing: another spelling is unknown, not redirected.
    app.url_map.merge_slashes = False
    app.extensions[NAME] = make_services(settings)
    # The order matters: every request gets its id before anything can refuse it.
    requestlog.init_app(app)
    metrics.init_app(app)
    audit.init_app(app)
    errors.init_app(app)
    throttle.init_app(app)
    auth.init_app(app)
    bodies.init_app(app)
    key_commands.init_app(app)
    limit_commands.init_app(app)
    rebuild_commands.init_app(app)
    for blueprint in _BLUEPRINTS:
        app.register_blueprint(blueprint)
    if hops := settings.trusted_proxy_hops:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    return app
