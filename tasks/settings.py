"""Settings of the service and the workers: read from the environment once at start-up, then handed down.

Every variable has the prefix ``FEATHERWEIGHT_``; ``deploy/env.example`` lists them all.
Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings"]

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="FEATHERWEIGHT_", frozen=True, extra="ignore")

    # Redis: records and queue. It must be durable (appendonly yes) and must not evict (noeviction).
    redis_url: str = "redis://127.0.0.1:6379/0"
    # What messages in the queue are signed with: keys of 32 characters and more, with commas between. The
    # first signs, all are accepted. Without one nothing is sent and no worker starts.
    message_keys: SecretStr | None = None

    # Object storage. Left out, boto3 finds endpoint and credentials its usual way.
    s3_endpoint_url: str | None = None
    # What presigned URLs name, where clients reach the storage under another address than we do.
    s3_public_endpoint_url: str | None = None
    s3_region: str = "us-east-1"
    s3_bucket: str = "featherweight"
    s3_access_key_id: SecretStr | None = None
    s3_secret_access_key: SecretStr | None = None

    # What callers may send.
    max_model_bytes: int = Field(default=2 * GIB, ge=1)
    max_dataset_bytes: int = Field(default=4 * GIB, ge=1)
    # An input file of a batch; a line of one may have max_json_bytes.
    max_batch_file_bytes: int = Field(default=256 * MIB, ge=1)
    max_json_bytes: int = Field(default=1 * MIB, ge=1)
    # S3 takes no part under 5 MiB except the last.
    upload_part_bytes: int = Field(default=16 * MIB, ge=5 * MIB)
    upload_expiry_s: int = Field(default=86_400, ge=60)
    # At what age a multipart upload of the storage that nobody is at is ended.
    stray_upload_s: float = Field(default=3600, ge=1)
    presign_expiry_s: int = Field(default=300, ge=1)
    idempotency_expiry_s: int = Field(default=86_400, ge=60)
    # Larger files are judged by the worker, not when they arrive. 0: all of them.
    max_gate_bytes: int = Field(default=256 * MIB, ge=0)
    # Plans: files above this are not read for one; how long a plan may take, the memory it may use, and
    # how long what was read of a file is remembered.
    max_plan_bytes: int = Field(default=256 * MIB, ge=1)
    plan_timeout_s: float = Field(default=30, gt=0)
    plan_memory_bytes: int = Field(default=1 * GIB, ge=256 * MIB)
    plan_expiry_s: int = Field(default=7 * 86_400, ge=1)
    # Files fetched from URLs of callers: whether at all, from which ports of public hosts, from which origins
    # besides (https://host:port, http:// and private ones too), and how long one may take.
    imports: bool = False
    import_ports: str = "443"
    import_trusted_origins: str = ""
    import_timeout_s: float = Field(default=300, gt=0)
    long_poll_max_s: float = Field(default=60, ge=0)
    trusted_proxy_hops: int = Field(default=0, ge=0)
    # Requests that one process of the service answers at once, and those that it holds besides: long polls
    # and event streams. Each has a thread.
    working_requests: int = Field(default=128, ge=1)
    waiting_requests: int = Field(default=1000, ge=0)

    # What a project may use unless limits of its own are set; 0 is no limit.
    project_stored_bytes: int = Field(default=0, ge=0)
    project_running_jobs: int = Field(default=0, ge=0)
    project_queued_jobs: int = Field(default=10_000, ge=0)
    # Batches that have not ended; this one is the same for all projects.
    project_open_batches: int = Field(default=100, ge=0)
    project_cpu_seconds_per_day: int = Field(default=0, ge=0)
    project_requests_per_second: float = Field(default=0, ge=0)
    # And how long its things are kept; 0 is for ever.
    project_models_ttl_s: int = Field(default=0, ge=0)
    project_datasets_ttl_s: int = Field(default=0, ge=0)
    project_artifacts_ttl_s: int = Field(default=0, ge=0)
    project_jobs_ttl_s: int = Field(default=0, ge=0)

    # Schedules: how often one may fire or look for changes, how late a fire still is on time, and how many a
    # project may have (0: any number).
    schedule_min_interval_s: int = Field(default=60, ge=1)
    schedule_grace_s: float = Field(default=60, gt=0)
    project_schedules: int = Field(default=100, ge=0)

    # How long, and how many for each project, entries of the audit log are kept.
    audit_expiry_s: int = Field(default=90 * 86_400, ge=60)
    audit_max: int = Field(default=100_000, ge=100)

    # Jobs: a worker that has not renewed its lease for `lease_s` has lost the job; after
    # `max_attempts` lost attempts the job fails.
    lease_s: float = Field(default=30, gt=0)
    heartbeat_s: float = Field(default=5, gt=0)
    max_attempts: int = Field(default=3, ge=1)
    # Between lost attempts a job rests: so long after the first, twice as long after each further one, and
    # never longer than the second; less a random share of up to half.
    retry_first_s: float = Field(default=10, ge=0)
    retry_max_s: float = Field(default=300, ge=0)
    reaper_interval_s: float = Field(default=5, gt=0)
    # A queued job is announced again when no message about it is left after this time.
    stale_queued_s: float = Field(default=60, gt=0)
    visibility_timeout_s: int = Field(default=60, ge=4)
    event_stream_max: int = Field(default=10_000, ge=100)
    # How long the events of an ended job can still be read.
    event_expiry_s: int = Field(default=7 * 86_400, ge=60)

    # Webhooks: ports of public hosts they are sent to, origins besides (http:// and private ones too), how
    # many endpoints a project may have, how long a receiver has to answer, the mean waits before each of the
    # further attempts, how long nothing but failures goes on before an endpoint is disabled, and how long,
    # and how many for each endpoint, deliveries that have ended are kept.
    webhook_ports: str = "443"
    webhook_trusted_origins: str = ""
    webhook_endpoints: int = Field(default=20, ge=1)
    webhook_timeout_s: float = Field(default=10, gt=0, le=60)
    webhook_retry_delays_s: str = "5,30,120,600,1800,3600,7200,14400,21600,36000"
    webhook_disable_after_s: float = Field(default=5 * 86_400, ge=0)
    webhook_log_expiry_s: int = Field(default=30 * 86_400, ge=60)
    webhook_log_max: int = Field(default=10_000, ge=10)

    # The worker. `runner_warm` is called once by the fork server, to import what is slow to import
    # (several with commas between; empty: nothing; left out: the frameworks of the queues it serves);
    # `runner_target` is what a job calls. Both are "module:function".
    worker_concurrency: int = Field(default=1, ge=1)
    runner_target: str = "tasks.compression:compress"
    runner_warm: str | None = None
    # 0: as many threads as there are cores; 0: no memory limit.
    runner_threads: int = Field(default=0, ge=0)
    runner_memory_bytes: int = Field(default=0, ge=0)
    # What a job may fill its scratch folder with, inputs and kept steps included, and its threads.
    runner_disk_bytes: int = Field(default=32 * GIB, ge=1)
    runner_files: int = Field(default=50_000, ge=100)
    # With less than this free on the disk of its scratch folder a worker takes no job.
    scratch_reserve_bytes: int = Field(default=512 * MIB, ge=0)
    runner_processes: int = Field(default=2000, ge=1)
    # What a job may keep in storage while it runs, for another machine to go on with (0: nothing), and how
    # far apart, at least.
    max_progress_bytes: int = Field(default=8 * GIB, ge=0)
    progress_interval_s: float = Field(default=5, ge=0)
    # Who jobs and plans run as where the worker or the service was started as root.
    runner_uid: int = Field(default=61_234, ge=1, lt=2**31)
    # What confines those who read callers' files: Landlock and seccomp, or something of the operator's
    # (external). Without Landlock in the kernel, `landlock` takes no job.
    sandbox: Literal["landlock", "external"] = "landlock"
    scratch_dir: Path = Field(default_factory=lambda: Path(tempfile.gettempdir()) / "featherweight")

    # An Ed25519 private key, PEM or 32 bytes in base64, that workers sign receipts with. Left out, jobs
    # have no receipt.
    receipt_key: SecretStr | None = None

    log_level: str = "INFO"
