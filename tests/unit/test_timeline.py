"""The timeline as SVG: where its bars are, what is in them, and that no name gets out of its place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from dbupkeep.views.pictures.timeline import ROW, STYLE, Bar, Lane, Piece, Spent, timeline

T0 = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "</title><script>alert(1)</script>", '" onload="alert(1)', "' onmouseover='alert(1)", "&lt;b&gt;", "]]>", "a\x00b\x1b[31m",
    "\ud800", "\u202egnp.exe", "<!--",
]  # fmt: skip


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def bar(begin: float, end: float, name: str = "vacuum t", status: str = "completed", *pieces: Piece) -> Bar:
    return Bar(name=name, begin=at(begin), end=at(end), status=status, pieces=pieces)


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - made here


def rects(picture: ET.Element, kind: str = "bar") -> list[tuple[float, float, int]]:
    """Where they are: begin and width in percent, and height from the top."""
    found = [each for each in picture.iter(f"{SVG}rect") if each.get("class") == kind]
    return [(float(e.attrib["x"][:-1]), float(e.attrib["width"][:-1]), int(e.attrib["y"])) for e in found]


def test_bars_are_shares_of_the_time_and_do_not_overlap() -> None:
    lanes = [Lane(name="a", bars=[bar(0, 10), bar(5, 20), bar(10, 15)]), Lane(name="b", bars=[bar(15, 20)])]
    (first, third), second, other = (
        rects(parsed(timeline(lanes, title="t")))[:2],
        *rects(parsed(timeline(lanes, title="t")))[2:],
    )
    assert [each[:2] for each in (first, second, third, other)] == [(0, 50), (25, 75), (50, 25), (75, 25)]
    assert first[2] == third[2]
    assert second[2] >= first[2] + ROW
    assert other[2] >= second[2] + ROW


def test_waiting_and_sleep_are_drawn_apart_from_work() -> None:
    wait = Piece(spent=Spent.WAIT, begin=at(0), end=at(4))
    sleep = Piece(spent=Spent.SLEEP, begin=at(8), end=at(10))
    text = timeline([Lane(name="a", bars=[bar(0, 10, "x", "completed", wait, sleep)])], title="t", name="mine")
    picture = parsed(text)
    assert rects(picture, "wait")[0][:2] == (0, 40)
    assert rects(picture, "sleep")[0][:2] == (80, 20)
    assert "url(#mine-hatch)" in text
    assert [each.get("id") for each in picture.iter(f"{SVG}pattern")] == ["mine-hatch"]


def test_now_and_the_wall_of_the_window() -> None:
    lanes = [Lane(name="a", bars=[bar(0, 10)])]
    picture = parsed(timeline(lanes, title="t", now=at(10), closes=at(20)))
    assert rects(picture)[0][:2] == (0, 50)
    assert rects(picture, "wall")
    assert [each.get("x1") for each in picture.iter(f"{SVG}line") if each.get("class") == "now"] == ["50.000%"]
    far = parsed(timeline(lanes, title="t", closes=at(1000)))
    assert rects(far)[0][:2] == (0, 100)
    assert not rects(far, "wall")


@pytest.mark.parametrize("length", [0.0, 0.001, 0.15, 2, 59, 600, 7000, 86400, 30 * 86400])
def test_axis_has_some_marks_and_never_many(length: float) -> None:
    picture = parsed(timeline([Lane(name="a", bars=[bar(0, length)])], title="t"))
    marks = [each for each in picture.iter(f"{SVG}text") if each.get("class") == "mark"]
    assert len(marks) <= 8
    assert len(marks) >= 1 or length < 1


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name: str) -> None:
    lanes = [Lane(name=name, bars=[Bar(name=name, begin=T0, end=at(1), status=name, note=name, link=f"#{name}")])]
    text = timeline(lanes, title=name)
    picture = parsed(text)
    tags = {each.tag.removeprefix(SVG) for each in picture.iter()}
    assert tags <= {"svg", "defs", "pattern", "line", "rect", "text", "title", "g", "a"}
    attributes = {key for each in picture.iter() for key in each.attrib}
    assert not [key for key in attributes if key.startswith("on")]
    assert text.isprintable()


def test_nothing_is_drawn_of_nothing() -> None:
    assert timeline([Lane(name="a", bars=[])], title="t") == ""


def test_its_style_has_no_colour_that_a_page_cannot_change() -> None:
    colours = [line for line in STYLE.splitlines() if "#" in line]
    assert all("var(--" in line for line in colours)
