"""The timeline of a run as SVG: lanes are databases or worker processes, bars are operations.

Of a bar, work is drawn solid, waiting for locks hatched and sleeping for others' sake pale. Colours come from `STYLE`,
which who shows the picture puts into its style sheet; widths are shares of the picture's, so that it fits any screen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil

from msgspec import Struct

from dbupkeep.views.pictures.svg import Svg, element, link

ROW, GAP, HEAD, AXIS = 18, 4, 20, 26
"""Heights in pixels: of a bar, between bars, of a lane's name, of the axis."""

STEPS = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200,
    10800, 21600, 43200, 86400,
)  # fmt: skip
"""Seconds between two marks of the axis."""

MARKS = 6
"""Marks of the axis, about."""

STYLE = """\
.timeline { display: block; overflow: visible; font: 12px system-ui, sans-serif; }
.timeline text { fill: var(--text, #222); }
.timeline .mark { fill: var(--faint, #777); font-size: 11px; }
.timeline .grid { stroke: var(--line, #ddd); }
.timeline .lane { font-weight: 600; }
.timeline .bar { fill: var(--work, #4477aa); stroke: var(--work, #4477aa); }
.timeline .failed .bar { fill: var(--failed, #bb3344); stroke: var(--failed, #bb3344); }
.timeline .deferred .bar, .timeline .cancelled .bar { fill: var(--deferred, #b07a10); stroke: var(--deferred, #b07a10); }
.timeline .skipped .bar { fill: var(--line, #ccc); stroke: var(--line, #ccc); }
.timeline .sleep { fill: var(--paper, #fff); fill-opacity: .65; }
.timeline .now { stroke: var(--text, #222); stroke-dasharray: 3 3; }
.timeline .wall { fill: var(--failed, #bb3344); fill-opacity: .12; }
.timeline .hatch { stroke: var(--paper, #fff); stroke-width: 3; stroke-opacity: .75; }
"""


class Spent(StrEnum):
    """What the time of a bar went into, beside work."""

    WAIT = "wait"  # for a lock
    SLEEP = "sleep"  # throttled


class Piece(Struct, frozen=True, kw_only=True):
    """Time within a bar that was no work."""

    spent: Spent
    begin: datetime
    end: datetime


class Bar(Struct, frozen=True, kw_only=True):
    """One operation from its start to its end, or to now."""

    name: str
    begin: datetime
    end: datetime
    status: str  # of the job
    pieces: Sequence[Piece] = ()
    note: str = ""  # shown when it is pointed at
    link: str = ""  # where a click leads; empty: nowhere


class Lane(Struct, frozen=True, kw_only=True):
    """Bars under one name; those that overlap are drawn below each other."""

    name: str
    bars: Sequence[Bar]


class Span(Struct, frozen=True, kw_only=True):
    """The time that is drawn."""

    begin: datetime
    end: datetime

    def at(self, moment: datetime) -> float:
        """Where a moment is, in percent of the width."""
        whole = (self.end - self.begin) / timedelta(milliseconds=1) or 1.0
        return min(100.0, max(0.0, 100 * ((moment - self.begin) / timedelta(milliseconds=1)) / whole))


def timeline(
    lanes: Sequence[Lane], *, title: str, name: str = "timeline", now: datetime | None = None,
    closes: datetime | None = None,
) -> Svg:  # fmt: skip
    """The picture; empty where no bar is. `name` makes its parts unique in a page, `closes` is drawn as a wall."""
    bars = [bar for lane in lanes for bar in lane.bars]
    if not bars:
        return Svg()
    span = _span(bars, now, closes)
    drawn = [(lane, _rows(lane.bars)) for lane in lanes if lane.bars]
    height = AXIS + sum(HEAD + len(rows) * (ROW + GAP) + GAP for _, rows in drawn)
    parts = [*_ground(span, height, closes, now), *_lanes(drawn, span, name)]
    return element(
        "svg", _hatching(name), *parts, class_="timeline", xmlns="http://www.w3.org/2000/svg", width="100%",
        height=height, role="img", aria_label=title,
    )  # fmt: skip


def _span(bars: Iterable[Bar], now: datetime | None, closes: datetime | None) -> Span:
    begins, ends = zip(*((bar.begin, bar.end) for bar in bars), strict=True)
    begin, end = min(begins), max([*ends, *([now] if now else [])])
    if closes is not None and end < closes <= end + (end - begin):  # a wall far away would squeeze the rest
        end = closes
    return Span(begin=begin, end=max(end, begin + timedelta(milliseconds=1)))


def _rows(bars: Sequence[Bar]) -> list[list[Bar]]:
    """The bars of a lane in as few rows as they need without overlapping."""
    rows: list[list[Bar]] = []
    for bar in sorted(bars, key=lambda each: (each.begin, each.end)):
        row = next((row for row in rows if row[-1].end <= bar.begin), None)
        if row is None:
            rows.append([bar])
        else:
            row.append(bar)
    return rows


def _ground(span: Span, height: int, closes: datetime | None, now: datetime | None) -> Iterator[Svg]:
    """Marks of time with their lines, the wall where the window closes, and the line of now."""
    for moment in _marks(span):
        x = span.at(moment)
        yield _upright("grid", x, height)
        yield element("text", _clock(moment, span), class_="mark", x=_percent(x), y=AXIS - 10, text_anchor=_anchor(x))
    if closes is not None and closes <= span.end:
        x = min(span.at(closes), 99.5)
        told = element("title", f"closes at {closes.astimezone():%H:%M:%S}")
        yield element(
            "rect", told, class_="wall", x=_percent(x), width=_percent(100 - x), y=AXIS - 6, height=height - AXIS + 6
        )
    if now is not None:
        yield _upright("now", span.at(now), height)


def _upright(kind: str, x: float, height: int) -> Svg:
    return element("line", class_=kind, x1=_percent(x), x2=_percent(x), y1=AXIS - 6, y2=height)


def _lanes(drawn: Sequence[tuple[Lane, list[list[Bar]]]], span: Span, name: str) -> Iterator[Svg]:
    y = AXIS
    for lane, rows in drawn:
        yield element("text", lane.name, class_="lane", x=0, y=y + HEAD - 7)
        y += HEAD
        for row in rows:
            for bar in row:
                yield _bar(bar, span, y, name)
            y += ROW + GAP
        y += GAP


def _bar(bar: Bar, span: Span, y: int, name: str) -> Svg:
    parts = [element("title", bar.note or bar.name), _rect("bar", bar.begin, bar.end, span, y)]
    for piece in bar.pieces:
        fill = f"url(#{name}-hatch)" if piece.spent is Spent.WAIT else ""
        parts.append(_rect(piece.spent.value, piece.begin, piece.end, span, y, fill))
    return link(bar.link, element("g", *parts, class_=bar.status))


def _rect(kind: str, begin: datetime, end: datetime, span: Span, y: int, fill: str = "") -> Svg:
    x = span.at(begin)
    width = max(0.0, span.at(end) - x)
    return element("rect", class_=kind, x=_percent(x), width=_percent(width), y=y, height=ROW, rx=2, fill=fill)


def _hatching(name: str) -> Svg:
    lines = element("line", class_="hatch", x1=0, x2=0, y1=0, y2=6)
    pattern = element(
        "pattern", lines, id=f"{name}-hatch", width=6, height=6, patternUnits="userSpaceOnUse",
        patternTransform="rotate(45)",
    )  # fmt: skip
    return element("defs", pattern)


def _percent(share: float) -> str:
    return f"{share:.3f}%"


def _marks(span: Span) -> Iterator[datetime]:
    """Round moments, in the time zone of who looks."""
    seconds = (span.end - span.begin).total_seconds()
    step = next((step for step in STEPS if seconds / step <= MARKS), STEPS[-1] * max(1, round(seconds / 86400 / MARKS)))
    first = span.begin.astimezone()
    midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
    number = ceil((first - midnight).total_seconds() / step)
    while (moment := midnight + timedelta(seconds=number * step)) <= span.end:
        yield moment
        number += 1


def _clock(moment: datetime, span: Span) -> str:
    length = span.end - span.begin
    if length < timedelta(seconds=3):
        return f"{moment.astimezone():%H:%M:%S}.{moment.microsecond // 1000:03d}"
    form = "%H:%M:%S" if length < timedelta(minutes=10) else "%H:%M" if length <= timedelta(days=1) else "%d %b %H:%M"
    return moment.astimezone().strftime(form)


def _anchor(x: float) -> str:
    """Text at the edges stays inside."""
    return "" if x < 8 else "end" if x > 92 else "middle"  # noqa: PLR2004 - percent
