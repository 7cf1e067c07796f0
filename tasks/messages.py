"""What passes through the queue: the id of a job, and a signature by which a worker knows it is ours.

Whoever can write to the broker but has none of the keys cannot make a worker look at anything. A message
copied from the queue is worth no more: it says that a job is there to be claimed, and whether it is, the
record says.

Keys change without a pause: ``old,new`` everywhere, then ``new,old``, then ``new``. The first one signs,
all of them are accepted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.identifiers import is_id
from tasks.settings import Settings

__all__ = ["RUN_JOB", "MessageRefused", "NoMessageKey", "Seal", "new_message_key", "opened", "sealed_job"]

RUN_JOB = "tasks.run_job"

_SHORTEST_KEY = 32
_JSON = "application/json"


class NoMessageKey(RuntimeError):
    """FEATHERWEIGHT_MESSAGE_KEYS is not set: nothing can be signed, and nothing is accepted."""

    def __init__(self) -> None:
        super().__init__("FEATHERWEIGHT_MESSAGE_KEYS is not set, so no message can be signed or accepted")


class MessageRefused(ValueError):
    """Something in the queue that is no signed message of ours. The text says what is wrong with it."""


class Seal:
    """Signs job ids with the first of `keys`; accepts signatures made with any of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        """ValueError for a key of fewer than 32 characters."""
        if any(len(key) < _SHORTEST_KEY for key in keys):
            raise ValueError(f"a key of FEATHERWEIGHT_MESSAGE_KEYS has fewer than {_SHORTEST_KEY} characters")
        self._keys = [key.encode() for key in keys]

    @classmethod
    def of(cls, settings: Settings) -> Seal:
        given = settings.message_keys
        listed = "" if given is None else given.get_secret_value()
        return cls([key for part in listed.split(",") if (key := part.strip())])

    def check(self) -> None:
        """NoMessageKey when there is no key."""
        if not self._keys:
            raise NoMessageKey

    def sign(self, job_id: str) -> str:
        """The signature of a message about this job; NoMessageKey."""
        self.check()
        return _signature(self._keys[0], job_id)

    def accepts(self, job_id: str, signature: str) -> bool:
        given = signature.encode(errors="replace")
        return any(hmac.compare_digest(_signature(key, job_id).encode(), given) for key in self._keys)


def new_message_key() -> str:
    return secrets.token_urlsafe(32)


def sealed_job(message: Any) -> tuple[str, str]:
    """Job id and signature of a message as it lies in the broker; MessageRefused. The signature is not
    checked."""
    if not isinstance(message, Mapping):
        raise MessageRefused("it is no JSON object")
    if (content_type := message.get("content-type")) != _JSON:
        raise MessageRefused(f"ContentDisallowed: {str(content_type)[:60]!r} is not {_JSON}")
    headers = message.get("headers")
    if not isinstance(headers, Mapping) or headers.get("task") != RUN_JOB:
        raise MessageRefused(f"it is not about {RUN_JOB}")
    match _body(message):
        case [[str(job_id), str(signature)], {}, _] if is_id(job_id):
            return job_id, signature
    raise MessageRefused("its arguments are not a job id and a signature")


def opened(message: Any, seal: Seal) -> dict[str, Any]:
    """`message` made anew of its job id, signature and delivery alone; MessageRefused.

    What else it says is dropped – times, callbacks, chains – for none of that is signed.
    """
    job_id, signature = sealed_job(message)
    if not seal.accepts(job_id, signature):
        raise MessageRefused(f"its signature for {job_id} fits none of the keys")
    return {
        "body": base64.b64encode(json.dumps([[job_id, signature], {}, {}]).encode()).decode(),
        "content-type": _JSON,
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": RUN_JOB, "id": str(uuid.uuid4()), "ignore_result": True},
        "properties": _properties(message),
    }


def _body(message: Mapping[str, Any]) -> Any:
    try:
        return json.loads(base64.b64decode(message["body"], validate=True))
    except (KeyError, TypeError, RecursionError, binascii.Error, ValueError):
        raise MessageRefused("its body cannot be read") from None


def _properties(message: Mapping[str, Any]) -> dict[str, Any]:
    match message.get("properties"):
        case {
            "delivery_tag": str(tag),
            "delivery_info": {"exchange": str(exchange), "routing_key": str(routing_key)},
            **others,
        }:
            priority = others.get("priority")
            return {
                "delivery_tag": tag,
                "delivery_info": {"exchange": exchange, "routing_key": routing_key},
                "delivery_mode": 2,
                "body_encoding": "base64",
                "priority": priority if type(priority) is int else 0,
            }
    raise MessageRefused("it does not say how it was delivered")


def _signature(key: bytes, job_id: str) -> str:
    return hmac.new(key, f"{RUN_JOB}\0{job_id}".encode(), hashlib.sha256).hexdigest()
