"""Whether an operation may start now: its run's pause, window or end decide, and what it is expected to take. Pure.

An operation starts if its expected end, by its own history, leaves what is kept free at the end of the window. One of
which nothing is known may start as long as the window takes new work: it is stopped in time, and its next start knows
more. What runs is told to stop a little before the window closes, so that it has cleaned up by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from msgspec import Struct, field

from dbupkeep import cron
from dbupkeep.definitions import Window
from dbupkeep.jobs import Deadline

RESERVE_SHARE, LONGEST_RESERVE = 20, timedelta(seconds=30)
"""What is kept for cleaning up: a twentieth of the window, at most half a minute."""

SOON = timedelta(minutes=15)
"""A window that opens within this is waited for: clocks differ, and a run may be early. A later one is another day's."""


class Answer(StrEnum):
    """What becomes of an operation whose turn it is."""

    START = "start"
    WAIT = "wait"  # it is asked again
    DEFER = "defer"


class Verdict(Struct, frozen=True, kw_only=True):
    """The answer, and why."""

    answer: Answer
    reason: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)  # seconds, and moments as RFC 3339
    deadline: Deadline | None = None  # of one that starts
    for_all: bool = False  # nothing else of the run may start in this opening either


def reserve(window: Window) -> timedelta:
    """The time before closing at which what runs is stopped, so that it has cleaned up when the window closes."""
    return min(window.lasts / RESERVE_SHARE, LONGEST_RESERVE)


def last_start(window: Window, opening: cron.Opening) -> datetime:
    """The moment by which whatever starts must be expected to have ended; nothing starts from then on."""
    return opening.closes - max(window.soft_stop, reserve(window))


def admit(
    *,
    window: Window | None,
    paused: bool,
    seconds: float | None,
    own: bool,
    now: datetime,
    until: datetime | None = None,
) -> Verdict:
    """Decide on one operation that is expected to take so many seconds (None: unknown), `own` by its own history.

    `until` is what a person said while the run was going on: it counts in place of the window, earlier or later.
    """
    if paused:
        return Verdict(answer=Answer.WAIT, reason="the run is paused")
    if until is not None:
        return _until(until, seconds=seconds, own=own, now=now)
    if window is None:
        return Verdict(answer=Answer.START)
    return _within(window, seconds=seconds, own=own, now=now)


def _within(window: Window, *, seconds: float | None, own: bool, now: datetime) -> Verdict:
    opening = cron.opening(window.open, window.timezone, window.lasts, now)
    if opening is None or opening.opens > now:
        return _closed(window, opening, now)
    last, closes = last_start(window, opening), _said(window, opening.closes)
    left = (last - now).total_seconds()
    figures = {"left_seconds": round(max(left, 0.0), 3), "closes_at": opening.closes.isoformat()}
    if left <= 0:
        reason = f"the window {window.name} closes at {closes} and takes nothing new any more"
        return Verdict(answer=Answer.DEFER, reason=reason, figures=figures, for_all=True)
    if seconds is not None and seconds > left:
        reason = f"{_would_not_fit(seconds, left, own=own)} {_said(window, last)} (the window {window.name} closes at {closes})"
        return Verdict(answer=Answer.DEFER, reason=reason, figures={"needed_seconds": round(seconds, 3), **figures})
    deadline = Deadline(stop=opening.closes - reserve(window), closes=opening.closes, window=window.name)
    return Verdict(answer=Answer.START, deadline=deadline)


def _until(until: datetime, *, seconds: float | None, own: bool, now: datetime) -> Verdict:
    left, said = (until - now).total_seconds(), f"{until:%H:%M:%S %Z}"
    figures = {"left_seconds": round(max(left, 0.0), 3), "closes_at": until.isoformat()}
    if left <= 0:
        reason = f"the run was to end by {said} and starts nothing new any more"
        return Verdict(answer=Answer.DEFER, reason=reason, figures=figures, for_all=True)
    if seconds is not None and seconds > left:
        reason = f"{_would_not_fit(seconds, left, own=own)} {said}, when the run is to end"
        return Verdict(answer=Answer.DEFER, reason=reason, figures={"needed_seconds": round(seconds, 3), **figures})
    return Verdict(answer=Answer.START)


def _would_not_fit(seconds: float, left: float, *, own: bool) -> str:
    source = "by its own history" if own else "by the rate of others"
    return f"would not fit: it takes about {_length(seconds)} {source}, and {_length(left)} are left until"


def _closed(window: Window, opening: cron.Opening | None, now: datetime) -> Verdict:
    if opening is None:
        return Verdict(answer=Answer.DEFER, reason=f"the window {window.name} never opens again", for_all=True)
    opens = _said(window, opening.opens)
    if opening.opens - now <= SOON:
        return Verdict(answer=Answer.WAIT, reason=f"the window {window.name} opens at {opens}")
    figures = {"opens_at": opening.opens.isoformat()}
    reason = f"the window {window.name} is closed; it opens at {opens}"
    return Verdict(answer=Answer.DEFER, reason=reason, figures=figures, for_all=True)


def _said(window: Window, moment: datetime) -> str:
    return f"{cron.local(moment, window.timezone):%H:%M:%S} {window.timezone}"


def _length(seconds: float) -> str:
    if seconds < 100:  # noqa: PLR2004 - seconds as long as people count in them
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"  # noqa: PLR2004 - as above
