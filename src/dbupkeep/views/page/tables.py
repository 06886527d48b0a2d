"""The tables behind the pictures, and how single figures are told. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from dbupkeep.jobs import Job
from dbupkeep.views import words
from dbupkeep.views.page.past import Tally
from dbupkeep.views.page.signs import WORDS, state
from dbupkeep.views.page.squares import Known
from dbupkeep.views.pictures.calendar import Span
from dbupkeep.views.pictures.scatter import Point
from dbupkeep.views.reports.lanes import Attempt

Rows = Sequence[Sequence[object]]

LONG = 600

SOON = 2 * 86400
"""Seconds up to which a moment to come is told as a length, later ones by their day."""


def timeline_rows(found: Iterable[Attempt]) -> Rows:
    """Attempts."""
    return [
        (
            words.name(each.entry.database), words.name(each.entry.operation), clock(each.begin),
            words.duration(each.seconds), each.status,
        )
        for each in found
    ]  # fmt: skip


def tally_rows(found: Iterable[Tally]) -> Rows:
    """Runs with what they gave back, newest first."""
    rows = [
        (
            words.name(each.run.name), words.moment(each.run.started_at or each.run.created_at), words.size(each.gained), words.size(each.total),
        )
        for each in found
    ]  # fmt: skip
    return rows[::-1]


def point_rows(found: Iterable[Point], of: str) -> Rows:
    """Predictions."""
    told = words.duration if of == "seconds" else words.size
    return [(each.note.partition(" · ")[0], told(each.predicted), told(each.actual)) for each in found]


def square_rows(found: Iterable[Known]) -> Rows:
    """Databases."""
    return [
        (
            words.name(each.name), words.size(each.bytes), words.listed([words.size(each.reclaimable), words.share(each.share)]),
            state(each.parent), words.name(each.trouble),
        )
        for each in found
    ]  # fmt: skip


def run_rows(found: Iterable[Span]) -> Rows:
    """Runs to come."""
    return [
        (
            each.note if each.band else each.name, day(each.begins),
            "again and again" if each.band else clock(each.ends), "no" if each.overruns else "yes",
        )
        for each in found
    ]  # fmt: skip


def jobs_said(run: Job) -> str:
    """The jobs below a run, counted by their state."""
    said = ((getattr(run.stats, status.value), word) for status, word in WORDS.items())
    return ", ".join(f"{count:,} {word}" for count, word in said if count) or "nothing yet"


def clock(moment: datetime) -> str:
    """The time of a moment that lies within a run."""
    return f"{moment.astimezone():%H:%M:%S}"


def day(moment: datetime) -> str:
    """A moment to come as a calendar says it."""
    return f"{moment.astimezone():%a %d %b %H:%M}"


def until(moment: datetime, now: datetime) -> str:
    """How far away a moment to come is: `in 5 h 12 min`, `Sat 28 Nov 03:00`."""
    seconds = (moment - now).total_seconds()
    if seconds > SOON:
        return day(moment)
    return f"in {words.duration(to_the_minute(seconds))}" if seconds > 1 else "now"


def to_the_minute(seconds: float) -> float:
    """A length as it is meant: of ten minutes nobody wants to know the seconds."""
    return round(seconds / 60) * 60 if seconds > LONG else seconds


def days(count: float | None) -> str:
    """A number of days as people say it; a dash for None."""
    return "–" if count is None else words.duration(count * 86400)


def zone(now: datetime) -> str:
    """The time zone of the service."""
    return f"{now.astimezone():%Z}" or "UTC"


def figure_name(name: str) -> str:
    """The name of a figure as an engine gives it, in words: `free_bytes` is `free`, `lock_wait_seconds` is `lock wait`."""
    for unit in ("_bytes", "_seconds"):
        name = name.removesuffix(unit) or name
    return words.name(_NAMES.get(name, name.replace("_", " ")))


def figure_value(name: str, value: Any) -> str:  # noqa: ANN401 - what an engine measured
    """A figure with its unit, by the end of its name."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, (int, float)):
        if name == "bytes" or name.endswith(("_bytes", "page_size")):
            return words.size(value)
        if name == "seconds" or name.endswith("_seconds"):
            return words.duration(value)
        return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"
    return words.name(", ".join(_names_in(str(value))))


_NAMES: Mapping[str, str] = {"bytes": "size on disk", "wal": "WAL file", "file": "file"}


def _names_in(text: str) -> Sequence[str]:
    """A list that an engine wrote as JSON, or the text itself."""
    if text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            return [text]
        if isinstance(found, list):
            return [str(each) for each in found]
    return [text]
