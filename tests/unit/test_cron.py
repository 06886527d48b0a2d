"""Due times through the changes of clocks, each once; and windows."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest

from dbupkeep import cron
from dbupkeep.config.units import read_cron

DAY = timedelta(days=1)

# Zone, the local day on which its clocks change, a time of that day that is left out or repeated.
CHANGES = [
    ("Europe/Berlin", date(2026, 3, 29), "02:30", "spring"),
    ("Europe/Berlin", date(2026, 10, 25), "02:30", "autumn"),
    ("America/New_York", date(2026, 3, 8), "02:30", "spring"),
    ("America/New_York", date(2026, 11, 1), "01:30", "autumn"),
    ("America/Santiago", date(2026, 9, 6), "00:30", "spring"),
    ("America/Santiago", date(2026, 4, 4), "23:30", "autumn"),
    ("Australia/Lord_Howe", date(2026, 10, 4), "02:15", "spring"),
    ("Australia/Lord_Howe", date(2026, 4, 5), "01:45", "autumn"),
    ("Asia/Kolkata", date(2026, 3, 29), "02:30", "never"),
    ("UTC", date(2026, 3, 29), "02:30", "never"),
]


def noon(day: date, zone: str) -> datetime:
    return datetime.combine(day, time(12), ZoneInfo(zone)).astimezone(UTC)


def due_between(expression: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    return list(takewhile(lambda due: due <= end, cron.times(expression, zone, start)))


@pytest.mark.parametrize(("zone", "day", "at", "season"), CHANGES, ids=str)
def test_a_daily_time_is_due_once_on_each_day_that_clocks_change(zone: str, day: date, at: str, season: str) -> None:
    hour, minute = at.split(":")
    start = noon(day - DAY, zone)
    found = due_between(f"{int(minute)} {int(hour)} * * *", zone, start, start + 2 * DAY)
    per_day = Counter(due.astimezone(ZoneInfo(zone)).date() for due in found)
    assert per_day[day] == 1, f"in {season} {zone} ran {per_day[day]} times"
    local = next(due.astimezone(ZoneInfo(zone)) for due in found if due.astimezone(ZoneInfo(zone)).date() == day)
    if season == "spring":  # right after the hour that is left out
        assert at < local.strftime("%H:%M") <= f"{int(hour) + 1:02}:{minute}"
    else:
        assert local.strftime("%H:%M") == at


@pytest.mark.parametrize(("zone", "day", "at", "season"), CHANGES, ids=str)
def test_what_is_due_by_the_minute_goes_by_the_time_that_passes(zone: str, day: date, at: str, season: str) -> None:
    start = noon(day - DAY, zone) + timedelta(hours=10)
    found = due_between("*/30 * * * *", zone, start, start + timedelta(hours=12))
    assert all(later - earlier == timedelta(minutes=30) for earlier, later in pairwise(found))
    assert len(found) == 24


@pytest.mark.parametrize(("zone", "day", "at", "season"), CHANGES, ids=str)
def test_looking_every_minute_finds_the_same_as_the_list(zone: str, day: date, at: str, season: str) -> None:
    start = noon(day - DAY, zone) + timedelta(hours=9)
    end = start + timedelta(hours=30)
    for expression in ("30 2 * * *", "0,30 1-3 * * *", "15 0 * * *", "*/7 * * * *"):
        since, seen = start, []
        for step in range(1, 30 * 60 + 1):
            due = cron.latest(expression, zone, after=since, until=start + step * timedelta(minutes=1))
            if due is not None:
                seen.append(due)
                since = due
        assert seen == due_between(expression, zone, start, end)


def test_of_a_long_absence_the_last_due_time_is_found_quickly() -> None:
    until = datetime(2026, 6, 1, 12, 0, 30, tzinfo=UTC)
    after = until - timedelta(days=3000)
    for expression, wanted in (
        ("* * * * *", until.replace(second=0)),
        ("15 1 * * *", until.replace(hour=1, minute=15, second=0)),
        ("0 0 1 1 *", datetime(2026, 1, 1, tzinfo=UTC)),
        ("0 0 29 2 *", datetime(2024, 2, 29, tzinfo=UTC)),
    ):
        assert cron.latest(expression, "UTC", after=after, until=until) == wanted
    assert cron.latest("0 0 29 2 *", "UTC", after=datetime(2024, 3, 1, tzinfo=UTC), until=until) is None


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 2,4 *"])
def test_an_expression_that_is_never_due_is_a_fault_of_the_configuration(expression: str) -> None:
    with pytest.raises(ValueError, match="never due"):
        read_cron(expression)


def test_a_window_is_open_from_its_time_for_as_long_as_it_lasts() -> None:
    opens = datetime(2026, 6, 1, 23, tzinfo=UTC)  # 1:00 in Berlin
    night = cron.Opening(opens=opens, closes=opens + timedelta(hours=4))

    def at(now: datetime) -> cron.Opening | None:
        return cron.opening("0 1 * * *", "Europe/Berlin", timedelta(hours=4), now)

    assert at(opens - timedelta(seconds=1)) == night
    assert at(opens) == night
    assert at(night.closes - timedelta(seconds=1)) == night
    following = at(night.closes)
    assert following is not None
    assert following.opens == opens + DAY


def test_openings_that_touch_are_one() -> None:
    now = datetime(2026, 6, 1, 23, 30, tzinfo=UTC)
    found = cron.opening("0 22-23,0-3 * * *", "UTC", timedelta(hours=1), now)
    assert found is not None
    assert found.closes == datetime(2026, 6, 2, 4, tzinfo=UTC)
    always = cron.opening("* * * * *", "UTC", timedelta(hours=1), now)
    assert always is not None
    assert always.closes - now > DAY
