"""``client.inbox``: objects that other systems put into the project's part of the bucket."""

from __future__ import annotations

from featherweight._listing import Listing
from featherweight._transport import Session, decode
from featherweight.resources import Import, InboxObject, Kind

__all__ = ["Inbox"]

# The service answers when it has copied and judged the whole object.
_TIMEOUT_S = 330.0


class Inbox:
    def __init__(self, session: Session) -> None:
        self._session = session

    def list(
        self, prefix: str = "", *, limit: int | None = None, cursor: str | None = None
    ) -> Listing[InboxObject]:
        """Those whose name begins with `prefix`, by name; `limit` to a page. Iterating goes through all
        pages."""
        params = {"prefix": prefix or None, "limit": limit, "cursor": cursor}
        return Listing(self._session, "/v1/inbox", InboxObject, params)

    def adopt(self, name: str, *, kind: Kind = "model", idempotency_key: str | None = None) -> Import:
        """Make a model or data set of an object: its `resource_id` is what `compress` takes.

        The object stays where it is. Adopted again while it has not changed, it is the same model or data
        set. Raises NotFound for an object that is not there, Conflict for one that changed meanwhile,
        InvalidRequest and PayloadTooLarge.
        """
        answer = self._session.post(
            "/v1/inbox/adopt",
            json={"name": name, "kind": kind},
            idempotency_key=idempotency_key,
            timeout=_TIMEOUT_S,
        )
        return decode(answer, Import)
