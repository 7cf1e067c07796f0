"""API keys: made once, stored hashed, refused when revoked."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

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
    assert (record.project, record.name, record.scope) == ("acme", "laptop", "submit")
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


def test_an_expired_key_is_refused(redis_client: redis.Redis) -> None:
    ring = KeyRing(redis_client)
    short, long = (ring.create("acme", expires_in=timedelta(seconds=s)) for s in (0.3, 60))
    assert ring.verify(short).state == "valid"
    time.sleep(0.4)
    with pytest.raises(InvalidKey):
        ring.verify(short)
    assert ring.verify(long).state == "valid"


def test_a_rotated_key_lives_on_for_the_overlap_and_the_new_one_may_do_the_same(
    redis_client: redis.Redis,
) -> None:
    ring = KeyRing(redis_client)
    old = ring.create("acme", "ci", scope="read", expires_in=timedelta(days=30))
    key_id = ring.verify(old).id
    new = ring.rotate(key_id, timedelta(seconds=0.3))
    before, after = ring.verify(old), ring.verify(new)
    assert (after.project, after.name, after.scope) == ("acme", "ci", "read")
    assert after.id != before.id
    assert after.expires_at - after.created_at == timedelta(days=30)  # type: ignore[operator]
    time.sleep(0.4)
    with pytest.raises(InvalidKey):
        ring.verify(old)
    assert ring.verify(new).state == "valid"
    with pytest.raises(ValueError, match="expired"):
        ring.rotate(key_id, timedelta(0))
    # An overlap does not make a key live longer than it would have.
    ending = ring.verify(ring.create("acme", expires_in=timedelta(minutes=1)))
    ring.rotate(ending.id, timedelta(days=1))
    assert ring.get(ending.id).expires_at == ending.expires_at


def test_when_a_key_was_used_is_written_once_a_minute(redis_client: redis.Redis) -> None:
    ours, theirs = KeyRing(redis_client), KeyRing(redis_client)
    key, unused = ours.create("acme"), ours.create("acme")
    key_id = ours.verify(key).id
    assert set(ours.last_used()) == {key_id}
    redis_client.delete("fw:keys:used")
    for ring in (ours, theirs, ours):
        ring.verify(key)
    assert ours.last_used() == {}
    # The minute is over, for a process that starts then.
    redis_client.delete(f"fw:key-noted:{key_id}")
    KeyRing(redis_client).verify(key)
    assert abs(ours.last_used()[key_id] - datetime.now(UTC)) < timedelta(seconds=5)
    assert unused


def test_a_key_made_before_there_were_scopes_may_do_everything(redis_client: redis.Redis) -> None:
    ring = KeyRing(redis_client)
    key = ring.create("acme", scope="read")
    name = f"fw:key:registry:{ring.verify(key).id}"
    record = json.loads(redis_client.get(name))
    del record["scope"], record["expires_at"]
    redis_client.set(name, json.dumps({**record, "scopes": ["all"]}))
    assert ring.verify(key).may("admin")


def test_wrong_secrets_do_not_hold_up_who_is_known(redis_client: redis.Redis) -> None:
    ring = KeyRing(redis_client)
    key = ring.create("acme")
    ring.verify(key)
    wrong = [key[:-8] + f"{number:08o}".translate(str.maketrans("01", "ab")) for number in range(40)]

    def guess(key: str) -> None:
        with pytest.raises(InvalidKey):
            ring.verify(key)

    with ThreadPoolExecutor(20) as pool:
        guesses = [pool.submit(guess, key) for key in wrong]
        began = time.perf_counter()
        ring.verify(key)
        assert time.perf_counter() - began < 0.2
        for guessed in guesses:
            guessed.result()


def test_the_commands_rotate_and_tell_scope_and_use(app: Flask) -> None:
    run = app.test_cli_runner().invoke
    made = run(args=["keys", "create", "--project", "acme", "--scope", "read", "--expires-days", "2"])
    key_id = made.output.strip()[3:].rpartition("_")[0]
    listed = run(args=["keys", "list"]).output
    assert "read" in listed
    assert "valid until" in listed
    assert "never used" in listed
    new = run(args=["keys", "rotate", key_id, "--overlap-hours", "0"]).output.strip()
    assert_problem(Caller(app, made.output.strip()).get("/v1/jobs"), "unauthenticated")
    assert Caller(app, new).get("/v1/jobs").status_code == 200
    listed = run(args=["keys", "list"]).output
    assert "expired" in listed
    assert "used 2" in listed
    assert run(args=["keys", "rotate", key_id]).exit_code == 1
    assert run(args=["keys", "rotate", "key_unknown"]).exit_code == 1
    assert run(args=["keys", "create", "--project", "acme", "--scope", "root"]).exit_code == 2


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
