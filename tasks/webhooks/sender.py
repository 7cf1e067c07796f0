"""One attempt at a delivery: signed, posted, and its outcome in words."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from featherweight.signing import signature_header
from tasks.outbound import FetchFailed, Policy, Poster, Reply, UrlNotAllowed
from tasks.settings import Settings
from tasks.webhooks.deliveries import DeliveryClaim, Outcome
from tasks.webhooks.retries import LONGEST_REST_S, RetryPolicy

__all__ = ["Sender", "make_poster"]

_SHOWN_BYTES = 1024
_GONE = 410
# With one of these a Retry-After is meant for all that is sent, not for this delivery alone.
_OVERLOADED = frozenset({429, 502, 503, 504})


def make_poster(settings: Settings) -> Poster:
    """What webhooks are sent with. ValueError naming the part of a setting that is wrong."""
    policy = Policy.of(settings.webhook_ports, settings.webhook_trusted_origins)
    return Poster(policy, user_agent="featherweight-webhooks/1", timeout_s=settings.webhook_timeout_s)


class Sender:
    """Knows no records: what it is to send comes with each call."""

    def __init__(self, poster: Poster, retries: RetryPolicy) -> None:
        self._poster = poster
        self._retries = retries

    def attempt(self, claim: DeliveryClaim, url: str, secrets: list[str], body: bytes) -> Outcome:
        """Send `body` to `url`, signed with each of `secrets`, now. Whatever goes wrong is an outcome."""
        headers = _signed(claim.event_id, secrets, body)
        started = time.monotonic()
        try:
            reply = self._poster.post(url, body, headers)
        except UrlNotAllowed as error:
            return self._failed(claim, started, "url_not_allowed", str(error))
        except FetchFailed as error:
            return self._failed(claim, started, error.code, str(error))
        return self._answered(claim, started, reply)

    def _answered(self, claim: DeliveryClaim, started: float, reply: Reply) -> Outcome:
        shown = plain(reply.body) or None
        if 200 <= reply.status < 300:
            return Outcome(
                "delivered",
                latency_ms=_milliseconds(started),
                status_code=reply.status,
                response_body=shown,
            )
        after = retry_after_s(reply.headers.get("retry-after"))
        pause = self._retries.pause(claim.attempt, after)
        return Outcome(
            "gone" if reply.status == _GONE else "attempts_used_up" if pause is None else "retry",
            pause_s=pause or 0.0,
            rest_s=after if reply.status in _OVERLOADED else 0.0,
            latency_ms=_milliseconds(started),
            status_code=reply.status,
            error="bad_status",
            detail=_sentence(reply.status),
            response_body=shown,
        )

    def _failed(self, claim: DeliveryClaim, started: float, error: str, detail: str) -> Outcome:
        pause = self._retries.pause(claim.attempt)
        return Outcome(
            "attempts_used_up" if pause is None else "retry",
            pause_s=pause or 0.0,
            latency_ms=_milliseconds(started),
            error=error,
            detail=detail,
        )


def plain(body: bytes) -> str:
    """The beginning of an answer, as text that does nothing to a terminal or a log."""
    text = body[:_SHOWN_BYTES].decode("utf-8", "replace")
    return "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def retry_after_s(value: str | None) -> float:
    """Seconds from now that a Retry-After names, as seconds or as an HTTP date; 0 if it says nothing."""
    if not value:
        return 0.0
    if value.isascii() and value.isdecimal():
        return min(float(value[:12]), LONGEST_REST_S)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    seconds = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(0.0, seconds), LONGEST_REST_S)


def _signed(event_id: str, secrets: list[str], body: bytes) -> dict[str, str]:
    # Of the attempt, not of the event: receivers refuse what is old.
    timestamp = int(time.time())
    return {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature_header(secrets, event_id, timestamp, body),
    }


def _sentence(status: int) -> str:
    if 300 <= status < 400:
        return f"the receiver answered {status}: redirects are not followed"
    if status == _GONE:
        return "the receiver answered 410: it wants nothing more"
    return f"the receiver answered {status}"


def _milliseconds(started: float) -> int:
    return round(1000 * (time.monotonic() - started))
