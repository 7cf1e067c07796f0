"""Webhooks: the endpoints a project's events are sent to, what is sent, and what became of it.

Events are sent as Standard Webhooks 1.0 has it; a receiver checks them with `featherweight.verify_webhook`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from featherweight.job import Job, Metadata

__all__ = [
    "EVENT_TYPES",
    "TEST_EVENT",
    "DeliveryAttempt",
    "EventType",
    "ReplayRequest",
    "RotateSecretRequest",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEndpointRequest",
    "WebhookEndpointUpdate",
    "WebhookEvent",
    "WebhookReplay",
]

EventType = Literal[
    "job.succeeded",
    "job.failed",
    "job.cancelled",
    "job.expired",
    "batch.completed",
    "batch.failed",
    "batch.cancelled",
    "schedule.regressed",
    "schedule.run_failed",
    "webhook_endpoint.disabled",
]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
TEST_EVENT: Final = "webhook.test"
"""Sent on request alone, whatever an endpoint's `events` are."""

Url = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Description = Annotated[str, StringConstraints(max_length=500)]
Events = Annotated[list[EventType | Literal["*"]], Field(min_length=1, max_length=len(EVENT_TYPES) + 1)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class WebhookEndpointRequest(_Request):
    """The body of ``POST /v1/webhook_endpoints``. `events` are types, or ``["*"]`` for all there are and will
    be. `api_version` is the form of what is sent; there is one."""

    url: Url
    events: Events
    description: Description | None = None
    metadata: Metadata = Field(default_factory=dict)
    api_version: Literal["v1"] = "v1"


class WebhookEndpointUpdate(_Request):
    """The body of ``PATCH /v1/webhook_endpoints/{id}``: what is left out stays. `metadata` is replaced as a
    whole. With `disabled` true nothing is sent any more; false begins again, also where the service had
    disabled the endpoint."""

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None
    metadata: Metadata | None = None
    disabled: Annotated[bool, Field(strict=True)] | None = None

    @model_validator(mode="after")
    def _null_only_where_it_means_something(self) -> WebhookEndpointUpdate:
        for name in self.model_fields_set - {"description"}:
            if getattr(self, name) is None:
                raise ValueError(f"{name} may be left out, but not null")
        return self


class RotateSecretRequest(_Request):
    """The body of ``POST /v1/webhook_endpoints/{id}/rotate_secret``. For `overlap_hours` what is sent is
    signed with the old secret as well."""

    overlap_hours: Annotated[float, Field(ge=0, le=168, allow_inf_nan=False)] = 24


class ReplayRequest(_Request):
    """The body of ``POST /v1/webhook_endpoints/{id}/replay``: which failed deliveries are to be made again,
    by when they were created."""

    since: AwareDatetime
    until: AwareDatetime | None = None


class WebhookEndpoint(_Answer):
    """Where a project's events are sent.

    `secret` is there in the answers to creation and rotation, and nowhere else. `disabled_reason` is
    requested (by PATCH), gone (the receiver answered 410) or failing (nothing but failures for too long).
    `failing_since` is when the first attempt after the last success failed. `pending` counts the deliveries
    that wait for their next attempt.
    """

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    url: str
    events: list[str]
    description: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    api_version: str = "v1"
    disabled: bool = False
    disabled_reason: str | None = None
    disabled_at: datetime | None = None
    failing_since: datetime | None = None
    last_success_at: datetime | None = None
    last_failure_at: datetime | None = None
    pending: int = 0
    secret: str | None = None
    created_at: datetime
    updated_at: datetime


class DeliveryAttempt(_Answer):
    """One request to the endpoint. `status_code` is null where none came; `error` then says why in a word,
    and `detail` in a sentence. `response_body` is the beginning of the answer, made plain."""

    number: int
    started_at: datetime
    latency_ms: int | None = None
    status_code: int | None = None
    error: str | None = None
    detail: str | None = None
    response_body: str | None = None


class WebhookDelivery(_Answer):
    """An event on its way to one endpoint. `ended_because` is delivered, attempts_used_up, gone, backlog_full
    or event_expired; `replay_of` the delivery this one was made again from."""

    id: str
    object: Literal["webhook_delivery"] = "webhook_delivery"
    endpoint_id: str
    event_id: str
    event_type: str
    state: str
    attempts: list[DeliveryAttempt] = Field(default_factory=list)
    next_attempt_at: datetime | None = None
    replay_of: str | None = None
    created_at: datetime
    ended_at: datetime | None = None
    ended_because: str | None = None


class WebhookReplay(_Answer):
    """How many deliveries were made again. With `has_more` there are others: ask again with `since` set to
    `next_since`."""

    object: Literal["webhook_replay"] = "webhook_replay"
    count: int
    has_more: bool = False
    next_since: datetime | None = None


class WebhookEvent(_Answer):
    """What is sent. `id` is the same for all endpoints and attempts: who has seen it has nothing left to do.

    `timestamp` is when it happened. `data` is what it is about, as the API shows it: a job, a batch ...
    `truncated` names what was left out of `data` because it is too large; `url` is where all of it is.
    """

    id: str
    type: str
    timestamp: datetime
    api_version: str = "v1"
    data: dict[str, Any]
    url: str | None = None
    truncated: list[str] = Field(default_factory=list)

    @property
    def job(self) -> Job:
        """The job that a ``job.…`` event is about. ValueError for any other event."""
        if not self.type.startswith("job."):
            raise ValueError(f"a {self.type} event is not about a job")
        return Job.model_validate(self.data)
