"""The fault proxy does what its faults say, in front of the real S3 server and a real Redis."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.exceptions
import pytest
import redis
import urllib3.exceptions
from botocore.config import Config
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.local.object_store import ObjectStore
from deploy.local.redis_server import RedisServer
from tests.faults.proxy import Answer, BlackHole, Cut, FaultProxy, Pass, Refuse, Slow

BODY = bytes(range(256)) * 1024


@pytest.fixture
def proxy(object_store: ObjectStore) -> Iterator[FaultProxy]:
    with FaultProxy(object_store.ports.s3, seed=1) as proxy:
        yield proxy


@pytest.fixture
def s3(proxy: FaultProxy, object_store: ObjectStore) -> Iterator[Any]:
    client = boto3.client(
        "s3",
        endpoint_url=proxy.url,
        region_name=object_store.region,
        aws_access_key_id=object_store.access_key_id,
        aws_secret_access_key=object_store.secret_access_key,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=1,
            read_timeout=1,
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
        ),
    )
    yield client
    client.close()


def put(s3: Any, store: ObjectStore, key: str = "faults/x", body: bytes = BODY) -> None:
    s3.put_object(Bucket=store.bucket, Key=key, Body=body)


def get(s3: Any, store: ObjectStore, key: str = "faults/x") -> bytes:
    return s3.get_object(Bucket=store.bucket, Key=key)["Body"].read()


def test_signed_and_presigned_requests_pass(proxy: FaultProxy, s3: Any, object_store: ObjectStore) -> None:
    put(s3, object_store)
    assert get(s3, object_store) == BODY
    url = s3.generate_presigned_url("put_object", Params={"Bucket": object_store.bucket, "Key": "faults/y"})
    urllib.request.urlopen(urllib.request.Request(url, data=b"presigned", method="PUT")).close()
    assert get(s3, object_store, "faults/y") == b"presigned"
    assert set(proxy.seen) == {"Pass"}


def test_refused_is_refused_and_over_when_it_is_over(
    proxy: FaultProxy, s3: Any, object_store: ObjectStore
) -> None:
    put(s3, object_store)
    with proxy.fault(Refuse()), pytest.raises(botocore.exceptions.EndpointConnectionError):
        get(s3, object_store)
    assert get(s3, object_store) == BODY


def test_every_request_is_answered_with_the_status(
    proxy: FaultProxy, s3: Any, object_store: ObjectStore
) -> None:
    put(s3, object_store, "faults/kept", b"old")
    with proxy.fault(Answer(500)):
        for attempt in (lambda: put(s3, object_store, "faults/kept", BODY), lambda: get(s3, object_store)):
            with pytest.raises(botocore.exceptions.ClientError) as error:
                attempt()
            assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
        # A body nobody was told to wait with is read, and thrown away.
        url = s3.generate_presigned_url(
            "put_object", Params={"Bucket": object_store.bucket, "Key": "faults/kept"}
        )
        with pytest.raises(urllib.error.HTTPError) as answered:
            urllib.request.urlopen(urllib.request.Request(url, data=BODY, method="PUT"))
        answered.value.close()
    assert get(s3, object_store, "faults/kept") == b"old"
    assert proxy.seen["Answer"] == 3


def test_share_of_the_requests_is_drawn_by_the_seed(object_store: ObjectStore) -> None:
    def drawn(seed: int) -> list[bool]:
        with FaultProxy(object_store.ports.s3, seed=seed) as proxy, proxy.fault(Answer(503, share=0.5)):
            # Unsigned, so that the store itself answers 403.
            statuses = [_status(f"{proxy.url}/") for _ in range(24)]
        assert set(statuses) == {403, 503}
        return [status == 503 for status in statuses]

    first = drawn(3)
    assert 4 <= sum(first) <= 20
    assert drawn(3) == first
    assert drawn(4) != first


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_slow_takes_its_time_and_loses_nothing(proxy: FaultProxy, s3: Any, object_store: ObjectStore) -> None:
    put(s3, object_store)
    with proxy.fault(Slow(bytes_per_s=512 * 1024)):
        began = time.monotonic()
        assert get(s3, object_store) == BODY
        assert 0.4 < time.monotonic() - began < 3


@pytest.mark.parametrize("way", ["upload", "download"])
def test_cut_in_the_middle_of_a_body(proxy: FaultProxy, s3: Any, object_store: ObjectStore, way: str) -> None:
    put(s3, object_store, "faults/cut", BODY)
    cut = (
        (lambda: put(s3, object_store, "faults/cut", BODY[::-1]))
        if way == "upload"
        else (lambda: get(s3, object_store, "faults/cut"))
    )
    with proxy.fault(Cut(after_bytes=100_000, times=1)):
        with pytest.raises((botocore.exceptions.BotoCoreError, urllib3.exceptions.HTTPError)):
            cut()
        assert get(s3, object_store, "faults/cut") == BODY
    assert proxy.seen["Cut"] == 1


def test_black_hole_swallows_until_it_is_lifted(
    proxy: FaultProxy, s3: Any, object_store: ObjectStore
) -> None:
    put(s3, object_store)
    with proxy.fault(BlackHole()), pytest.raises(botocore.exceptions.ReadTimeoutError):
        get(s3, object_store)
    assert get(s3, object_store) == BODY
    proxy.set(Pass())


def test_in_front_of_redis(redis_server: RedisServer) -> None:
    with FaultProxy(redis_server.port) as proxy:
        url = redis_server.url("admin").replace(f":{redis_server.port}", f":{proxy.port}")
        client = redis.Redis.from_url(url, socket_timeout=0.5, retry=Retry(NoBackoff(), 0))
        client.set("faults", BODY)
        for fault, error in (
            (Refuse(), redis.ConnectionError),
            (BlackHole(), redis.TimeoutError),
            (Cut(after_bytes=1000), redis.ConnectionError),
        ):
            with proxy.fault(fault), pytest.raises(error):
                client.get("faults")
            assert client.get("faults") == BODY
        client.close()
