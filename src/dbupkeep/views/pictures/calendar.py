"""The days to come: a row for each day, windows as bands, predicted runs as blocks, what would overrun in another colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from dbupkeep.views.pictures.svg import Scale, Svg, element, line, picture, rect, text

WIDTH, ROW = 960.0, 26.0
LEFT, RIGHT, TOP, BOTTOM = 92.0, 12.0, 24.0, 8.0
HOURS = 24
LEGIBLE = 90.0
"""Room that a name wants beside its block; without it the name is on the other side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time in the reader's time zone: a window, or a predicted run."""

    name: str
    begins: datetime
    ends: datetime
    note: str = ""
    overruns: bool = False  # of a run: it would not fit its window


def calendar(first: date, days: int, *, windows: Sequence[Span], runs: Sequence[Span], now: datetime) -> Svg:
    """Draw so many days from the first one on."""
    height = TOP + ROW * days + BOTTOM
    x = Scale(0, HOURS, LEFT, WIDTH - RIGHT)
    parts = [*_hours(x, TOP + ROW * days)]
    for number in range(days):
        day = first + timedelta(days=number)
        parts += _day(day, TOP + ROW * number, x, windows, runs)
        if day == now.date():
            at = x(_hour(now, day))
            parts.append(line(at, TOP + ROW * number, at, TOP + ROW * (number + 1), kind="now"))
    return picture(f"The next {days} days", parts, width=WIDTH, height=height, kind="calendar")


def _hours(x: Scale, bottom: float) -> Iterator[Svg]:
    for hour in range(0, HOURS + 1, 3):
        yield line(x(hour), TOP, x(hour), bottom, kind="grid")
        if hour < HOURS:
            yield text(x(hour), TOP - 8, f"{hour:02}:00", kind="tick", anchor="middle" if hour else "start")


def _day(day: date, y: float, x: Scale, windows: Sequence[Span], runs: Sequence[Span]) -> Iterator[Svg]:
    weekend = " weekend" if day.weekday() > 4 else ""  # noqa: PLR2004 - Saturday and Sunday
    yield text(LEFT - 10, y + 17, f"{day:%a %d %b}", kind=f"tick day{weekend}", anchor="end")
    yield line(LEFT, y + ROW, WIDTH - RIGHT, y + ROW, kind="grid")
    for window in windows:
        if part := _part(window, day):
            yield rect(
                x(part[0]), y + 2, x(part[1]) - x(part[0]), ROW - 4, element("title", window.note or window.name),
                kind="window", radius=3,
            )  # fmt: skip
    for run in runs:
        if part := _part(run, day):
            yield _run(run, x(part[0]), max(3.0, x(part[1]) - x(part[0])), y)


def _run(run: Span, x: float, width: float, y: float) -> Svg:
    box = rect(x, y + 6, width, ROW - 12, kind="block overruns" if run.overruns else "block", radius=2)
    at_the_edge = x > WIDTH - RIGHT - LEGIBLE
    at, anchor = (x - 4, "end") if at_the_edge else (x + width + 4, "")
    named = [text(at, y + 17, run.name, kind="block-name", anchor=anchor)] if run.name else []
    return element("g", element("title", run.note or run.name), box, *named)


def _part(span: Span, day: date) -> tuple[float, float] | None:
    """The hours of a day that a span covers."""
    begins, ends = max(0.0, _hour(span.begins, day)), min(float(HOURS), _hour(span.ends, day))
    return (begins, ends) if begins < HOURS and ends > 0 and begins <= ends else None


def _hour(moment: datetime, day: date) -> float:
    """The hour of a moment, counted from the beginning of a day, as clocks show it."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=moment.tzinfo)
    return (moment.replace(tzinfo=None) - midnight.replace(tzinfo=None)).total_seconds() / 3600
