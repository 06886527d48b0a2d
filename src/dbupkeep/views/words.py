"""Numbers and names in words for people: sizes, durations, and names that cannot harm a terminal."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from datetime import datetime
from urllib.parse import unquote

from dbupkeep.logs import printable

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_WEEK = 7 * 86400
_TARGET = re.compile(r"(?P<survey>discovery:)?(?P<url>[a-z][a-z0-9+]*://[^\s,?]+)(\?[^\s,]*)?")


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


def gain(before: float | None, after: float | None) -> str:
    """What a size became: `115.2 MiB → 37.1 MiB`, or the one size where it stayed; empty when nothing is known."""
    if before is None or after is None:
        return ""
    first, last = size(before), size(after)
    return first if first == last else f"{first} → {last}"


def moment(at: datetime | None) -> str:
    """A moment in the time zone of the reader, to the second; a dash for None."""
    return "–" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def ago(at: datetime | None, now: datetime) -> str:
    """How long ago: `3 min ago`, and the day after a week; a dash for None."""
    if at is None:
        return "–"
    seconds = (now - at).total_seconds()
    if seconds > _WEEK:
        return at.astimezone().strftime("%Y-%m-%d")
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return "just now"


def limits(at_a_time: int, until: datetime | None) -> str:
    """The limits of a run that goes on: `2 operations at a time, end by 06:00`."""
    said = [
        counted(at_a_time, "operation") + " at a time" if at_a_time else "",
        f"end by {moment(until)}" if until else "",
    ]
    return ", ".join(filter(None, said)) or "none"


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: `1 operation`, `3 operations`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def place(target: str) -> str:
    """A target's name without its way: the file, or the database of a server."""
    return unquote(target.rpartition("/")[2] or target, errors="surrogateescape")


def places(targets: str) -> str:
    """The same of a text that names several, as the audit trail does; a target that was only looked for is a survey."""
    return _TARGET.sub(
        lambda found: ("survey of " if found["survey"] else "") + place(found["url"].rstrip("/")), targets
    )


def listed(parts: Iterable[str]) -> str:
    """Parts that are there, side by side."""
    return " · ".join(part for part in parts if part)


def shell(arguments: Iterable[str]) -> str:
    r"""A command line for copying into a shell; what would harm a terminal is written as `$'\x1b'`."""
    return " ".join(shlex.quote(each) if each.isprintable() else _escaped(each) for each in arguments)


def _escaped(text: str) -> str:
    plain = {char: chr(char) for char in range(32, 127) if chr(char) not in "'\\"}
    return "$'" + "".join(plain.get(byte, f"\\x{byte:02x}") for byte in os.fsencode(text)) + "'"


def name(text: str, *, width: int | None = None) -> str:
    """A name with its control characters escaped, and its middle left out where it is wider than `width` characters."""
    shown = printable(text)
    if width is None or len(shown) <= width:
        return shown
    tail = (width - 1) // 2
    return f"{shown[: width - 1 - tail]}…{shown[len(shown) - tail :]}"
