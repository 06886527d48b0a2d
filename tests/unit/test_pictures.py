"""Pictures: well-formed whatever the names, to scale, and with nothing that a content policy would refuse."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from dbupkeep.views import words
from dbupkeep.views.pictures.calendar import Span, calendar
from dbupkeep.views.pictures.gains import Bar, gains
from dbupkeep.views.pictures.heatmap import Square, heat, heatmap
from dbupkeep.views.pictures.scatter import Point, scatter
from dbupkeep.views.pictures.sparkline import sparkline
from dbupkeep.views.pictures.svg import Scale, Svg, element, powers, ticks

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)

HOSTILE = "\"><script>alert(1)</script><a onclick='x'>&\x1b[31m\x00\u202e"

MIB = 1 << 20

HREF = "{http://www.w3.org/2000/svg}"


def drawn_gains(name: str) -> Svg:
    bars = [Bar(label=name, note=name, gained=size * MIB, total=100 * MIB, href="/runs/1") for size in (1, 2, 0)]
    return gains(bars)


def drawn_scatter(name: str) -> Svg:
    points = [
        Point(predicted=1, actual=10, kind="vacuum", note=name),
        Point(predicted=5, actual=5, kind="check", note=name),
    ]
    return scatter(points, title=name, told=words.duration)


def drawn_heatmap(name: str) -> Svg:
    sizes = [(1, 0.0), (4, 0.2), (16, 0.9), (16, None)]
    squares = [
        Square(name=name, note=name, bytes=size * MIB, share=share, blocked=size == 4, href="/runs/1") for size, share in sizes
    ]  # fmt: skip
    return heatmap(squares)


def drawn_calendar(name: str) -> Svg:
    night = Span(name=name, begins=NOW.replace(hour=22), ends=NOW + timedelta(hours=17), note=name)
    run = Span(name=name, begins=NOW + timedelta(hours=4), ends=NOW + timedelta(hours=6), note=name, overruns=True)
    return calendar(NOW.date(), 14, windows=[night], runs=[run], now=NOW)


def drawn_sparkline(name: str) -> Svg:
    return sparkline([(0, 10), (1, 5), (2, 8)], title=name)


ALL = pytest.mark.parametrize("draw", [drawn_gains, drawn_scatter, drawn_heatmap, drawn_calendar, drawn_sparkline])


def parsed(picture: Svg) -> ET.Element:
    return ET.fromstring(picture)  # noqa: S314 - our own


@ALL
def test_names_are_text_whatever_they_are(draw: Callable[[str], Svg]) -> None:
    tree = parsed(draw(HOSTILE))
    assert not [each for each in tree.iter() if each.tag == f"{HREF}script"]
    assert {name for each in tree.iter() for name in each.attrib if name.startswith("on")} == set()
    assert any("alert(1)" in (each.text or "") for each in tree.iter())


@ALL
def test_a_strict_policy_refuses_nothing(draw: Callable[[str], Svg]) -> None:
    assert not [each.tag for each in parsed(draw("a")).iter() if "style" in each.attrib or each.tag == f"{HREF}style"]


@ALL
def test_a_picture_says_what_it_is(draw: Callable[[str], Svg]) -> None:
    tree = parsed(draw("a"))
    assert tree.get("role") == "img"
    assert tree.get("aria-label")


@pytest.mark.parametrize(
    "empty", [gains([]), heatmap([]), sparkline([], title="a"), scatter([], title="a", told=words.size)]
)
def test_nothing_can_be_drawn_too(empty: Svg) -> None:
    assert parsed(empty).tag == f"{HREF}svg"


def numbers(tree: ET.Element, kind: str, attribute: str) -> list[float]:
    return [float(each.attrib[attribute]) for each in tree.iter() if each.get("class") == kind]


def test_bars_are_as_high_as_what_was_given_back() -> None:
    one, two, none = numbers(parsed(drawn_gains("a")), "gain", "height")
    assert two == pytest.approx(2 * one, rel=0.02)
    assert none == 0


def test_points_on_the_line_were_predicted_right() -> None:
    tree = parsed(drawn_scatter("a"))
    late, right = [each for each in tree.iter() if each.get("class", "").startswith("point")]
    assert late.get("class") == "point op-vacuum"
    (diagonal,) = [each for each in tree.iter() if each.get("class") == "right"]
    x1, y1, x2, y2 = (float(diagonal.attrib[name]) for name in ("x1", "y1", "x2", "y2"))

    def above(point: ET.Element) -> float:
        x, y = float(point.attrib["cx"]), float(point.attrib["cy"])
        return y1 + (x - x1) / (x2 - x1) * (y2 - y1) - y

    assert above(right) == pytest.approx(0, abs=0.2)
    assert above(late) > 50


def test_marks_of_an_axis_do_not_lie_on_each_other() -> None:
    points = [Point(predicted=low, actual=low, kind="check", note="") for low in (0.01, 0.1, 100)]
    tree = parsed(scatter(points, title="a", told=words.duration))
    floor = [each for each in tree.iter() if each.get("class") == "tick" and each.get("y") == "392"][::-1]
    wide = [6 * len(each.text or "") for each in floor]
    begins = [
        float(each.attrib["x"]) - (size if each.get("text-anchor") == "end" else size / 2)
        for each, size in zip(floor, wide, strict=True)
    ]
    assert len(floor) > 2
    assert all(begin + size < after for begin, size, after in zip(begins, wide, begins[1:], strict=False))


def test_squares_grow_by_their_area_and_have_the_colour_of_their_share() -> None:
    tree = parsed(drawn_heatmap("a"))
    squares = [each for each in tree.iter() if each.get("class", "").startswith("heat-")]
    assert [each.get("class") for each in squares] == ["heat-0", "heat-2", "heat-4", "heat-none"]
    small, middle, big, _ = (float(each.attrib["width"]) for each in squares)
    assert small < middle < big
    assert len(numbers(tree, "blocked", "r")) == 1


def test_thousands_of_squares_fit() -> None:
    squares = [Square(name=f"{n}", note=f"{n}", bytes=n * MIB, share=0.5) for n in range(5000)]
    tree = parsed(heatmap(squares))
    assert len([each for each in tree.iter() if each.get("class") == "square"]) == 5000
    assert float(tree.attrib["viewBox"].split()[3]) < 1000


def test_the_colour_of_a_share() -> None:
    assert [heat(share) for share in (None, 0.0, 0.049, 0.05, 0.3, 1.0)] == [
        "heat-none", "heat-0", "heat-0", "heat-1", "heat-3", "heat-4",
    ]  # fmt: skip


def test_a_window_over_midnight_has_a_part_on_each_day() -> None:
    windows = numbers(parsed(drawn_calendar("a")), "window", "y")
    assert len(windows) == 2
    assert windows[1] - windows[0] == 26
    assert len(numbers(parsed(drawn_calendar("a")), "block overruns", "width")) == 1


def test_what_runs_all_day_is_a_thin_band_on_each_day_and_no_block() -> None:
    runs = [
        Span(name=name, begins=NOW, ends=NOW + timedelta(days=14), note=f"{name} every 2 min", band=True)
        for name in ("a", "b")
    ]
    tree = parsed(calendar(NOW.date(), 14, windows=[], runs=runs, now=NOW))
    tops = numbers(tree, "band", "y")
    assert len(set(tops)) == len(tops) == 28, "none lies on another"
    assert not [each for each in tree.iter() if each.get("class", "").startswith("block")]


def test_an_hour_is_as_wide_in_each_row() -> None:
    hours = [Span(name="", begins=NOW.replace(hour=h), ends=NOW.replace(hour=h + 1)) for h in (1, 9, 22)]
    tree = parsed(calendar(date(2026, 11, 24), 1, windows=[], runs=hours, now=NOW))
    first, second, third = numbers(tree, "block", "width")
    assert first == pytest.approx(second, abs=0.2)
    assert second == pytest.approx(third, abs=0.2)


def test_text_is_escaped_and_pictures_are_not_escaped_twice() -> None:
    assert element("g", "a<b", element("text", "c&d")) == "<g>a&lt;b<text>c&amp;d</text></g>"
    assert element("line", stroke_width=2, class_="x", rx=None) == '<line stroke-width="2" class="x"/>'


def test_scales() -> None:
    assert [Scale(0, 10, 100, 200)(value) for value in (-5, 0, 5, 20)] == [100, 100, 150, 200]
    assert Scale(1, 100, 0, 10, logarithmic=True)(10) == 5
    assert Scale(3, 3, 7, 9)(3) == 7


@pytest.mark.parametrize(
    ("most", "step", "expected"),
    [
        (0, 10, [0, 1]),
        (7, 10, [0, 2, 4, 6, 8]),
        (100, 10, [0, 25, 50, 75, 100]),
        (3 * MIB, 1024, [0, MIB, 2 * MIB, 3 * MIB]),
    ],
)
def test_marks_are_round(most: float, step: float, expected: list[float]) -> None:
    assert list(ticks(most, step=step)) == expected


def test_powers() -> None:
    assert list(powers(0.5, 30, 10)) == pytest.approx([0.1, 1, 10, 100])
    assert list(powers(MIB, MIB, 16)) == pytest.approx([MIB, 16 * MIB])
