"""API keys: made once, stored hashed, refused when revoked."""

from __future__ import annotations

import re
import time

import pytest
import redis
from flask import Flask

from service.keys import InvalidKey, KeyRing
from tests.service.helpers import Caller, assert_problem


def test_a_key_is_accepted_and_its_secret_stands_nowhere(
    redis_client: redis.Redis, redis_admin: redis.Redis
) -> None:
    ring = KeyRing(redis_client)
    key = ring.create("acme", "laptop")
    assert re.fullmatch(r"fw_key_[a-z2-7]{26}_[a-z2-7]{52}", key)
    record = ring.verify(key)
    assert (record.project, record.name, record.scopes) == ("acme", "laptop", ["all"])
    secret = key.rsplit("_", 1)[1].encode()
    for name in redis_admin.scan_iter():
        if redis_admin.type(name) == b"string":
            assert secret not in redis_admin.get(name)


def test_a_wrong_key_is_refused(redis_client: redis.Redis) -> None:
    ring = KeyRing(redis_client)
    key = ring.create("acme")
    ring.verify(key)
    wrong_secret = key[:-1] + ("a" if key[-1] != "a" else "b")
    unknown = f"fw_key_{'a' * 26}_{key.rsplit('_', 1)[1]}"
    for wrong in (wrong_secret, unknown, key[:-1], key + "a", key.upper(), "", "fw_", "fw_key_é_x", "\0"):
        with pytest.raises(InvalidKey):
            ring.verify(wrong)


def test_a_revoked_key_is_refused_at_once_by_every_process(redis_client: redis.Redis) -> None:
    ours, theirs = KeyRing(redis_client), KeyRing(redis_client)
    key = ours.create("acme")
    theirs.verify(key)
    ours.revoke(ours.verify(key).id)
    with pytest.raises(InvalidKey):
        theirs.verify(key)


def test_verifying_costs_less_than_a_millisecond(redis_client: redis.Redis) -> None:
    ring = KeyRing(redis_client)
    key = ring.create("acme")
    ring.verify(key)
    times = []
    for _ in range(50):
        began = time.perf_counter()
        ring.verify(key)
        times.append(time.perf_counter() - began)
    assert sorted(times)[25] < 0.001


def test_the_commands_make_list_and_revoke(app: Flask) -> None:
    run = app.test_cli_runner().invoke
    key = run(args=["keys", "create", "--project", "acme", "--name", "ci"]).output.strip()
    key_id = key[3:].rpartition("_")[0]
    assert Caller(app, key).get("/v1/jobs").status_code == 200
    listed = run(args=["keys", "list"]).output
    assert key_id in listed
    assert "acme" in listed
    assert key not in listed
    assert run(args=["keys", "list", "--project", "other"]).output == ""
    assert "revoked" in run(args=["keys", "revoke", key_id]).output
    assert_problem(Caller(app, key).get("/v1/jobs"), "unauthenticated")


def test_the_commands_refuse_what_makes_no_sense(app: Flask) -> None:
    run = app.test_cli_runner().invoke
    assert run(args=["keys", "create", "--project", "a/b"]).exit_code == 2
    assert run(args=["keys", "revoke", "key_unknown"]).exit_code == 1
