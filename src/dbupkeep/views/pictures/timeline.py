"""The timeline of a run as SVG: lanes are databases or worker processes, bars are operations.

Of a bar, work is drawn solid, waiting for locks hatched and sleeping for others' sake pale. Colours come from `STYLE`,
which who shows the picture puts into its style sheet; widths are shares of the picture's, so that it fits any screen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from html import escape
from math import ceil

from dbupkeep.logs import printable
from dbupkeep.views.pictures.svg import Svg

ROW, GAP, HEAD, AXIS = 18, 4, 20, 26
"""Heights in pixels: of a bar, between bars, of a lane's name, of the axis."""

STEPS = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    10800,
    21600,
    43200,
    86400,
)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Time within a bar that was no work."""

    spent: Spent
    begin: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One operation from its start to its end, or to now."""

    name: str
    begin: datetime
    end: datetime
    status: str  # of the job
    pieces: Sequence[Piece] = ()
    note: str = ""  # shown when it is pointed at
    link: str = ""  # where a click leads; empty: nowhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """Bars under one name; those that overlap are drawn below each other."""

    name: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
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
    # Nothing of a name may end a tag or an attribute: all text goes through `_text`.
    return Svg(
        f'<svg class="timeline" xmlns="http://www.w3.org/2000/svg" width="100%" height="{height}" role="img" '
        f'aria-label="{_text(title)}">{_hatching(name)}{"".join(parts)}</svg>'
    )


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


def _ground(span: Span, height: int, closes: datetime | None, now: datetime | None) -> Iterator[str]:
    """Marks of time with their lines, the wall where the window closes, and the line of now."""
    for moment in _marks(span):
        x = span.at(moment)
        yield f'<line class="grid" x1="{x:.3f}%" x2="{x:.3f}%" y1="{AXIS - 6}" y2="{height}"/>'
        yield f'<text class="mark" x="{x:.3f}%" y="{AXIS - 10}"{_anchor(x)}>{_text(_clock(moment, span))}</text>'
    if closes is not None and closes <= span.end:
        x = min(span.at(closes), 99.5)
        yield (
            f'<rect class="wall" x="{x:.3f}%" width="{100 - x:.3f}%" y="{AXIS - 6}" height="{height - AXIS + 6}">'
            f"<title>{_text(f'closes at {closes.astimezone():%H:%M:%S}')}</title></rect>"
        )
    if now is not None:
        x = span.at(now)
        yield f'<line class="now" x1="{x:.3f}%" x2="{x:.3f}%" y1="{AXIS - 6}" y2="{height}"/>'


def _lanes(drawn: Sequence[tuple[Lane, list[list[Bar]]]], span: Span, name: str) -> Iterator[str]:
    y = AXIS
    for lane, rows in drawn:
        yield f'<text class="lane" x="0" y="{y + HEAD - 7}">{_text(lane.name)}</text>'
        y += HEAD
        for row in rows:
            for bar in row:
                yield _bar(bar, span, y, name)
            y += ROW + GAP
        y += GAP


def _bar(bar: Bar, span: Span, y: int, name: str) -> str:
    parts = [f"<title>{_text(bar.note or bar.name)}</title>", _rect("bar", bar.begin, bar.end, span, y)]
    for piece in bar.pieces:
        fill = f' fill="url(#{name}-hatch)"' if piece.spent is Spent.WAIT else ""
        parts.append(_rect(piece.spent.value, piece.begin, piece.end, span, y, fill))
    drawn = f'<g class="{_text(bar.status)}">{"".join(parts)}</g>'
    return f'<a href="{_text(bar.link)}">{drawn}</a>' if bar.link else drawn


def _rect(kind: str, begin: datetime, end: datetime, span: Span, y: int, fill: str = "") -> str:
    x = span.at(begin)
    width = max(0.0, span.at(end) - x)
    return f'<rect class="{kind}" x="{x:.3f}%" width="{width:.3f}%" y="{y}" height="{ROW}" rx="2"{fill}/>'


def _hatching(name: str) -> str:
    return (
        f'<defs><pattern id="{name}-hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><line class="hatch" x1="0" x2="0" y1="0" y2="6"/></pattern></defs>'
    )


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
    return "" if x < 8 else ' text-anchor="end"' if x > 92 else ' text-anchor="middle"'  # noqa: PLR2004 - percent


def _text(text: str) -> str:
    """Text as it may stand in an element or an attribute; what XML has no way to write is escaped as for a terminal."""
    return escape(printable(text), quote=True)
