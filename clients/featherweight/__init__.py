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
    from featherweight.client import Client
    from featherweight.errors import (
        APIError,
        AuthenticationError,
        BadRequest,
        ChecksumMismatch,
        ConfigurationError,
        Conflict,
        ConnectionFailed,
        FeatherweightError,
        Gone,
        InternalError,
        InvalidRequest,
        InvalidSpec,
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

    __version__: str

__all__ = [
    "APIError",
    "Artifact",
    "AuthenticationError",
    "BadRequest",
    "ChecksumMismatch",
    "Client",
    "CompressionSpec",
    "ConfigurationError",
    "Conflict",
    "ConnectionFailed",
    "ConstantSparsity",
    "DataSplit",
    "Dataset",
    "Event",
    "EventStream",
    "FeatherweightError",
    "FieldError",
    "Finetune",
    "Gone",
    "Health",
    "Import",
    "Inspection",
    "InternalError",
    "InvalidRequest",
    "InvalidSpec",
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
    "__version__",
    "load_spec",
]

_HOMES = {
    "_listing": ["Listing"],
    "client": ["Client"],
    "errors": [
        "APIError",
        "AuthenticationError",
        "BadRequest",
        "ChecksumMismatch",
        "ConfigurationError",
        "Conflict",
        "ConnectionFailed",
        "FeatherweightError",
        "Gone",
        "InternalError",
        "InvalidRequest",
        "InvalidSpec",
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
    "resources": ["Dataset", "Health", "Import", "Model", "Project", "Technique", "Usage"],
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
    "specfile": ["load_spec"],
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
