"""Numbers and names in words for people: sizes, durations, and names that cannot harm a terminal."""

from __future__ import annotations

from dbupkeep.logs import printable

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def size(count: float | None) -> str:
    """Bytes in binary units: `1.1 GiB`; a dash for None."""
    if count is None:
        return "–"
    from humanize import naturalsize

    return naturalsize(count, binary=True).replace(" Bytes", " B").replace(" Byte", " B")


def duration(seconds: float | None) -> str:
    """A time as its two largest units: `1 min 58 s`, `420 ms`; a dash for None."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 10:  # noqa: PLR2004 - where a tenth still tells something
        return f"{seconds:.1f} s".replace(".0 s", " s")
    rest = round(seconds)
    parts = []
    for length, unit in _UNITS:
        count, rest = divmod(rest, length)
        parts.append((count, unit))
    first = next(number for number, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def share(fraction: float | None) -> str:
    """A fraction as a percentage: `58 %`; a dash for None."""
    return "–" if fraction is None else f"{fraction * 100:.0f} %"


def name(text: str, *, width: int | None = None) -> str:
    """A name with its control characters escaped, and its middle left out where it is wider than `width` characters."""
    shown = printable(text)
    if width is None or len(shown) <= width:
        return shown
    tail = (width - 1) // 2
    return f"{shown[: width - 1 - tail]}…{shown[len(shown) - tail :]}"
