"""Featherweight's client library: make trained neural networks small, over HTTP.

    import featherweight

    client = featherweight.Client()             # FEATHERWEIGHT_URL, FEATHERWEIGHT_API_KEY
    job = client.compress("model.keras", spec="spec.yaml", dataset="digits.npz")
    paths = job.wait().download("out")

The names below are all there is to it; they are fetched on first use, so that a program which only
wants the vocabulary (`featherweight.spec`) does not load an HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featherweight._listing import Listing
    from featherweight.batch import Batch, BatchCounts, BatchFile, BatchItem, BatchState
    from featherweight.client import Client
    from featherweight.errors import (
        APIError,
        AuthenticationError,
        BadRequest,
        BatchFailed,
        BatchWaitTimeout,
        ChecksumMismatch,
        ConfigurationError,
        Conflict,
        ConnectionFailed,
        ExportFailed,
        FeatherweightError,
        Gone,
        InternalError,
        InvalidManifest,
        InvalidRequest,
        InvalidSpec,
        InvalidWebhook,
        JobCancelled,
        JobError,
        JobExpired,
        JobFailed,
        NotFound,
        PayloadTooLarge,
        PermissionDenied,
        RateLimited,
        RequestTimeout,
        RerunFailed,
        ServiceUnavailable,
        StorageError,
        UnexpectedResponse,
        UnsupportedMediaType,
        VerificationFailed,
        WaitTimeout,
    )
    from featherweight.events import (
        Event,
        LogEvent,
        ProgressEvent,
        ResumedEvent,
        StageEvent,
        StateEvent,
        WarningEvent,
    )
    from featherweight.eventstream import EventStream, UnknownEvent
    from featherweight.handle import JobHandle
    from featherweight.inspection import Inspection
    from featherweight.job import Artifact, Job, JobLimits, JobState, Origin, Progress
    from featherweight.plan import Plan
    from featherweight.problem import FieldError, Problem
    from featherweight.report import Report
    from featherweight.resources import Dataset, Health, Import, Model, Project, Technique, Usage
    from featherweight.schedule import (
        CronTrigger,
        IntervalTrigger,
        ObjectChangedTrigger,
        Schedule,
        ScheduledJob,
        ScheduleRun,
    )
    from featherweight.signing import verify_webhook
    from featherweight.spec import (
        CompressionSpec,
        ConstantSparsity,
        DataSplit,
        Finetune,
        LayerSelection,
        PolynomialDecay,
        Prune,
        Quantize,
    )
    from featherweight.specfile import load_spec
    from featherweight.webhooks import WebhookDelivery, WebhookEndpoint, WebhookEvent

    __version__: str

__all__ = [
    "APIError",
    "Artifact",
    "AuthenticationError",
    "BadRequest",
    "Batch",
    "BatchCounts",
    "BatchFailed",
    "BatchFile",
    "BatchItem",
    "BatchState",
    "BatchWaitTimeout",
    "ChecksumMismatch",
    "Client",
    "CompressionSpec",
    "ConfigurationError",
    "Conflict",
    "ConnectionFailed",
    "ConstantSparsity",
    "CronTrigger",
    "DataSplit",
    "Dataset",
    "Event",
    "EventStream",
    "ExportFailed",
    "FeatherweightError",
    "FieldError",
    "Finetune",
    "Gone",
    "Health",
    "Import",
    "InboxObject",
    "Inspection",
    "InternalError",
    "IntervalTrigger",
    "InvalidManifest",
    "InvalidRequest",
    "InvalidSpec",
    "InvalidWebhook",
    "Job",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobHandle",
    "JobLimits",
    "JobState",
    "LayerSelection",
    "Listing",
    "LogEvent",
    "Model",
    "NotFound",
    "ObjectChangedTrigger",
    "Origin",
    "PayloadTooLarge",
    "PermissionDenied",
    "Plan",
    "PolynomialDecay",
    "Problem",
    "Progress",
    "ProgressEvent",
    "Project",
    "Prune",
    "Quantize",
    "RateLimited",
    "Report",
    "RequestTimeout",
    "RerunFailed",
    "ResumedEvent",
    "Schedule",
    "ScheduleRun",
    "ScheduledJob",
    "ServiceUnavailable",
    "StageEvent",
    "StateEvent",
    "StorageError",
    "Technique",
    "UnexpectedResponse",
    "UnknownEvent",
    "UnsupportedMediaType",
    "Usage",
    "VerificationFailed",
    "WaitTimeout",
    "WarningEvent",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
    "__version__",
    "load_spec",
    "verify_webhook",
]

_HOMES = {
    "_listing": ["Listing"],
    "batch": ["Batch", "BatchCounts", "BatchFile", "BatchItem", "BatchState"],
    "client": ["Client"],
    "errors": [
        "APIError",
        "AuthenticationError",
        "BadRequest",
        "BatchFailed",
        "BatchWaitTimeout",
        "ChecksumMismatch",
        "ConfigurationError",
        "Conflict",
        "ConnectionFailed",
        "ExportFailed",
        "FeatherweightError",
        "Gone",
        "InternalError",
        "InvalidManifest",
        "InvalidRequest",
        "InvalidSpec",
        "InvalidWebhook",
        "JobCancelled",
        "JobError",
        "JobExpired",
        "JobFailed",
        "NotFound",
        "PayloadTooLarge",
        "PermissionDenied",
        "RateLimited",
        "RequestTimeout",
        "RerunFailed",
        "ServiceUnavailable",
        "StorageError",
        "UnexpectedResponse",
        "UnsupportedMediaType",
        "VerificationFailed",
        "WaitTimeout",
    ],
    "events": [
        "Event",
        "LogEvent",
        "ProgressEvent",
        "ResumedEvent",
        "StageEvent",
        "StateEvent",
        "WarningEvent",
    ],
    "eventstream": ["EventStream", "UnknownEvent"],
    "handle": ["JobHandle"],
    "inspection": ["Inspection"],
    "job": ["Artifact", "Job", "JobLimits", "JobState", "Origin", "Progress"],
    "plan": ["Plan"],
    "problem": ["FieldError", "Problem"],
    "report": ["Report"],
    "resources": ["Dataset", "Health", "Import", "InboxObject", "Model", "Project", "Technique", "Usage"],
    "schedule": [
        "CronTrigger",
        "IntervalTrigger",
        "ObjectChangedTrigger",
        "Schedule",
        "ScheduleRun",
        "ScheduledJob",
    ],
    "spec": [
        "CompressionSpec",
        "ConstantSparsity",
        "DataSplit",
        "Finetune",
        "LayerSelection",
        "PolynomialDecay",
        "Prune",
        "Quantize",
    ],
    "signing": ["verify_webhook"],
    "specfile": ["load_spec"],
    "webhooks": ["WebhookDelivery", "WebhookEndpoint", "WebhookEvent"],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from featherweight._version import version

        value: Any = version()
    elif name in _HOME:
        value = getattr(import_module(f"featherweight.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module 'featherweight' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
