"""Predicted against actual: a point for each operation, and the line on which a prediction was right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from dbupkeep.views.pictures.svg import Scale, Svg, element, line, link, picture, powers, text

SIDE = 420.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 14.0, 14.0, 44.0
LETTER = 6.2
"""How wide a letter of a mark is, about."""


class Point(Struct, frozen=True, kw_only=True):
    """One operation; both values above 0."""

    predicted: float
    actual: float
    kind: str  # the operation
    note: str
    href: str = ""


def scatter(points: Sequence[Point], *, title: str, told: Callable[[float], str], base: float = 10.0) -> Svg:
    """Draw the points on logarithmic axes; `told` says a value in words, `base` is what the marks are powers of."""
    values = [value for point in points for value in (point.predicted, point.actual)] or [1.0, 10.0]
    marks = powers(min(values), max(values), base)
    x = Scale(marks[0], marks[-1], LEFT, SIDE - RIGHT, logarithmic=True)
    y = Scale(marks[0], marks[-1], SIDE - BOTTOM, TOP, logarithmic=True)
    parts = [*_axes(marks, x, y, told), line(x(marks[0]), y(marks[0]), x(marks[-1]), y(marks[-1]), kind="right")]
    for point in points:
        drawn = element(
            "circle", element("title", point.note), cx=x(point.predicted), cy=y(point.actual), r=4,
            class_=f"point op-{point.kind}",
        )  # fmt: skip
        parts.append(link(point.href, drawn))
    return picture(title, parts, width=SIDE, height=SIDE, kind="scatter")


def _axes(marks: Sequence[float], x: Scale, y: Scale, told: Callable[[float], str]) -> Iterator[Svg]:
    every, free = -(-len(marks) // 6), SIDE
    for number, value in reversed(list(enumerate(marks))):  # of two that meet, the greater one is told
        yield line(x(value), TOP, x(value), SIDE - BOTTOM, kind="grid")
        yield line(LEFT, y(value), SIDE - RIGHT, y(value), kind="grid")
        if number % every == 0:
            anchor, wide = _anchor(number, len(marks)), len(told(value)) * LETTER
            begins = x(value) - (wide if anchor == "end" else wide / 2)
            if begins + wide <= free:
                yield text(x(value), SIDE - BOTTOM + 16, told(value), kind="tick", anchor=anchor)
                free = begins - LETTER
            yield text(LEFT - 8, y(value) + 4, told(value), kind="tick", anchor="end")
    yield text((LEFT + SIDE - RIGHT) / 2, SIDE - 6, "predicted →", kind="axis", anchor="middle")
    yield text(LEFT, TOP - 2, "↑ actual", kind="axis")


def _anchor(number: int, count: int) -> str:
    """The last mark's text stays inside."""
    return "end" if number == count - 1 else "middle"
