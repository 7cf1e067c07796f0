"""Which objects of an inbox have changed since they were looked at before.

Of every object is known which ETag has been dealt with, and which other one was seen at the last look. One
that is there at two looks in a row is a change: whatever writes the object has finished.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from pydantic import BaseModel

from featherweight.problem import Problem, problem
from featherweight.resources import InboxObject
from featherweight.schedule import ObjectChangedTrigger
from tasks.inbox import Inbox
from tasks.intake import FileRefused
from tasks.schedules.records import ScheduleRecord

__all__ = ["MOST_OBJECTS", "ChangesUnclear", "Found", "Watcher", "compare"]

MOST_OBJECTS = 10_000
"""A schedule looks at no more of them."""


class ChangesUnclear(Exception):
    """The objects cannot be looked at, and `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class Known(BaseModel):
    """`dealt_with` is null for an object that was not there when the schedule began."""

    dealt_with: str | None = None
    seen: str | None = None


class Found(NamedTuple):
    """`changed` has name and etag of each change; `known` what is to be remembered, empty to forget."""

    changed: list[dict[str, str]]
    known: dict[str, str]


class Watcher:
    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def look(self, record: ScheduleRecord, known: Mapping[str, str]) -> Found:
        """ChangesUnclear, StorageUnavailable."""
        trigger = record.wanted.trigger
        if not isinstance(trigger, ObjectChangedTrigger):
            raise TypeError("only a trigger of type object_changed looks at objects")
        objects = self._objects(record.project, trigger)
        # What is there when a schedule begins is what changes are told from.
        return compare(known, objects, is_first=record.cursor <= record.anchor)

    def _objects(self, project: str, trigger: ObjectChangedTrigger) -> list[InboxObject]:
        prefix = trigger.object or trigger.prefix or ""
        try:
            if trigger.object is not None:
                return [self._inbox.stat(project, prefix)]
            found = list(islice(self._inbox.scan(project, prefix), MOST_OBJECTS + 1))
        except FileRefused as refused:
            if refused.problem.code == "object_not_found":
                return []
            raise ChangesUnclear(refused.problem) from None
        if len(found) > MOST_OBJECTS:
            raise ChangesUnclear(_too_many(prefix))
        return found


def compare(known: Mapping[str, str], objects: Iterable[InboxObject], *, is_first: bool) -> Found:
    """What has changed from what is `known` to the `objects` there are now."""
    changed: list[dict[str, str]] = []
    news: dict[str, str] = {}
    present = set()
    for found in objects:
        present.add(found.name)
        before = Known.model_validate_json(known[found.name]) if found.name in known else Known()
        after = _after(before, found.etag, is_first=is_first)
        if not is_first and after.dealt_with != before.dealt_with:
            changed.append({"name": found.name, "etag": found.etag})
        if after != before:
            news[found.name] = after.model_dump_json(exclude_none=True)
    news.update(dict.fromkeys(known.keys() - present, ""))
    return Found(changed, news)


def _after(before: Known, etag: str, *, is_first: bool) -> Known:
    if is_first or etag in (before.dealt_with, before.seen):
        return Known(dealt_with=etag)
    return Known(dealt_with=before.dealt_with, seen=etag)


def _too_many(prefix: str) -> Problem:
    return problem(
        "too_many_objects",
        f"more than {MOST_OBJECTS} objects of the inbox begin with {prefix!r}",
        hint="name a longer prefix, or remove what is not needed any more",
    )
