"""Schedules on real parts, in a process of their own time: whoever makes one says since when it counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import redis

from featherweight.schedule import ScheduleRequest
from tasks.identifiers import new_id
from tasks.queue import Queue
from tasks.records import JobRecord
from tasks.schedules.agenda import begun
from tasks.schedules.parts import ScheduleParts, schedule_parts
from tasks.schedules.records import RunRecord, ScheduleRecord
from tasks.schedules.store import seconds
from tasks.settings import Settings
from tasks.storage import Storage
from tasks.store import JobStore
from tests.tasks.stored_models import stored_model

PROJECT = "workshop"
SPEC = {"steps": [{"technique": "prune"}]}


class Told:
    """Remembers what was told, each event once."""

    def __init__(self) -> None:
        self.events: dict[tuple[str, str], dict[str, Any]] = {}

    def tell(self, project: str, type: str, subject: str, data: dict[str, Any]) -> None:
        self.events[type, subject] = data

    @property
    def types(self) -> list[str]:
        return [type for type, _ in self.events]


class Almanac:
    """Makes schedules, looks at them, and ends their jobs."""

    def __init__(self, settings: Settings, client: redis.Redis, storage: Storage, queue: Queue) -> None:
        self.settings = settings
        self.client = client
        self.storage = storage
        self.queue = queue
        self.told = Told()
        self.jobs = JobStore(client, settings)
        self.parts = self.made_anew()

    def made_anew(self, **changes: Any) -> ScheduleParts:
        """The parts as another process would have them."""
        settings = self.settings.model_copy(update=changes)
        return schedule_parts(settings, self.client, self.storage, self.queue, self.told)

    def model(self, project: str = PROJECT) -> str:
        return stored_model(self.client, self.storage, project, b"the bytes of a model")

    def schedule(self, *, since_s: float = 0, project: str = PROJECT, **wanted: Any) -> ScheduleRecord:
        """A schedule, every 60 s unless told otherwise, that was made `since_s` ago."""
        wanted.setdefault("trigger", {"type": "interval", "seconds": 60})
        wanted.setdefault("job", {"model_id": self.model(project), "spec": SPEC})
        request = ScheduleRequest.model_validate(wanted)
        begin = self.parts.store.now() - timedelta(seconds=since_s)
        fields = {
            "wanted": request.model_dump_json(),
            "state": "paused" if request.paused else "active",
            "created_at": seconds(begin),
            **begun(request, begin),
        }
        record = self.parts.store.create(project, new_id("schedule"), fields)
        self.parts.archive.keep(record)
        return record

    def look(self, record: ScheduleRecord) -> list[RunRecord]:
        """The runs after a look, the oldest first."""
        self.parts.firing.look(record.id)
        return self.runs(record)

    def runs(self, record: ScheduleRecord) -> list[RunRecord]:
        found, _ = self.parts.store.runs(record, limit=1000)
        return found[::-1]

    def reloaded(self, record: ScheduleRecord) -> ScheduleRecord:
        return self.parts.store.get(record.project, record.id)

    def job(self, run: RunRecord) -> JobRecord | None:
        return self.jobs.find(run.job_id or "")

    def end(self, run: RunRecord, state: str = "succeeded", **changes: Any) -> None:
        """Have the run's job end this way, and tell the listener."""
        job = self.job(run)
        assert job is not None
        ended = job.model_copy(
            update={"state": state, "done": True, "attempt": 1, "ended_at": datetime.now(UTC), **changes}
        )
        self.parts.endings.job_ended(ended)
