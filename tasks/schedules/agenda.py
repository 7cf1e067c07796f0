"""From what was asked for to the fields of a stored schedule: when it fires next, and whether it is over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import takewhile

from featherweight.schedule import ObjectChangedTrigger, ScheduleRequest
from tasks.schedules.store import seconds
from tasks.schedules.triggers import fires, polls

__all__ = ["agenda", "begun", "upcoming"]


def upcoming(wanted: ScheduleRequest, anchor: datetime, after: datetime) -> Iterator[datetime]:
    """The fire times later than `after`, in order, none after its end."""
    ends_at = wanted.ends_at
    return takewhile(lambda fire: ends_at is None or fire <= ends_at, fires(wanted.trigger, anchor, after))


def agenda(wanted: ScheduleRequest, anchor: datetime, after: datetime) -> dict[str, str]:
    """The fields that say when to look next at a schedule that is worked off up to `after`."""
    if isinstance(wanted.trigger, ObjectChangedTrigger):
        look = polls(wanted.trigger, anchor, after)
        over = wanted.ends_at is not None and look > wanted.ends_at
        return _ended() if over else {"look_at": seconds(look), "next_fire_at": ""}
    following = next(upcoming(wanted, anchor, after), None)
    if following is None:
        return _ended()
    return {"look_at": seconds(following), "next_fire_at": seconds(following)}


def begun(wanted: ScheduleRequest, now: datetime) -> dict[str, str]:
    """The fields of a schedule, or of one with a new trigger, that counts from `now`. Objects are looked at
    right away: what is there is where changes count from."""
    begin = now.replace(microsecond=0)
    when = agenda(wanted, begin, begin)
    if isinstance(wanted.trigger, ObjectChangedTrigger) and "state" not in when:
        when["look_at"] = seconds(begin)
    return {"anchor": seconds(begin), "cursor": seconds(begin), **when}


def _ended() -> dict[str, str]:
    return {"state": "ended", "look_at": "", "next_fire_at": ""}
