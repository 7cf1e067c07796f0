"""Signatures of webhooks, by Standard Webhooks 1.0: HMAC-SHA256 over ``id.timestamp.body``.

    event = featherweight.verify_webhook(request.get_data(), request.headers, secret)

The body must be the bytes as they came: JSON that was parsed and written again has another signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets as random
import time
from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError

from featherweight.errors import ConfigurationError, InvalidWebhook
from featherweight.webhooks import WebhookEvent

__all__ = ["new_secret", "sign", "signature_header", "verify_webhook"]

_PREFIX = "whsec_"
_VERSION = "v1"
_NEW_BYTES = 32
# What Standard Webhooks allows.
_KEY_BYTES = range(24, 65)
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


def new_secret() -> str:
    """``whsec_`` and 32 random bytes in base64."""
    return _PREFIX + base64.b64encode(random.token_bytes(_NEW_BYTES)).decode()


def sign(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """One signature, ``v1,…``; ConfigurationError for what is no secret. `timestamp` is in Unix seconds."""
    signed = f"{id}.{timestamp}.".encode() + body
    digest = hmac.new(_key(secret), signed, hashlib.sha256).digest()
    return f"{_VERSION},{base64.b64encode(digest).decode()}"


def signature_header(secrets: Iterable[str], id: str, timestamp: int, body: bytes) -> str:
    """The header ``webhook-signature``: one signature for each secret."""
    return " ".join(sign(secret, id, timestamp, body) for secret in secrets)


def verify_webhook(
    payload: bytes | str,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    tolerance_s: float = 300,
) -> WebhookEvent:
    """The event in `payload`, the body as it came, once it is seen to be signed with `secret`.

    Several secrets are those that are valid while one replaces another. A timestamp more than `tolerance_s`
    seconds from now, either way, is refused: who caught a request cannot send it again later. Names of
    `headers` are taken in any case.

    InvalidWebhook, whose `reason` says why; ConfigurationError for what is no secret.
    """
    body = payload.encode() if isinstance(payload, str) else bytes(payload)
    listed = [secret] if isinstance(secret, str) else list(secret)
    if not listed:
        raise ConfigurationError("no secret to verify webhooks with: webhook endpoints show theirs when made")
    found = {str(name).lower(): value for name, value in headers.items()}
    id_, timestamp, signatures = (_header(found, name) for name in ("id", "timestamp", "signature"))
    if not _TIMESTAMP.fullmatch(timestamp):
        raise InvalidWebhook("bad_timestamp", "webhook-timestamp is no number of seconds")
    if not _matches([sign(each, id_, int(timestamp), body) for each in listed], signatures):
        raise InvalidWebhook("bad_signature", "no signature in webhook-signature was made with this secret")
    _check_age(int(timestamp), tolerance_s)
    try:
        event = WebhookEvent.model_validate_json(body)
    except ValidationError:
        raise InvalidWebhook("bad_payload", "the body is signed, but is no event of this service") from None
    # The header is signed as the body is, and it is what receivers are told to remember.
    return event.model_copy(update={"id": id_})


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(f"webhook-{name}")
    if not value:
        raise InvalidWebhook("missing_header", f"the request has no header webhook-{name}")
    return str(value)


def _matches(expected: Sequence[str], given: str) -> bool:
    """Whether one of the space-separated signatures is expected. Compares all, in constant time."""
    matches = False
    for signature in given.split():
        for wanted in expected:
            matches |= hmac.compare_digest(wanted.encode(), signature.encode(errors="replace"))
    return matches


def _check_age(timestamp: int, tolerance_s: float) -> None:
    age = time.time() - timestamp
    if age > tolerance_s:
        raise InvalidWebhook("too_old", f"the request was signed {age:.0f} s ago, more than {tolerance_s:g}")
    if -age > tolerance_s:
        raise InvalidWebhook("too_new", f"the request was signed {-age:.0f} s in the future")


def _key(secret: str) -> bytes:
    text = secret.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) not in _KEY_BYTES:
        # Not a word of it: what is nearly a secret is one.
        raise ConfigurationError("a webhook secret is whsec_ and 24 to 64 bytes in base64")
    return key
