"""A size over time, as small as a word."""

from __future__ import annotations

from collections.abc import Sequence

from dbupkeep.views.pictures.svg import Scale, Svg, element, picture

WIDTH, HEIGHT = 120.0, 24.0


def sparkline(points: Sequence[tuple[float, float]], *, title: str) -> Svg:
    """Draw values (time, value) in their order of time; the last one is marked."""
    if not points:
        return picture(title, (), width=WIDTH, height=HEIGHT, kind="sparkline")
    times, values = zip(*points, strict=True)
    x = Scale(min(times), max(times), 3, WIDTH - 4)
    y = Scale(0, max(*values, 1.0), HEIGHT - 3, 3)
    drawn = [(x(time), y(value)) for time, value in points]
    way = element("polyline", points=" ".join(f"{a:g},{b:g}" for a, b in drawn), class_="spark")
    end = element("circle", cx=drawn[-1][0], cy=drawn[-1][1], r=2.5, class_="spark-end")
    return picture(title, (way, end), width=WIDTH, height=HEIGHT, kind="sparkline")
