"""``/v1/webhook_endpoints``: where a project's events are sent, and what became of them.

All of it needs the scope admin: who may name an address that everything is told to can read the project,
and the addresses themselves often are secrets.
"""

from __future__ import annotations

from flask import Blueprint, Response, request

from featherweight.problem import FieldError
from featherweight.resources import Page
from featherweight.webhooks import (
    ReplayRequest,
    RotateSecretRequest,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEndpointRequest,
    WebhookEndpointUpdate,
    WebhookReplay,
)
from service.auth import needs, project
from service.bodies import json_body
from service.errors import ProblemError, validated
from service.idempotency import Attempt, json_fingerprint
from service.openapi import IDEMPOTENCY_KEY, Body, Empty, Parameter, Shape, operation, paging
from service.rendering import json_answer, page
from service.services import services
from tasks.outbound import UrlNotAllowed
from tasks.recordstore import NotFound
from tasks.webhooks.deliveries import STATES, DeliveryRecord, EventExpired
from tasks.webhooks.endpoints import EndpointRecord, TooManyEndpoints

__all__ = ["bp"]

bp = Blueprint("webhook_endpoints", __name__, url_prefix="/v1/webhook_endpoints")

_EXAMPLE = {"url": "https://receiver.example/featherweight", "events": ["job.succeeded", "job.failed"]}
_JSON = ["bad_json", "bad_request", "payload_too_large", "unsupported_media_type", "invalid_request"]
_ONCE = ["idempotency_key_reused", "idempotency_key_in_flight"]


@bp.post("")
@needs("admin")
@operation(
    summary="Have events sent to a URL",
    body=Body(WebhookEndpointRequest, _EXAMPLE),
    answers={
        201: Shape(
            WebhookEndpoint,
            "The endpoint, with its secret, which no other answer shows.",
            {"Location": "The endpoint."},
        )
    },
    parameters=[IDEMPOTENCY_KEY],
    problems=[*_JSON, *_ONCE, "url_not_allowed", "too_many_endpoints"],
)
def create() -> Response:
    """Only https:// URLs of public hosts, unless the operator has named the origin. The secret is what
    requests are signed with: keep it where the receiver can read it."""
    body = json_body(services().settings.max_json_bytes)
    wanted = validated(WebhookEndpointRequest, body)
    return services().ledger.once(
        project(), "endpoint", json_fingerprint(body), lambda attempt: _created(attempt, wanted)
    )


def _created(attempt: Attempt, wanted: WebhookEndpointRequest) -> Response:
    _check_url(wanted.url)
    endpoints = services().webhook_endpoints
    try:
        record, secret = endpoints.create(project(), wanted, id=attempt.resource_id)
    except TooManyEndpoints as error:
        raise ProblemError(
            "too_many_endpoints",
            f"a project may have {error} webhook endpoints",
            hint="remove one: DELETE /v1/webhook_endpoints/{id}",
        ) from None
    return json_answer(record.public(secret), 201, Location=f"/v1/webhook_endpoints/{record.id}")


@bp.get("")
@needs("admin")
@operation(
    summary="The webhook endpoints, newest first",
    answers={200: Shape(Page[WebhookEndpoint], "A page.")},
    parameters=paging(),
    problems=["bad_cursor", "invalid_request"],
)
def index() -> Response:
    return page(
        lambda window: services().webhook_endpoints.list(project(), limit=window.limit, cursor=window.cursor)
    )


@bp.get("/<endpoint_id>")
@needs("admin")
@operation(
    summary="A webhook endpoint",
    answers={200: Shape(WebhookEndpoint, "The endpoint.")},
    problems=["not_found"],
)
def show(endpoint_id: str) -> Response:
    return json_answer(_endpoint(endpoint_id).public())


@bp.patch("/<endpoint_id>")
@needs("admin")
@operation(
    summary="Change a webhook endpoint",
    body=Body(WebhookEndpointUpdate, {"disabled": False}),
    answers={200: Shape(WebhookEndpoint, "The endpoint as it is now.")},
    problems=[*_JSON, "not_found", "url_not_allowed"],
)
def update(endpoint_id: str) -> Response:
    """While it is disabled, deliveries that wait are held, and events are not recorded for it."""
    _endpoint(endpoint_id)
    wanted = validated(WebhookEndpointUpdate, json_body(services().settings.max_json_bytes))
    if wanted.url is not None:
        _check_url(wanted.url)
    record = services().webhook_endpoints.update(project(), endpoint_id, wanted)
    return json_answer(record.public())


@bp.delete("/<endpoint_id>")
@needs("admin")
@operation(
    summary="Remove a webhook endpoint",
    answers={204: Empty("Nothing is sent there any more, and its deliveries are forgotten.")},
    problems=["not_found"],
)
def delete(endpoint_id: str) -> Response:
    services().webhook_endpoints.delete(project(), endpoint_id)
    return Response(status=204)


@bp.post("/<endpoint_id>/rotate_secret")
@needs("admin")
@operation(
    summary="Replace the secret of a webhook endpoint",
    body=Body(RotateSecretRequest, {"overlap_hours": 24}),
    answers={200: Shape(WebhookEndpoint, "The endpoint with its new secret, which no other answer shows.")},
    parameters=[IDEMPOTENCY_KEY],
    problems=[*_JSON, *_ONCE, "not_found"],
)
def rotate_secret(endpoint_id: str) -> Response:
    """For `overlap_hours` every request is signed with both, so that receivers can change at their leisure;
    0 ends the old one at once."""
    _endpoint(endpoint_id)
    body = json_body(services().settings.max_json_bytes)
    wanted = validated(RotateSecretRequest, body)

    def rotated(_: Attempt) -> Response:
        record, secret = services().webhook_endpoints.rotate(
            project(), endpoint_id, 3600 * wanted.overlap_hours
        )
        return json_answer(record.public(secret))

    return services().ledger.once(project(), "endpoint", json_fingerprint(body), rotated)


@bp.post("/<endpoint_id>/test")
@needs("admin")
@operation(
    summary="Send a test event to a webhook endpoint",
    answers={202: Shape(WebhookDelivery, "Its delivery, just begun.", {"Location": "The delivery."})},
    parameters=[IDEMPOTENCY_KEY],
    problems=[*_ONCE, "bad_request", "not_found", "endpoint_disabled"],
)
def test(endpoint_id: str) -> Response:
    """A `webhook.test` event, whatever the endpoint's `events` are. It goes the way of all events, retries
    included."""
    endpoint = _enabled(endpoint_id)

    def sent(attempt: Attempt) -> Response:
        services().webhooks.test(endpoint, delivery_id=attempt.resource_id)
        try:
            return _delivery_answer(_delivery(endpoint_id, attempt.resource_id))
        except NotFound:
            raise _disabled() from None

    return services().ledger.once(project(), "delivery", json_fingerprint(None), sent)


@bp.get("/<endpoint_id>/deliveries")
@needs("admin")
@operation(
    summary="What was sent to a webhook endpoint, newest first",
    answers={200: Shape(Page[WebhookDelivery], "A page.")},
    parameters=[*paging(), Parameter("state", "Only those in this state.", {"enum": list(STATES)})],
    problems=["not_found", "bad_cursor", "invalid_request"],
)
def deliveries(endpoint_id: str) -> Response:
    """Each with every attempt: when, how long it took, what was answered or why nothing was."""
    state = request.args.get("state")
    if state is not None and state not in STATES:
        raise ProblemError("invalid_request", f"the query parameter state must be one of {', '.join(STATES)}")
    _endpoint(endpoint_id)
    return page(
        lambda window: services().webhook_deliveries.list(
            endpoint_id, state=state, limit=window.limit, cursor=window.cursor
        )
    )


@bp.get("/<endpoint_id>/deliveries/<delivery_id>")
@needs("admin")
@operation(
    summary="A delivery",
    answers={200: Shape(WebhookDelivery, "The delivery.")},
    problems=["not_found"],
)
def show_delivery(endpoint_id: str, delivery_id: str) -> Response:
    return json_answer(_delivery(endpoint_id, delivery_id).public())


@bp.post("/<endpoint_id>/deliveries/<delivery_id>/replay")
@needs("admin")
@operation(
    summary="Send an event again",
    answers={
        202: Shape(
            WebhookDelivery,
            "A new delivery of the same event; or, where it still waits, the delivery itself, due now.",
            {"Location": "The delivery."},
        )
    },
    parameters=[IDEMPOTENCY_KEY],
    problems=[*_ONCE, "bad_request", "not_found", "endpoint_disabled", "event_expired"],
)
def replay_delivery(endpoint_id: str, delivery_id: str) -> Response:
    """Under the same webhook-id: a receiver that has had it knows."""
    _enabled(endpoint_id)

    def replayed(attempt: Attempt) -> Response:
        try:
            record = services().webhook_deliveries.replay(
                project(), endpoint_id, delivery_id, new_id=attempt.resource_id
            )
        except EventExpired:
            raise ProblemError("event_expired", "what was sent then is not kept any more") from None
        services().webhooks.announce(record.id)
        return _delivery_answer(record)

    return services().ledger.once(project(), "delivery", json_fingerprint(None), replayed)


@bp.post("/<endpoint_id>/replay")
@needs("admin")
@operation(
    summary="Send again what failed since a time",
    body=Body(ReplayRequest, {"since": "2026-01-01T00:00:00Z"}),
    answers={202: Shape(WebhookReplay, "How many deliveries were made again, at most 500 at once.")},
    parameters=[IDEMPOTENCY_KEY],
    problems=[*_JSON, *_ONCE, "not_found", "endpoint_disabled"],
)
def replay(endpoint_id: str) -> Response:
    """Each failed delivery that was created then gets a new one, the oldest first; also those that were made
    again before."""
    _enabled(endpoint_id)
    body = json_body(services().settings.max_json_bytes)
    wanted = validated(ReplayRequest, body)

    def replayed(_: Attempt) -> Response:
        made, following = services().webhook_deliveries.replay_failed(
            project(), endpoint_id, wanted.since, wanted.until
        )
        for delivery_id in made[:1]:
            services().webhooks.announce(delivery_id)
        answer = WebhookReplay(count=len(made), has_more=following is not None, next_since=following)
        return json_answer(answer, 202)

    return services().ledger.once(project(), "delivery", json_fingerprint(body), replayed)


def _endpoint(endpoint_id: str) -> EndpointRecord:
    return services().webhook_endpoints.get(project(), endpoint_id)


def _enabled(endpoint_id: str) -> EndpointRecord:
    """NotFound; endpoint_disabled."""
    endpoint = _endpoint(endpoint_id)
    if endpoint.disabled:
        raise _disabled()
    return endpoint


def _disabled() -> ProblemError:
    return ProblemError(
        "endpoint_disabled",
        "nothing is sent to an endpoint that is disabled",
        hint='enable it: PATCH with {"disabled": false}',
    )


def _delivery(endpoint_id: str, delivery_id: str) -> DeliveryRecord:
    return services().webhook_deliveries.get(project(), endpoint_id, delivery_id)


def _delivery_answer(record: DeliveryRecord) -> Response:
    location = f"/v1/webhook_endpoints/{record.endpoint_id}/deliveries/{record.id}"
    return json_answer(record.public(), 202, Location=location)


def _check_url(url: str) -> None:
    try:
        services().poster.check(url)
    except UrlNotAllowed as error:
        fault = FieldError(pointer="/url", code="url_not_allowed", detail=str(error))
        raise ProblemError("url_not_allowed", str(error), errors=[fault]) from None
