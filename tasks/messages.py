"""What passes through the queues: the id of a job, a delivery or a schedule, and a signature by which a
worker knows it is ours.

Whoever can write to the broker but has none of the keys cannot make a worker look at anything. A message
copied from the queue is worth no more: it says that there is something to be done, and whether there is, the
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
from typing import Any, NamedTuple

from tasks.identifiers import is_id
from tasks.settings import Settings

__all__ = [
    "DELIVER",
    "FIRE",
    "RUN_JOB",
    "MessageRefused",
    "NoMessageKey",
    "Seal",
    "Sealed",
    "new_message_key",
    "opened",
    "sealed",
]

RUN_JOB = "tasks.run_job"
DELIVER = "tasks.deliver_webhook"
FIRE = "tasks.fire_schedule"

_TASKS = frozenset({RUN_JOB, DELIVER, FIRE})

_SHORTEST_KEY = 32
_JSON = "application/json"


class NoMessageKey(RuntimeError):
    """FEATHERWEIGHT_MESSAGE_KEYS is not set: nothing can be signed, and nothing is accepted."""

    def __init__(self) -> None:
        super().__init__("FEATHERWEIGHT_MESSAGE_KEYS is not set, so no message can be signed or accepted")


class MessageRefused(ValueError):
    """Something in the queue that is no signed message of ours. The text says what is wrong with it."""


class Sealed(NamedTuple):
    """What a message says: do `task` for the record `id`."""

    task: str
    id: str
    signature: str


class Seal:
    """Signs ids for a task with the first of `keys`; accepts signatures made with any of them."""

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

    def sign(self, id: str, task: str = RUN_JOB) -> str:
        """The signature of a message about `id`; NoMessageKey."""
        self.check()
        return _signature(self._keys[0], task, id)

    def accepts(self, id: str, signature: str, task: str = RUN_JOB) -> bool:
        given = signature.encode(errors="replace")
        return any(hmac.compare_digest(_signature(key, task, id).encode(), given) for key in self._keys)


def new_message_key() -> str:
    return secrets.token_urlsafe(32)


def sealed(message: Any) -> Sealed:
    """A message as it lies in the broker; MessageRefused. The signature is not checked."""
    if not isinstance(message, Mapping):
        raise MessageRefused("it is no JSON object")
    if (content_type := message.get("content-type")) != _JSON:
        raise MessageRefused(f"ContentDisallowed: {str(content_type)[:60]!r} is not {_JSON}")
    headers = message.get("headers")
    task = headers.get("task") if isinstance(headers, Mapping) else None
    if not isinstance(task, str) or task not in _TASKS:
        raise MessageRefused("it is about no task of ours")
    match _body(message):
        case [[str(id), str(signature)], {}, _] if is_id(id):
            return Sealed(task, id, signature)
    raise MessageRefused("its arguments are not an id and a signature")


def opened(message: Any, seal: Seal) -> dict[str, Any]:
    """`message` made anew of its task, id, signature and delivery alone; MessageRefused.

    What else it says is dropped – times, callbacks, chains – for none of that is signed.
    """
    task, id, signature = sealed(message)
    if not seal.accepts(id, signature, task):
        raise MessageRefused(f"its signature for {id} fits none of the keys")
    return {
        "body": base64.b64encode(json.dumps([[id, signature], {}, {}]).encode()).decode(),
        "content-type": _JSON,
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": task, "id": str(uuid.uuid4()), "ignore_result": True},
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


def _signature(key: bytes, task: str, id: str) -> str:
    return hmac.new(key, f"{task}\0{id}".encode(), hashlib.sha256).hexdigest()
