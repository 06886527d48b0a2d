"""When a cron expression is due, and when a window that it opens is open; through every change of clocks.

An expression with fixed times is due once on a day, as Debian's cron has it: what falls into the hour that spring leaves
out is due right after it, and in the hour that autumn repeats only the first time counts. One that is due by the hour or
the minute goes by the time that really passes. Moments go in and come out as aware datetimes; those out are in UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from msgspec import Struct

MERGED = 2000
"""Openings in a row that are taken as one, at most; a window that never closes is told as one that lasts so long."""

_BACK = (timedelta(hours=1), timedelta(days=1), timedelta(days=32), timedelta(days=400))
"""How far back a due time is looked for, step by step: after a long absence most of what was due does not matter."""


class Opening(Struct, frozen=True, kw_only=True):
    """One time in which a window is open: from `opens` until just before `closes`."""

    opens: datetime
    closes: datetime


def fault(expression: str) -> str:
    """Why an expression whose fields are right each by itself is never due; empty when it is."""
    from cronsim import CronSimError

    try:
        found = next_time(expression, "UTC", datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError:
        found = None
    return "" if found else "is never due: no day of the calendar fits it"


def explain(expression: str) -> str:
    """The expression in plain words: `At 02:00, Monday through Friday`."""
    from cronsim import CronSim

    return str(CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC)).explain())


def times(expression: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """The due times after a moment, in order, each once."""
    from cronsim import CronSim

    last = after
    for due in CronSim(expression, after.astimezone(_zone(timezone))):
        moment = due.astimezone(UTC)
        if moment > last:
            last = moment
            yield moment


@lru_cache(maxsize=1024)
def next_time(expression: str, timezone: str, after: datetime) -> datetime | None:
    """The first due time after a moment; None when there is none in the calendar."""
    return next(times(expression, timezone, after), None)


def latest(expression: str, timezone: str, *, after: datetime, until: datetime) -> datetime | None:
    """The last due time after one moment and not after the other; None when none is."""
    first = next_time(expression, timezone, after)
    if first is None or first > until:
        return None
    for back in (*_BACK, None):
        start = after if back is None else max(after, until - back)
        found = None
        for due in times(expression, timezone, start):
            if due > until:
                break
            found = due
        if found is not None:
            return found
    return first


def opening(expression: str, timezone: str, lasts: timedelta, now: datetime) -> Opening | None:
    """The opening that is now, or else the next one; openings that touch are one. None when it never opens again."""
    current: Opening | None = None
    for number, opens in enumerate(times(expression, timezone, now - lasts)):
        if current is not None and (opens > current.closes or number > MERGED):
            return current
        current = Opening(opens=current.opens if current else opens, closes=opens + lasts)
    return current


def local(moment: datetime, timezone: str) -> datetime:
    """The moment as clocks of that zone show it."""
    return moment.astimezone(_zone(timezone))


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)
