"""Moments as people write them: `06:00`, `2h`, `7d`, `2026-11-24`, `2026-11-24T06:00+01:00`. The clock is a parameter."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from dbupkeep.config.units import read_duration
from dbupkeep.errors import UsageError
from dbupkeep.logs import printable

_TIME = re.compile(r"\d{1,2}:\d{2}(:\d{2})?")

FORMS = "a time (06:00), a length (2h), a day or a moment (2026-11-24T06:00)"


def ahead(text: str, now: datetime) -> datetime:
    """A moment to come: a time of day is the next such one here, a length counts from now. Raises `UsageError`."""
    if _TIME.fullmatch(text):
        found = _at_time(text, now)
        return found if found > now else _at_time(text, now.astimezone() + timedelta(days=1))
    return _moment(text, now, sign=1)


def back(text: str, now: datetime) -> datetime:
    """A moment gone by: a time of day is the last such one here, a length counts back from now. Raises `UsageError`."""
    if _TIME.fullmatch(text):
        found = _at_time(text, now)
        return found if found <= now else _at_time(text, now.astimezone() - timedelta(days=1))
    return _moment(text, now, sign=-1)


def _at_time(text: str, day: datetime) -> datetime:
    """A time of day in the reader's time zone."""
    hour, minute, *rest = (int(part) for part in text.split(":"))
    try:
        naive = day.astimezone().replace(
            hour=hour, minute=minute, second=rest[0] if rest else 0, microsecond=0, tzinfo=None
        )
    except ValueError:
        raise _unreadable(text) from None
    return naive.astimezone()


def _moment(text: str, now: datetime, *, sign: int) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        pass
    try:
        return now + sign * read_duration(text)
    except (ValueError, OverflowError):
        raise _unreadable(text) from None


def _unreadable(text: str) -> UsageError:
    return UsageError(f"{printable(text)} is no moment", hint=f"give {FORMS}")
