"""The commands about webhook endpoints and what was sent to them."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Any

from featherweight.cli.commands import Context
from featherweight.cli.exit_codes import OK
from featherweight.cli.output import columns
from featherweight.webhooks import WebhookDelivery, WebhookEndpoint

__all__ = ["create", "delete", "deliveries", "list_endpoints", "replay", "rotate", "show", "test", "update"]

_PAGE = 100


def create(context: Context) -> int:
    """The secret goes to standard output alone, so that it can be kept without being shown."""
    args = context.args
    made = context.client.webhook_endpoints.create(
        args.endpoint_url,
        events=args.event or ["*"],
        description=args.description,
        metadata=dict(args.metadata) or None,
        idempotency_key=args.idempotency_key,
    )
    context.output.result(made, f"{made.id}\n{made.secret}")
    _advise_secret(context)
    return OK


def list_endpoints(context: Context) -> int:
    limit = context.args.limit
    found = list(islice(context.client.webhook_endpoints.list(limit=min(limit, _PAGE)), limit))
    rows = [[each.id, _state(each), ",".join(each.events), each.pending, each.url] for each in found]
    head = ["id", "state", "events", "waiting", "url"]
    context.output.result(found, columns(head, rows, right=[3]))
    return OK


def show(context: Context) -> int:
    endpoint = context.client.webhook_endpoints.get(context.args.endpoint)
    context.output.result(endpoint, _endpoint_text(endpoint))
    return OK


def update(context: Context) -> int:
    args = context.args
    changed = context.client.webhook_endpoints.update(
        args.endpoint,
        url=args.endpoint_url,
        events=args.event or None,
        description=args.description,
        disabled=args.disabled,
    )
    context.output.result(changed, _endpoint_text(changed))
    return OK


def rotate(context: Context) -> int:
    args = context.args
    endpoint = context.client.webhook_endpoints.rotate_secret(args.endpoint, overlap_hours=args.overlap_hours)
    context.output.result(endpoint, endpoint.secret or "")
    _advise_secret(context)
    return OK


def delete(context: Context) -> int:
    context.client.webhook_endpoints.delete(context.args.endpoint)
    context.output.result({"id": context.args.endpoint, "deleted": True}, "")
    return OK


def test(context: Context) -> int:
    endpoint = context.args.endpoint
    sent = context.client.webhook_endpoints.test(endpoint)
    context.output.result(sent, sent.id)
    context.output.advice(f"what came of it:  featherweight webhook deliveries {endpoint}")
    return OK


def deliveries(context: Context) -> int:
    args = context.args
    listing = context.client.webhook_endpoints.deliveries(
        args.endpoint, state=args.state, limit=min(args.limit, _PAGE)
    )
    found = list(islice(listing, args.limit))
    head = ["id", "event", "state", "attempts", "status", "error", "created", "next attempt"]
    context.output.result(found, columns(head, [_delivery_row(each) for each in found], right=[3, 4]))
    return OK


def replay(context: Context) -> int:
    """Of one delivery, or of all that failed since a time."""
    args, endpoints = context.args, context.client.webhook_endpoints
    if (args.delivery is None) == (args.since is None):
        raise ValueError("name one delivery, or a time with --since")
    if args.since is None:
        made = endpoints.replay(args.endpoint, args.delivery)
        context.output.result(made, made.id)
        return OK
    # What is made again now and fails once more is not made again another time.
    count, since, until = 0, args.since, datetime.now(UTC)
    while since is not None:
        found = endpoints.replay_failed(args.endpoint, since, until)
        count, since = count + found.count, found.next_since
    context.output.result({"count": count}, f"{count} deliveries are sent again")
    return OK


def _state(endpoint: WebhookEndpoint) -> str:
    if endpoint.disabled:
        return f"disabled ({endpoint.disabled_reason})"
    return "enabled" if endpoint.failing_since is None else "failing"


def _endpoint_text(endpoint: WebhookEndpoint) -> str:
    facts: list[tuple[str, Any]] = [
        ("id", endpoint.id),
        ("url", endpoint.url),
        ("events", ", ".join(endpoint.events)),
        ("description", endpoint.description),
        ("state", _state(endpoint)),
        ("disabled", _when(endpoint.disabled_at)),
        ("failing since", _when(endpoint.failing_since)),
        ("last success", _when(endpoint.last_success_at)),
        ("last failure", _when(endpoint.last_failure_at)),
        ("waiting", endpoint.pending),
        ("created", _when(endpoint.created_at)),
        *((f"  {key}", value) for key, value in endpoint.metadata.items()),
    ]
    return "\n".join(f"{name:<14} {value}" for name, value in facts if value is not None)


def _delivery_row(delivery: WebhookDelivery) -> list[Any]:
    last = delivery.attempts[-1] if delivery.attempts else None
    return [
        delivery.id,
        delivery.event_type,
        delivery.state,
        len(delivery.attempts),
        last and last.status_code,
        last and last.error,
        _when(delivery.created_at),
        _when(delivery.next_attempt_at),
    ]


def _advise_secret(context: Context) -> None:
    context.output.advice("keep the secret: it is not shown again")


def _when(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"
