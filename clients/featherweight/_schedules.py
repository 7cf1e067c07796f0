"""``client.schedules``: jobs made at times, or when objects change."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from featherweight._listing import Listing
from featherweight._transport import Session, decode
from featherweight.schedule import (
    CatchUp,
    Overlap,
    RegressionLimits,
    Schedule,
    ScheduledJob,
    ScheduleRun,
    Trigger,
)
from featherweight.specfile import load_spec

__all__ = ["Schedules"]


class Schedules:
    def __init__(self, session: Session) -> None:
        self._session = session

    def create(
        self,
        *,
        trigger: Trigger | Mapping[str, Any],
        job: ScheduledJob | Mapping[str, Any],
        name: str | None = None,
        catch_up: CatchUp | None = None,
        catch_up_window_s: int | None = None,
        overlap: Overlap | None = None,
        regression: RegressionLimits | Mapping[str, float] | None = None,
        paused: bool = False,
        metadata: Mapping[str, str] | None = None,
        ends_at: datetime | str | None = None,
        max_runs: int | None = None,
        idempotency_key: str | None = None,
    ) -> Schedule:
        """Make a schedule: `job` is what each run submits, `trigger` says when.

        client.schedules.create(
            trigger={"type": "cron", "expression": "30 2 * * *", "timezone": "Europe/Berlin"},
            job={"model_id": model.id, "dataset_id": data.id, "spec": "spec.yaml"},
        )

        The spec is a CompressionSpec, its fields as a mapping, inline JSON or the path of a file. What is
        left out is as the service has it: see `featherweight.schedule.ScheduleRequest`. Raises InvalidSpec
        before anything is sent, and InvalidRequest with the place of what is at fault. Safe against lost
        answers, as `Jobs.create` is.
        """
        body = _given(
            name=name,
            trigger=_plain(trigger),
            job=_job(job),
            catch_up=catch_up,
            catch_up_window_s=catch_up_window_s,
            overlap=overlap,
            regression=_plain(regression),
            paused=paused or None,
            metadata=None if metadata is None else dict(metadata),
            ends_at=ends_at.isoformat() if isinstance(ends_at, datetime) else ends_at,
            max_runs=max_runs,
        )
        return decode(
            self._session.post("/v1/schedules", json=body, idempotency_key=idempotency_key), Schedule
        )

    def get(self, id: str, *, preview: int | None = None) -> Schedule:
        """With `preview`, so many of the next fire times are in `next_fires`."""
        return self._session.get(_one(id), Schedule, params={"preview": preview})

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Listing[Schedule]:
        """Newest first; `limit` to a page. Iterating goes through all pages."""
        return Listing(self._session, "/v1/schedules", Schedule, {"limit": limit, "cursor": cursor})

    def update(self, id: str, **changes: Any) -> Schedule:
        """Replace what is given, by the names that `create` has; None removes a name, limits or an end.

        A schedule with a new trigger counts from now.
        """
        body = {name: _changed(name, value) for name, value in changes.items()}
        return decode(self._session.request("PATCH", _one(id), json=body), Schedule)

    def pause(self, id: str) -> Schedule:
        """Raises Conflict (``schedule_ended``)."""
        return decode(self._session.post(f"{_one(id)}/pause"), Schedule)

    def resume(self, id: str) -> Schedule:
        """Raises Conflict (``schedule_ended``)."""
        return decode(self._session.post(f"{_one(id)}/resume"), Schedule)

    def run_now(self, id: str, *, idempotency_key: str | None = None) -> ScheduleRun:
        """Run its job beside its times. The run may be skipped, if its rule for overlaps says so."""
        return decode(self._session.post(f"{_one(id)}/run", idempotency_key=idempotency_key), ScheduleRun)

    def runs(self, id: str, *, limit: int | None = None, cursor: str | None = None) -> Listing[ScheduleRun]:
        """What its fires came to, newest first."""
        params = {"limit": limit, "cursor": cursor}
        return Listing(self._session, f"{_one(id)}/runs", ScheduleRun, params)

    def delete(self, id: str) -> None:
        """Forget it and its runs; the jobs stay."""
        self._session.delete(_one(id))


def _one(id_: str) -> str:
    return f"/v1/schedules/{quote(id_, safe='')}"


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _plain(value: BaseModel | Mapping[str, Any] | None) -> dict[str, Any] | None:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    return None if value is None else dict(value)


def _job(job: ScheduledJob | Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        name: _plain(value) if isinstance(value, BaseModel) and name != "spec" else value
        for name, value in (_plain(job) or {}).items()
    }
    if "spec" in fields:
        fields["spec"] = load_spec(fields["spec"]).model_dump(mode="json")
    return fields


def _changed(name: str, value: Any) -> Any:
    if name == "job":
        return _job(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return _plain(value) if isinstance(value, BaseModel | Mapping) else value
