"""Signatures of webhooks: ours are those of the `standardwebhooks` package, and nothing else is believed."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook

import featherweight
from featherweight.signing import new_secret, sign, signature_header, verify_webhook

EVENT = {
    "id": "evt_a",
    "type": "job.succeeded",
    "timestamp": "2026-01-02T03:04:05Z",
    "data": {"id": "job_a", "name": "na\u00efve \u2603"},
}
BODY = json.dumps(EVENT, ensure_ascii=False).encode()
SECRET = "whsec_" + base64.b64encode(b"a secret of just enough bytes").decode()
OTHER = new_secret()


def headers(body: bytes = BODY, *secrets: str, at: float | None = None, id: str = "evt_a") -> dict[str, str]:
    timestamp = int(time.time() if at is None else at)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature_header(secrets or [SECRET], id, timestamp, body),
    }


def test_known_answer_of_the_specification() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    signed = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("body", [BODY, b"", b"{}", "\u2603".encode() * 5000])
def test_the_reference_library_agrees_with_ours(body: bytes) -> None:
    at = int(time.time())
    theirs = Webhook(SECRET).sign("evt_a", datetime.fromtimestamp(at, UTC), body.decode())
    assert sign(SECRET, "evt_a", at, body) == theirs


@pytest.mark.parametrize("secrets", [[SECRET], [OTHER, SECRET], [SECRET, OTHER]])
def test_the_reference_library_accepts_what_we_send(secrets: list[str]) -> None:
    assert Webhook(SECRET).verify(BODY, headers(BODY, *secrets)) == EVENT


def test_we_accept_what_the_reference_library_signs() -> None:
    at = int(time.time())
    sent = headers() | {
        "webhook-timestamp": str(at),
        "webhook-signature": Webhook(SECRET).sign("evt_a", datetime.fromtimestamp(at, UTC), BODY.decode()),
    }
    event = verify_webhook(BODY, sent, SECRET)
    assert (event.id, event.type, event.data["name"]) == ("evt_a", "job.succeeded", "na\u00efve \u2603")
    assert event.timestamp == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_names_of_headers_are_taken_in_any_case_and_text_for_bytes() -> None:
    sent = {name.title(): value for name, value in headers().items()}
    assert featherweight.verify_webhook(BODY.decode(), sent, SECRET).id == "evt_a"


@pytest.mark.parametrize("known", [[SECRET], [OTHER], [new_secret(), OTHER]])
def test_while_secrets_are_rotated_one_of_them_is_enough(known: list[str]) -> None:
    sent = headers(BODY, SECRET, OTHER)
    assert verify_webhook(BODY, sent, known).id == "evt_a"


def test_signatures_of_other_versions_are_passed_over() -> None:
    sent = headers()
    sent["webhook-signature"] = f"v1a,AAAA v2,x v1 , {sent['webhook-signature']}"
    assert verify_webhook(BODY, sent, SECRET).id == "evt_a"


def refused(reason: str, body: bytes = BODY, sent: dict[str, str] | None = None, **options: float) -> None:
    with pytest.raises(featherweight.InvalidWebhook) as found:
        verify_webhook(body, headers() if sent is None else sent, SECRET, **options)
    assert found.value.reason == reason
    assert SECRET not in str(found.value)
    assert isinstance(found.value, featherweight.FeatherweightError | ValueError)


@pytest.mark.parametrize("body", [BODY + b" ", BODY.replace(b"job_a", b"job_b"), b"", BODY[:-1]])
def test_another_body_is_refused(body: bytes) -> None:
    refused("bad_signature", body)


@pytest.mark.parametrize("change", [
    {"webhook-id": "evt_b"},
    {"webhook-timestamp": str(int(time.time()) + 7)},
    {"webhook-signature": "v1,"},
    {"webhook-signature": "v1,\u2603"},
    {"webhook-signature": "nonsense"},
    {"webhook-signature": " "},
])  # fmt: skip
def test_another_header_is_refused(change: dict[str, str]) -> None:
    refused("bad_signature", sent=headers() | change)


def test_another_secret_is_refused() -> None:
    refused("bad_signature", sent=headers(BODY, OTHER))


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_that_is_missing_or_empty_is_named(name: str) -> None:
    sent = headers()
    refused("missing_header", sent=sent | {name: ""})
    del sent[name]
    with pytest.raises(featherweight.InvalidWebhook, match=name):
        verify_webhook(BODY, sent, SECRET)


@pytest.mark.parametrize("value", ["now", "1e9", "-1", "1.5", "\u0661", "9" * 30])
def test_a_timestamp_is_a_number_of_seconds(value: str) -> None:
    refused("bad_timestamp", sent=headers() | {"webhook-timestamp": value})


def test_a_request_of_long_ago_is_refused_and_so_is_one_of_the_future() -> None:
    now = time.time()
    refused("too_old", sent=headers(at=now - 301))
    refused("too_new", sent=headers(at=now + 310))
    refused("too_old", sent=headers(at=now - 11), tolerance_s=10)
    assert verify_webhook(BODY, headers(at=now - 290), SECRET).id == "evt_a"
    assert verify_webhook(BODY, headers(at=now - 3000), SECRET, tolerance_s=3600).id == "evt_a"


@pytest.mark.parametrize("body", [b"[]", b"no json", b'{"type": "x"}', b"\xff"])
def test_a_signed_body_that_is_no_event_is_refused(body: bytes) -> None:
    refused("bad_payload", body, headers(body))


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_AAAA", "whsec_\u2603", "hunter2", []])
def test_what_is_no_secret_is_a_fault_of_the_receiver(secret: str | list[str]) -> None:
    with pytest.raises(featherweight.ConfigurationError) as found:
        verify_webhook(BODY, headers(), secret)
    assert "hunter2" not in str(found.value)


def test_new_secrets_are_of_32_bytes_and_never_the_same() -> None:
    secrets = {new_secret() for _ in range(10)}
    assert len(secrets) == 10
    assert all(len(base64.b64decode(each.removeprefix("whsec_"))) == 32 for each in secrets)


def test_the_job_of_an_event() -> None:
    job = {
        "id": "job_a",
        "model_id": "mdl_a",
        "spec": {},
        "state": "succeeded",
        "created_at": "2026-01-02T03:04:05Z",
    }
    body = json.dumps({**EVENT, "data": job}).encode()
    event = verify_webhook(body, headers(body), SECRET)
    assert event.job.state == featherweight.JobState.SUCCEEDED
    other = event.model_copy(update={"type": "batch.completed"})
    with pytest.raises(ValueError, match=r"batch\.completed"):
        other.job  # noqa: B018
