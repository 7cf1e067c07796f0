"""When a schedule fires. Times are whole seconds, in UTC."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from featherweight.problem import FieldError
from featherweight.schedule import CronTrigger, IntervalTrigger, ObjectChangedTrigger, Trigger

__all__ = ["faults", "fires", "polls"]

# Enough to see the shortest distance between two fires of an expression that has one shorter than a minute.
_LOOKED_AT = 100


def fires(trigger: Trigger, anchor: datetime, after: datetime) -> Iterator[datetime]:
    """The fire times later than `after`, in order; none for a trigger that has no times. An interval counts
    from `anchor`."""
    if isinstance(trigger, CronTrigger):
        yield from _cron(trigger, after)
    elif isinstance(trigger, IntervalTrigger):
        yield from _every(trigger.seconds, anchor, after)


def polls(trigger: ObjectChangedTrigger, anchor: datetime, after: datetime) -> datetime:
    """When to look next for changed objects."""
    return next(_every(trigger.poll_s, anchor, after))


def faults(trigger: Trigger, *, min_interval_s: int, now: datetime) -> list[FieldError]:
    """What is wrong with it beyond its form, with pointers into the trigger."""
    if isinstance(trigger, CronTrigger):
        return _cron_faults(trigger, min_interval_s, now)
    seconds, name = (
        (trigger.seconds, "seconds") if isinstance(trigger, IntervalTrigger) else (trigger.poll_s, "poll_s")
    )
    return [_too_often(f"/{name}", seconds, min_interval_s)] if seconds < min_interval_s else []


def _cron(trigger: CronTrigger, after: datetime) -> Iterator[datetime]:
    last = after
    for local in CronSim(trigger.expression, after.astimezone(_zone(trigger))):
        fire = local.astimezone(UTC)
        # Where clocks change, two of the times may become one, and one may lie before `after`.
        if fire > last:
            yield fire
            last = fire


def _every(seconds: int, anchor: datetime, after: datetime) -> Iterator[datetime]:
    step = timedelta(seconds=seconds)
    number = max(0, (after - anchor) // step) + 1
    while True:
        yield anchor + number * step
        number += 1


def _cron_faults(trigger: CronTrigger, min_interval_s: int, now: datetime) -> list[FieldError]:
    try:
        _zone(trigger)
    except (LookupError, ValueError, OSError):
        detail = f"{trigger.timezone!r} is no time zone of the IANA database, such as Europe/Berlin"
        return [FieldError(pointer="/timezone", code="unknown_timezone", detail=detail)]
    try:
        found = list(islice(_cron(trigger, now), _LOOKED_AT))
    except CronSimError as error:
        detail = f"{trigger.expression!r} is no cron expression: {str(error)[:1].lower()}{str(error)[1:]}"
        return [FieldError(pointer="/expression", code="bad_cron", detail=detail)]
    if not found:
        detail = f"{trigger.expression!r} does not come true within fifty years"
        return [FieldError(pointer="/expression", code="bad_cron", detail=detail)]
    shortest = min(
        ((later - fire).total_seconds() for fire, later in pairwise(found)), default=min_interval_s
    )
    return [_too_often("/expression", int(shortest), min_interval_s)] if shortest < min_interval_s else []


def _too_often(pointer: str, seconds: int, min_interval_s: int) -> FieldError:
    return FieldError(
        pointer=pointer,
        code="too_often",
        detail=f"this fires every {seconds} s, and may at most every {min_interval_s} s",
    )


def _zone(trigger: CronTrigger) -> ZoneInfo:
    """LookupError, ValueError or OSError for a name that is none."""
    return ZoneInfo(trigger.timezone)
