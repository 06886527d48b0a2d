"""Where the space is: a square for each database of a fleet; thousands fit."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from dbupkeep.views.pictures.svg import Scale, Svg, element, link, picture, rect

WIDTH = 960.0
CELLS = ((60, 48.0), (250, 32.0), (1200, 24.0))
SMALLEST = 13.0
"""Sides of the cells: up to so many databases each is so big, more are small."""

STEPS = (0.05, 0.15, 0.3, 0.5)
"""Shares that divide the colours."""


class Square(Struct, frozen=True, kw_only=True):
    """One database."""

    name: str
    note: str  # what is told of it
    bytes: int
    share: float | None  # of it that could be given back, 0 to 1; None: not known
    blocked: bool = False  # upkeep of it did not come to a good end
    href: str = ""


def heatmap(squares: Sequence[Square]) -> Svg:
    """Draw the squares in their order: the area says how big, the colour how much of it could be given back."""
    cell = next((side for most, side in CELLS if len(squares) <= most), SMALLEST)
    columns = int(WIDTH // cell)
    rows = max(1, -(-len(squares) // columns))
    biggest = max((square.bytes for square in squares), default=1) or 1
    side = Scale(0, biggest**0.5, cell * 0.25, cell - 2)
    parts = [
        _square(square, (number % columns) * cell + cell / 2, (number // columns) * cell + cell / 2, side)
        for number, square in enumerate(squares)
    ]
    said = f"{len(squares):,} databases by size and by what could be given back"
    return picture(said, parts, width=columns * cell, height=rows * cell, kind="heatmap")


def heat(share: float | None) -> str:
    """The class of a colour: `heat-0` for nothing to `heat-4` for most; `heat-none` where nobody knows."""
    return "heat-none" if share is None else f"heat-{sum(share >= step for step in STEPS)}"


def _square(square: Square, x: float, y: float, side: Scale) -> Svg:
    size = side(square.bytes**0.5)
    parts = [
        element("title", square.note),
        rect(x - size / 2, y - size / 2, size, size, kind=heat(square.share), radius=2 if size > 8 else 1),  # noqa: PLR2004 - smaller ones would be round
    ]
    if square.blocked:
        parts.append(element("circle", cx=x, cy=y, r=max(1.8, size / 6), class_="blocked"))
    return link(square.href, element("g", *parts, class_="square"))
