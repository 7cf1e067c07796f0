"""Whatever breaks, on whichever route: no answer and no log line tells a secret or a path of the host."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from flask import Flask
from pydantic import SecretStr

from service import create_app
from service.redaction import Redaction
from service.requestlog import OneLine
from service.services import NAME, Services
from tasks.settings import Settings
from tests.service.helpers import KERAS, PROJECT, ROOT, SPEC, Caller, assert_problem
from tests.service.test_access import PUBLIC, path_of, routes

RECEIPT_KEY = "cmVjZWlwdC1rZXktb2YtMzItYnl0ZXMtZm9yLXRlc3Q="
PASSWORD = "hunter2-hunter2"


class Broken:
    """In the place of a part: whatever is asked of it fails, with a message that tells too much."""

    def __init__(self, sentence: str) -> None:
        self._sentence = sentence

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(self._sentence)


@pytest.fixture
def broken(settings: Settings, redis_client: redis.Redis) -> tuple[Flask, Caller, list[str]]:
    """An application all of whose parts but the keys fail, somebody with a key, and what must not be told."""
    settings = settings.model_copy(update={"receipt_key": SecretStr(RECEIPT_KEY)})
    app = create_app(settings)
    parts: Services = app.extensions[NAME]
    key = parts.keys.create(PROJECT, scope="admin")
    assert settings.s3_secret_access_key is not None
    told = [
        settings.s3_secret_access_key.get_secret_value(),
        RECEIPT_KEY,
        PASSWORD,
        key.rpartition("_")[2],
        str(ROOT),
        sys.prefix,
        "c2lnbmF0dXJl",
    ]
    sentence = (
        f"{told[0]} {told[1]} redis://:{PASSWORD}@10.0.0.1:6379/0 {key} "
        f"{ROOT}/tasks/store.py {sys.prefix}/lib "
        f"http://s3/b/k?X-Amz-Credential=AKIA%2Fx&X-Amz-Signature=c2lnbmF0dXJl"
    )
    for name in ("storage", "jobs", "models", "datasets", "uploads", "planner", "ledger", "accounts"):
        object.__setattr__(parts, name, Broken(sentence))
    return app, Caller(app, key), told


@pytest.fixture
def logged(settings: Settings) -> Iterator[io.StringIO]:
    """What the service's own handler would have written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        OneLine(Redaction(settings.model_copy(update={"receipt_key": SecretStr(RECEIPT_KEY)})))
    )
    logger = logging.getLogger("service")
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


def test_no_answer_and_no_log_line_tells_what_broke_the_service(
    broken: tuple[Flask, Caller, list[str]], logged: io.StringIO
) -> None:
    app, caller, told = broken
    job = {"model_id": "mdl_a", "spec": SPEC}
    upload = {"kind": "model", "filename": "m.keras", "size": 1, "sha256": "0" * 64}
    failed = 0
    for method, rule in routes(app):
        if (method, rule.rule) in PUBLIC - {("GET", "/.well-known/receipt_keys")}:
            continue
        options: dict[str, Any] = {}
        if method == "POST" and rule.rule in ("/v1/models", "/v1/datasets"):
            options = {"data": KERAS, "content_type": "application/octet-stream"}
        elif method == "POST":
            options = {"json": upload if rule.rule == "/v1/uploads" else job}
        answer = caller(method, path_of(rule, job_id="job_a"), **options)
        failed += answer.status_code == 500
        if answer.status_code == 500:
            assert_problem(answer, "internal_error")
        everything = answer.text + str(answer.headers)
        assert not [secret for secret in told if secret in everything], rule.rule
    # All but those that need no part: the techniques and the schema of a spec.
    assert failed >= 20
    log = logged.getvalue()
    assert log.count("Traceback") >= failed
    assert "[hidden]" in log
    assert not [secret for secret in told if secret in log]


def test_ids_and_addresses_stay_readable(settings: Settings) -> None:
    redact = Redaction(settings.model_copy(update={"redis_url": "redis://u:p%40ssword@h:1/0"}))
    key_id = f"key_{'a' * 26}"
    assert redact(f"fw_{key_id}_{'b' * 52} was used") == f"fw_{key_id}_[hidden] was used"
    assert redact("to redis://u:p%40ssword@h:1/0, p@ssword") == "to redis://[hidden]@h:1/0, [hidden]"
    assert redact("Authorization: Bearer abc") == "Authorization: Bearer [hidden]"
    assert redact(f"{ROOT}/service/keys.py") == "featherweight/service/keys.py"
    assert redact("nothing to hide at http://h/p?q=1") == "nothing to hide at http://h/p?q=1"
