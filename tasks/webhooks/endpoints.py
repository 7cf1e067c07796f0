"""Webhook endpoints in Redis, and their secrets.

A secret must be there in plain: what is sent is signed with it. It lies in a key of its own, ``fw:kwh:<id>``,
which the users of Redis for the service and the courier may read, and workers may not (deploy/redis.acl):
who takes over a worker can sign nothing.
"""

from __future__ import annotations

import json
import time
from typing import Any

import redis
from pydantic import BaseModel

from featherweight.signing import new_secret
from featherweight.webhooks import WebhookEndpoint, WebhookEndpointRequest, WebhookEndpointUpdate
from tasks.identifiers import check_name, is_id
from tasks.recordstore import NotFound, checked, page
from tasks.settings import Settings
from tasks.webhooks.scripts import Scripts, moment, pairs

__all__ = ["EndpointRecord", "EndpointStore", "Secret", "Secrets", "TooManyEndpoints"]

# Named here because inside the class `list` is a method.
_Texts = list[str]

# The newest, and those it replaced whose overlap is not over.
_MOST_SECRETS = 5


class TooManyEndpoints(Exception):
    """The project has as many endpoints as it may have."""


class EndpointRecord(WebhookEndpoint):
    project: str

    def public(self, secret: str | None = None) -> WebhookEndpoint:
        shown = WebhookEndpoint.model_validate(self.model_dump(include=set(WebhookEndpoint.model_fields)))
        return shown.model_copy(update={"secret": secret})


_Records = list[EndpointRecord | None]


class Secret(BaseModel):
    """`until` is in Unix seconds, None for the newest."""

    text: str
    until: float | None = None


class Secrets:
    """What the requests to each endpoint are signed with. redis.RedisError."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def valid(self, endpoint_id: str) -> _Texts:
        """The newest first; none for an endpoint that is not there."""
        return [secret.text for secret in self._load(endpoint_id)]

    def create(self, endpoint_id: str) -> str:
        """The first secret of an endpoint; the one it has when it has one."""
        self._redis.set(_secret_key(endpoint_id), _dumped([Secret(text=new_secret())]), nx=True)
        return self.valid(endpoint_id)[0]

    def rotate(self, endpoint_id: str, overlap_s: float) -> str:
        """A new one. The last one is good for `overlap_s` more, and none for longer; at most five are.

        NotFound for an endpoint that is not there any more.
        """
        made = Secret(text=new_secret())
        until = time.time() + overlap_s

        def replace(pipe: Any) -> None:
            known = self._load(endpoint_id, pipe)
            if not known:
                raise NotFound(endpoint_id)
            kept = [
                secret.model_copy(update={"until": min(secret.until or until, until)}) for secret in known
            ]
            pipe.multi()
            pipe.set(
                _secret_key(endpoint_id), _dumped([made, *(kept if overlap_s > 0 else [])][:_MOST_SECRETS])
            )

        self._redis.transaction(replace, _secret_key(endpoint_id))
        return made.text

    def forget(self, endpoint_id: str) -> None:
        self._redis.delete(_secret_key(endpoint_id))

    def _load(self, endpoint_id: str, client: Any = None) -> list[Secret]:
        stored = (client or self._redis).get(_secret_key(endpoint_id))
        known = [Secret.model_validate(item) for item in json.loads(stored or "[]")]
        return [secret for secret in known if secret.until is None or secret.until > time.time()]


class EndpointStore:
    """Endpoints by project and id. Any method may raise redis.RedisError."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._most = settings.webhook_endpoints
        self._run = Scripts(client, settings)
        self.secrets = Secrets(client)

    def create(self, project: str, wanted: WebhookEndpointRequest, *, id: str) -> tuple[EndpointRecord, str]:
        """A new endpoint, or the one that exists under this id, with its secret; TooManyEndpoints."""
        # The secret first: an endpoint without one could be sent nothing.
        secret = self.secrets.create(checked(id))
        fields = _flat(wanted.model_dump(), set(WebhookEndpointRequest.model_fields))
        if not self._run("create_endpoint", id, check_name(project), self._most, *fields):
            self.secrets.forget(id)
            raise TooManyEndpoints(self._most)
        return self.get(project, id), secret

    def get(self, project: str, id: str) -> EndpointRecord:
        """NotFound also for another project's id."""
        record = self.find(id)
        if record is None or record.project != project:
            raise NotFound(id)
        return record

    def find(self, id: str) -> EndpointRecord | None:
        """The record, whichever project it belongs to: for the courier."""
        return self._found([id])[0] if is_id(id) else None

    def list(
        self, project: str, *, limit: int = 20, cursor: str | None = None
    ) -> tuple[list[EndpointRecord], str | None]:
        """Newest first, and the cursor of what follows; ValueError for a cursor not of ours."""
        index = f"fw:webhooks:endpoints:{check_name(project)}"
        ids, following = page(self._redis, index, limit, cursor)
        return [record for record in self._found(ids) if record is not None], following

    def update(self, project: str, id: str, wanted: WebhookEndpointUpdate) -> EndpointRecord:
        """NotFound."""
        state = {None: "", True: "disabled", False: "enabled"}[wanted.disabled]
        fields = _flat(wanted.model_dump(), wanted.model_fields_set - {"disabled"})
        # The script wants at least one pair.
        if not is_id(id) or not self._run("update_endpoint", id, project, state, "id", id, *fields):
            raise NotFound(id)
        return self.get(project, id)

    def rotate(self, project: str, id: str, overlap_s: float) -> tuple[EndpointRecord, str]:
        """The record with a new secret; NotFound."""
        record = self.get(project, id)
        return record, self.secrets.rotate(id, overlap_s)

    def delete(self, project: str, id: str) -> None:
        """Nothing is sent any more, and what waits is forgotten; NotFound."""
        if not is_id(id) or not self._run("delete_endpoint", id, project):
            raise NotFound(id)
        self.secrets.forget(id)

    def _found(self, ids: _Texts) -> _Records:
        pipeline = self._redis.pipeline(transaction=False)
        for id in ids:
            pipeline.hgetall(f"fw:webhooks:endpoint:{id}")
            pipeline.zcard(f"fw:webhooks:log:{id}:pending")
        answers = pipeline.execute()
        return [_record(pairs(answers[i]), answers[i + 1]) for i in range(0, len(answers), 2)]


def _flat(values: dict[str, Any], names: set[str]) -> _Texts:
    """Fields and values for Redis; None is an empty text."""
    flat: list[str] = []
    for name in sorted(names):
        value = values[name]
        flat += [name, json.dumps(value) if isinstance(value, list | dict) else value or ""]
    return flat


def _record(fields: dict[str, str], pending: int) -> EndpointRecord | None:
    if "id" not in fields:
        return None
    times = ("disabled_at", "failing_since", "last_success_at", "last_failure_at", "created_at", "updated_at")
    return EndpointRecord.model_validate(
        {
            "id": fields["id"],
            "project": fields["project"],
            "url": fields["url"],
            "events": json.loads(fields["events"]),
            "description": fields.get("description") or None,
            "metadata": json.loads(fields["metadata"]),
            "api_version": fields["api_version"],
            "disabled": "disabled_reason" in fields,
            "disabled_reason": fields.get("disabled_reason"),
            "pending": pending,
            **{name: moment(fields, name) for name in times},
        }
    )


def _secret_key(endpoint_id: str) -> str:
    return f"fw:kwh:{checked(endpoint_id)}"


def _dumped(secrets: list[Secret]) -> str:
    return json.dumps([secret.model_dump() for secret in secrets])
