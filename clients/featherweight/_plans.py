"""``client.plans``: what a job would do, without doing it."""

from __future__ import annotations

from typing import Any

from featherweight._transport import Session, decode
from featherweight.plan import Plan
from featherweight.specfile import SpecSource, load_spec

__all__ = ["Plans"]


class Plans:
    def __init__(self, session: Session) -> None:
        self._session = session

    def create(self, *, model_id: str, spec: SpecSource, dataset_id: str | None = None) -> Plan:
        """What a job with the same arguments would do to each layer, what it would cost and save.

        A spec that would fail is no error: `feasible` of the plan is False and `problems` say why. Raises
        InvalidSpec before anything is sent.
        """
        body: dict[str, Any] = {"model_id": model_id, "spec": load_spec(spec).model_dump(mode="json")}
        if dataset_id is not None:
            body["dataset_id"] = dataset_id
        return decode(self._session.post("/v1/plans", json=body), Plan)
