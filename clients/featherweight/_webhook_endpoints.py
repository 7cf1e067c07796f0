"""``client.webhook_endpoints``: where the project's events are sent, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from featherweight._listing import Listing
from featherweight._transport import Session, decode
from featherweight.webhooks import WebhookDelivery, WebhookEndpoint, WebhookReplay

__all__ = ["WebhookEndpoints"]

_PATH = "/v1/webhook_endpoints"


class WebhookEndpoints:
    """All of it needs an API key with the scope admin."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def create(
        self,
        url: str,
        *,
        events: Sequence[str] = ("*",),
        description: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> WebhookEndpoint:
        """Have events sent to `url`: all of them, or those of the types in `events`.

        The answer's `secret` is what `verify_webhook` takes; no other answer shows it. Attempts share one
        Idempotency-Key, as those of `Jobs.create`. Raises InvalidRequest for a URL that nothing is sent to,
        and Conflict (``too_many_endpoints``).
        """
        body: dict[str, Any] = {"url": url, "events": list(events)}
        if description is not None:
            body["description"] = description
        if metadata is not None:
            body["metadata"] = dict(metadata)
        return decode(self._session.post(_PATH, json=body, idempotency_key=idempotency_key), WebhookEndpoint)

    def get(self, id: str) -> WebhookEndpoint:
        return self._session.get(_one(id), WebhookEndpoint)

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Listing[WebhookEndpoint]:
        """Newest first; `limit` to a page. Iterating goes through all pages."""
        return Listing(self._session, _PATH, WebhookEndpoint, {"limit": limit, "cursor": cursor})

    def update(
        self,
        id: str,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        description: str | None = None,
        metadata: Mapping[str, str] | None = None,
        disabled: bool | None = None,
    ) -> WebhookEndpoint:
        """Change what is given. ``disabled=False`` begins again, also where the service had disabled it."""
        body: dict[str, Any] = {
            "url": url,
            "events": None if events is None else [*events],
            "description": description,
            "metadata": None if metadata is None else dict(metadata),
            "disabled": disabled,
        }
        given = {name: value for name, value in body.items() if value is not None}
        return decode(self._session.request("PATCH", _one(id), json=given), WebhookEndpoint)

    def delete(self, id: str) -> None:
        self._session.delete(_one(id))

    def rotate_secret(self, id: str, *, overlap_hours: float = 24) -> WebhookEndpoint:
        """A new `secret`. For `overlap_hours` requests are signed with the old one as well."""
        body = {"overlap_hours": overlap_hours}
        return decode(self._session.post(f"{_one(id)}/rotate_secret", json=body), WebhookEndpoint)

    def test(self, id: str) -> WebhookDelivery:
        """Send a ``webhook.test`` event. Conflict (``endpoint_disabled``)."""
        return decode(self._session.post(f"{_one(id)}/test"), WebhookDelivery)

    def deliveries(
        self,
        id: str,
        *,
        state: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Listing[WebhookDelivery]:
        """What was sent, with every attempt, newest first; `state` is pending, succeeded or failed."""
        params = {"state": state, "limit": limit, "cursor": cursor}
        return Listing(self._session, f"{_one(id)}/deliveries", WebhookDelivery, params)

    def delivery(self, id: str, delivery_id: str) -> WebhookDelivery:
        return self._session.get(_delivery(id, delivery_id), WebhookDelivery)

    def replay(self, id: str, delivery_id: str) -> WebhookDelivery:
        """Send the event again, under the same webhook-id. Gone (``event_expired``), Conflict."""
        return decode(self._session.post(f"{_delivery(id, delivery_id)}/replay"), WebhookDelivery)

    def replay_failed(self, id: str, since: datetime, until: datetime | None = None) -> WebhookReplay:
        """Send again what failed of what was created from `since` to `until`, at most 500 at once.

        Times without a zone are local ones.
        """
        body = {"since": since.astimezone().isoformat()}
        if until is not None:
            body["until"] = until.astimezone().isoformat()
        return decode(self._session.post(f"{_one(id)}/replay", json=body), WebhookReplay)


def _one(id_: str) -> str:
    return f"{_PATH}/{quote(id_, safe='')}"


def _delivery(id_: str, delivery_id: str) -> str:
    return f"{_one(id_)}/deliveries/{quote(delivery_id, safe='')}"
