"""The days to come: a row for each day, windows as bands, predicted runs as blocks, what would overrun in another colour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta

from msgspec import Struct

from dbupkeep.views.pictures.svg import Scale, Svg, element, line, picture, rect, text

WIDTH, ROW = 960.0, 26.0
LEFT, RIGHT, TOP, BOTTOM = 92.0, 12.0, 24.0, 8.0
HOURS = 24
NEAR = 4.0
"""Between a block and its name."""

LETTER = 6.4
"""How wide a letter is, about."""

THIN, BANDS = 4.0, 5
"""How high a band is, and how many of them a day has room for."""

OFTEN = 4
"""Runs of one job on a day up to which each is drawn in full with its name."""


class Span(Struct, frozen=True, kw_only=True):
    """A stretch of time in the reader's time zone: a window, or a predicted run."""

    name: str
    begins: datetime
    ends: datetime
    note: str = ""
    overruns: bool = False  # of a run: it would not fit its window
    band: bool = False  # of runs that follow each other too closely to be drawn one by one


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
    parts = [(run, part) for run in runs if (part := _part(run, day))]
    yield from _bands([(run, part) for run, part in parts if run.band], y, x)
    yield from _runs([(run, part) for run, part in parts if not run.band], y, x)


def _bands(found: Sequence[tuple[Span, tuple[float, float]]], y: float, x: Scale) -> Iterator[Svg]:
    """What runs all day long, each as a thin band of its own at the foot of the day."""
    for number, (run, (begins, ends)) in enumerate(found[:BANDS], start=1):
        kind = "band overruns" if run.overruns else "band"
        yield rect(
            x(begins), y + ROW - THIN * number, x(ends) - x(begins), THIN - 1, element("title", run.note), kind=kind
        )


def _runs(found: Sequence[tuple[Span, tuple[float, float]]], y: float, x: Scale) -> Iterator[Svg]:
    """The runs of a day, each with its name where there is room for it; those of a job that runs often are small."""
    often = Counter(run.name for run, _ in found)
    placed = sorted(
        ((x(begins), max(3.0, x(ends) - x(begins)), run) for run, (begins, ends) in found), key=lambda each: each[0]
    )
    named = [at for at, _, run in placed if often[run.name] <= OFTEN]
    for at, width, run in placed:
        kind = "block overruns" if run.overruns else "block"
        if often[run.name] > OFTEN:
            drawn, name = rect(at, y + ROW - 9, width, 6, kind=f"{kind} small"), None
        else:
            room = min((other for other in named if other > at), default=WIDTH) - at - width - 2 * NEAR
            drawn = rect(at, y + 6, width, ROW - 12, kind=kind, radius=2)
            name = (
                text(at + width + NEAR, y + 17, run.name, kind="block-name") if room >= len(run.name) * LETTER else None
            )
        yield element("g", element("title", run.note or run.name), drawn, *([name] if name else []))


def _part(span: Span, day: date) -> tuple[float, float] | None:
    """The hours of a day that a span covers."""
    begins, ends = max(0.0, _hour(span.begins, day)), min(float(HOURS), _hour(span.ends, day))
    return (begins, ends) if begins < HOURS and ends > 0 and begins <= ends else None


def _hour(moment: datetime, day: date) -> float:
    """The hour of a moment, counted from the beginning of a day, as clocks show it."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=moment.tzinfo)
    return (moment.replace(tzinfo=None) - midnight.replace(tzinfo=None)).total_seconds() / 3600
