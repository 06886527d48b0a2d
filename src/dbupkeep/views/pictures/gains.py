"""Bytes given back by each run as bars, over the total size as a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from dbupkeep.views import words
from dbupkeep.views.pictures.svg import Scale, Svg, element, line, link, picture, rect, text, ticks

WIDTH, HEIGHT = 960.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 64.0, 16.0, 28.0
WIDEST = 44.0
LABELS = 8


class Bar(Struct, frozen=True, kw_only=True):
    """One run."""

    label: str  # short, under its bar
    note: str  # what it is, in words
    gained: int  # bytes
    total: int | None = None  # bytes of all that was ever maintained, after it
    href: str = ""


def gains(bars: Sequence[Bar]) -> Svg:
    """Draw the runs in their order."""
    most = ticks(max((bar.gained for bar in bars), default=0), step=1024)
    totals = ticks(max((bar.total or 0 for bar in bars), default=0), step=1024)
    floor = HEIGHT - BOTTOM
    height, size = Scale(0, most[-1], floor, TOP), Scale(0, totals[-1], floor, TOP)
    room = (WIDTH - LEFT - RIGHT) / max(1, len(bars))
    parts = [*_axes(most, totals, height, size)]
    parts += (part for number, bar in enumerate(bars) for part in _bar(bar, LEFT + room * number, room, height))
    parts += _labels(bars, room, floor)
    parts += _line([(LEFT + room * (n + 0.5), size(bar.total)) for n, bar in enumerate(bars) if bar.total is not None])
    return picture("Bytes given back by each run, and the total size", parts, width=WIDTH, height=HEIGHT, kind="gains")


def _axes(most: Sequence[float], totals: Sequence[float], height: Scale, size: Scale) -> Iterator[Svg]:
    for value in most:
        y = height(value)
        yield line(LEFT, y, WIDTH - RIGHT, y, kind="grid")
        yield text(LEFT - 8, y + 4, words.size(value) if value else "0", kind="tick", anchor="end")
    for value in totals:
        said = words.size(value) if value else "0"
        yield text(WIDTH - RIGHT + 8, size(value) + 4, said, kind="tick line-tick")


def _bar(bar: Bar, x: float, room: float, height: Scale) -> Iterator[Svg]:
    width = min(WIDEST, room * 0.7)
    y = height(max(0, bar.gained))
    tall = height(0) - y
    if bar.gained > 0:
        tall = max(1.5, tall)
    drawn = rect(
        x + (room - width) / 2, height(0) - tall, width, tall, element("title", bar.note), kind="gain", radius=2
    )
    yield link(bar.href, drawn)


def _labels(bars: Sequence[Bar], room: float, floor: float) -> Iterator[Svg]:
    every = -(-len(bars) // LABELS) if bars else 1
    for number, bar in enumerate(bars):
        if number % every == 0:
            yield text(LEFT + room * (number + 0.5), floor + 18, bar.label, kind="tick", anchor="middle")


def _line(points: Sequence[tuple[float, float]]) -> Iterator[Svg]:
    if not points:
        return
    yield element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_="total")
    for x, y in points:
        yield element("circle", cx=x, cy=y, r=2.5, class_="total-point")
