"""Uploading 1 GB: the API's resident memory, and the throughput beside boto3 straight to the S3 server."""

from __future__ import annotations

import secrets
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import httpx
import psutil
from botocore.config import Config

from deploy.local.stack import LocalStack
from featherweight import Client
from tests.benchmarks.table import Row

GIGABYTE = 1_000_000_000
CHUNK = 1 << 20


def run(stack: LocalStack, directory: Path, *, rounds: int) -> list[Row]:
    path = _random_npz(directory / "big.npz")
    ways: dict[str, Callable[[], None]] = {
        "straight": lambda: _straight(stack, path),
        "presigned": lambda: _presigned(stack, path),
        "streamed": lambda: _streamed(stack, path),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    growth: dict[str, int] = dict.fromkeys(ways, 0)
    for _ in range(rounds):
        for way, upload in ways.items():
            assert stack.api is not None
            with _peak_growth(stack.api.pid) as peak:
                began = time.perf_counter()
                upload()
                seconds[way].append(time.perf_counter() - began)
            growth[way] = max(growth[way], peak())
            _forget_uploads(stack)
    speed = {way: GIGABYTE / statistics.median(taken) / 1e6 for way, taken in seconds.items()}
    rows = []
    for way, goal in (("presigned", "> 0.8"), ("streamed", "> 0.4")):
        rows.append(
            Row(
                f"1 GB upload, {way} ÷ straight to S3",
                f"{speed[way]:.0f} MB/s",
                f"{speed['straight']:.0f} MB/s",
                speed[way] / speed["straight"],
                goal,
            )
        )
        rows.append(
            Row(f"resident memory the API gained, {way}", f"{growth[way] / 1e6:.0f} MB", "", None, "< 150 MB")
        )
    return rows


def _random_npz(path: Path) -> Path:
    """Bytes that begin like a zip archive: uploads are sniffed, not parsed."""
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        left = GIGABYTE - 4
        while left:
            block = secrets.token_bytes(min(left, 16 * CHUNK))
            file.write(block)
            left -= len(block)
    return path


def _straight(stack: LocalStack, path: Path) -> None:
    _s3(stack).upload_file(str(path), stack.settings.s3_bucket, "benchmark/straight")


def _presigned(stack: LocalStack, path: Path) -> None:
    Client(base_url=stack.url, api_key=stack.api_key).datasets.upload(path)


def _streamed(stack: LocalStack, path: Path) -> None:
    answer = httpx.post(
        f"{stack.url}/v1/datasets",
        params={"filename": path.name},
        headers={"Authorization": f"Bearer {stack.api_key}", "Content-Length": str(path.stat().st_size)},
        content=_chunks(path),
        timeout=300,
    )
    answer.raise_for_status()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            yield block


def _s3(stack: LocalStack):  # type: ignore[no-untyped-def]  # boto3's client has no public type
    settings = stack.settings
    assert settings.s3_access_key_id is not None
    assert settings.s3_secret_access_key is not None
    return boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key_id.get_secret_value(),
        aws_secret_access_key=settings.s3_secret_access_key.get_secret_value(),
        config=Config(s3={"payload_signing_enabled": False, "addressing_style": "path"}),
    )


def _forget_uploads(stack: LocalStack) -> None:
    """Give the disk back between rounds."""
    s3 = _s3(stack)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=stack.settings.s3_bucket):
        for item in page.get("Contents", ()):
            if item["Size"] >= GIGABYTE:
                s3.delete_object(Bucket=stack.settings.s3_bucket, Key=item["Key"])


@contextmanager
def _peak_growth(pid: int) -> Iterator[Callable[[], int]]:
    """The highest resident memory of a process and its children over what it was at the start, in bytes."""
    before = highest = _resident(pid)
    stop = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not stop.wait(0.05):
            highest = max(highest, _resident(pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: highest - before
    finally:
        stop.set()
        watcher.join()


def _resident(pid: int) -> int:
    total = 0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
