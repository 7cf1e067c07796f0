"""``client.imports``: files that the service fetches itself."""

from __future__ import annotations

from typing import Any

from featherweight._transport import Session, decode
from featherweight.resources import Import, Kind

__all__ = ["Imports"]

# The service answers when it has the whole file; by default it allows itself five minutes for that.
_TIMEOUT_S = 330.0


class Imports:
    def __init__(self, session: Session) -> None:
        self._session = session

    def create(
        self,
        url: str,
        *,
        kind: Kind = "model",
        sha256: str | None = None,
        filename: str | None = None,
        idempotency_key: str | None = None,
    ) -> Import:
        """Have the service fetch a model or data set: its `resource_id` is what `compress` takes.

        `url` is https://, or s3:// for an object of the project in the service's own bucket. With `sha256`
        a file of another digest is refused. Attempts share one Idempotency-Key, as those of `Jobs.create`.
        Raises PermissionDenied where the service fetches nothing, InvalidRequest and PayloadTooLarge.
        """
        body: dict[str, Any] = {"kind": kind, "url": url, "sha256": sha256, "filename": filename}
        given = {name: value for name, value in body.items() if value is not None}
        answer = self._session.post(
            "/v1/imports", json=given, idempotency_key=idempotency_key, timeout=_TIMEOUT_S
        )
        return decode(answer, Import)
