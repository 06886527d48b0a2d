"""SVG as text: elements whose texts and attributes are escaped, and the scales that pictures measure with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

from msgspec import Struct

from dbupkeep.logs import printable


class Svg(str):
    """SVG that is safe as it is; any other text is escaped before it becomes part of one."""

    __slots__ = ()

    def __html__(self) -> str:
        """What templates put in as it is."""
        return str(self)


def element(tag: str, *inside: str, **attributes: object) -> Svg:
    """An element. `stroke_width` is the attribute `stroke-width`, `class_` is `class`; what is None or empty is left out."""
    told = "".join(
        f' {_attribute(name)}="{escape(_value(value))}"'
        for name, value in attributes.items()
        if value is not None and value != ""
    )
    body = "".join(each if isinstance(each, Svg) else escape(printable(each)) for each in inside)
    return Svg(f"<{tag}{told}>{body}</{tag}>" if body else f"<{tag}{told}/>")


def picture(title: str, parts: Iterable[Svg], *, width: float, height: float, kind: str) -> Svg:
    """The whole picture, as wide as its place; `kind` is a class by which it is styled."""
    return element(
        "svg", element("title", title), *parts, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width:g} {height:g}",
        class_=f"picture {kind}", role="img", aria_label=title,
    )  # fmt: skip


def text(x: float, y: float, said: str, *, kind: str = "", anchor: str = "") -> Svg:
    """A text at a place; `anchor` is `middle` or `end`."""
    return element("text", said, x=x, y=y, class_=kind, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, *, kind: str) -> Svg:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def rect(x: float, y: float, width: float, height: float, *inside: str, kind: str, radius: float = 0) -> Svg:
    """A box; `inside` is what is told of it, such as its title."""
    return element(
        "rect", *inside, x=x, y=y, width=max(0.0, width), height=max(0.0, height), class_=kind, rx=radius or None
    )


def link(href: str, inside: Svg) -> Svg:
    """The same, as a link where there is somewhere to go."""
    return element("a", inside, href=href) if href else inside


class Scale(Struct, frozen=True):
    """From values to places, in a straight line, or by the logarithm."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value; values outside are at the edge."""
        to: Callable[[float], float] = math.log10 if self.logarithmic else float
        low, high = to(self.low), to(self.high)
        part = 0.0 if high <= low else (to(min(max(value, self.low), self.high)) - low) / (high - low)
        return round(self.start + part * (self.end - self.start), 1)


def ticks(most: float, *, step: float = 10.0, count: int = 4) -> Sequence[float]:
    """Round values from 0 to at least `most`; `step` 1024 makes them round in binary units."""
    if most <= 0:
        return [0.0, 1.0]
    unit = step ** math.floor(math.log(most, step)) if step != 10.0 else 1.0  # noqa: PLR2004 - ten fingers
    rough = most / unit / count
    size = 10 ** math.floor(math.log10(rough))
    width = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * (1 - 1e-9)) * unit
    return [width * number for number in range(math.ceil(most / width - 1e-9) + 1)]


def powers(low: float, high: float, base: float) -> Sequence[float]:
    """The powers of a base around some values, at least two."""
    first, last = math.floor(math.log(low, base) + 1e-9), math.ceil(math.log(high, base) - 1e-9)
    return [float(base) ** power for power in range(first, max(last, first + 1) + 1)]


def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _value(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else printable(str(value))
