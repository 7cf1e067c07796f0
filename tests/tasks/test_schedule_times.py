"""When schedules fire: zones, gaps and overlaps of clocks, intervals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest

from featherweight.schedule import CronTrigger, IntervalTrigger
from tasks.schedules.triggers import faults, fires

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def cron(expression: str, zone: str, after: str, count: int) -> list[str]:
    """The next `count` fires, as clocks in the zone show them."""
    local = ZoneInfo(zone)
    found = fires(
        CronTrigger(expression=expression, timezone=zone), NOW, datetime.fromisoformat(after).astimezone(UTC)
    )
    return [fire.astimezone(local).isoformat() for fire in islice(found, count)]


@pytest.mark.parametrize(
    ("zone", "after", "expected"),
    [
        (
            "Europe/Berlin",
            "2026-03-27T12:00+01:00",
            ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
        ),
        (
            "America/New_York",
            "2026-03-06T12:00-05:00",
            ["2026-03-07T02:30:00-05:00", "2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"],
        ),
    ],
    ids=["Berlin", "New York"],
)
def test_a_time_that_does_not_exist_fires_at_the_end_of_the_gap(
    zone: str, after: str, expected: list[str]
) -> None:
    assert cron("30 2 * * *", zone, after, 3) == expected


@pytest.mark.parametrize(
    ("zone", "expression", "after", "expected"),
    [
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-10-24T12:00+02:00",
            ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
        ),
        (
            "America/New_York",
            "30 1 * * *",
            "2026-10-31T12:00-04:00",
            ["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"],
        ),
    ],
    ids=["Berlin", "New York"],
)
def test_a_time_that_exists_twice_fires_the_first_time(
    zone: str, expression: str, after: str, expected: list[str]
) -> None:
    assert cron(expression, zone, after, 2) == expected


@pytest.mark.parametrize("after", ["2026-10-25T02:10+01:00", "2026-10-25T02:50+02:00"])
def test_the_second_time_fires_nothing_wherever_counting_begins(after: str) -> None:
    # In the second pass of the hour, the first 02:30 lies before; it must not be made again.
    assert cron("30 2 * * *", "Europe/Berlin", after, 1) == ["2026-10-26T02:30:00+01:00"]


def test_two_times_in_one_gap_are_one_fire() -> None:
    found = cron("0,30 2,3 * * *", "Europe/Berlin", "2026-03-29T01:00+01:00", 3)
    assert found == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-29T03:30:00+02:00",
        "2026-03-30T02:00:00+02:00",
    ]


@pytest.mark.parametrize("night", ["2026-03-29T00:00+01:00", "2026-10-25T00:00+02:00"])
def test_every_quarter_of_an_hour_stays_one_whatever_the_clocks_do(night: str) -> None:
    found = islice(
        fires(
            CronTrigger(expression="*/15 * * * *", timezone="Europe/Berlin"),
            NOW,
            datetime.fromisoformat(night).astimezone(UTC),
        ),
        24,
    )
    times = list(found)
    assert {later - fire for fire, later in pairwise(times)} == {timedelta(minutes=15)}


def test_fires_do_not_depend_on_where_counting_begins() -> None:
    trigger = CronTrigger(expression="*/7 1-4 * * *", timezone="America/New_York")
    begin = datetime(2026, 3, 7, tzinfo=UTC)
    straight = list(islice(fires(trigger, NOW, begin), 200))
    resumed, after = [], begin
    for _ in range(200):
        after = next(fires(trigger, NOW, after))
        resumed.append(after)
    assert resumed == straight


def test_an_interval_counts_from_its_anchor() -> None:
    trigger = IntervalTrigger(seconds=90)
    found = list(islice(fires(trigger, NOW, NOW + timedelta(seconds=200)), 2))
    assert found == [NOW + timedelta(seconds=270), NOW + timedelta(seconds=360)]
    assert next(fires(trigger, NOW, NOW)) == NOW + timedelta(seconds=90)
    assert next(fires(trigger, NOW, NOW - timedelta(days=1))) == NOW + timedelta(seconds=90)


@pytest.mark.parametrize(
    ("expression", "zone", "pointer", "code"),
    [
        ("61 * * * *", "UTC", "/expression", "bad_cron"),
        ("* * * * * * *", "UTC", "/expression", "bad_cron"),
        ("0 0 30 2 *", "UTC", "/expression", "bad_cron"),
        ("0 0 */31 * 5L", "UTC", "/expression", "bad_cron"),
        ("every day", "UTC", "/expression", "bad_cron"),
        ("*/30 * * * * *", "UTC", "/expression", "too_often"),
        ("0 3 * * *", "Europe/Atlantis", "/timezone", "unknown_timezone"),
        ("0 3 * * *", "../../etc/passwd", "/timezone", "unknown_timezone"),
        ("0 3 * * *", "Europe", "/timezone", "unknown_timezone"),
    ],
)
def test_what_cannot_be_a_trigger_is_said_where_it_stands(
    expression: str, zone: str, pointer: str, code: str
) -> None:
    trigger = CronTrigger(expression=expression, timezone=zone)
    (fault,) = faults(trigger, min_interval_s=60, now=NOW)
    assert (fault.pointer, fault.code) == (pointer, code)


def test_expressions_as_people_write_them_are_fine() -> None:
    for expression in ("0 3 * * MON-FRI", "0 0 L * *", "0 9 1 JAN,JUL *", "*/5 * * * *", "0 12 * * 5#2"):
        assert faults(CronTrigger(expression=expression), min_interval_s=60, now=NOW) == []
    assert faults(CronTrigger(expression="* * * * * *"), min_interval_s=1, now=NOW) == []
