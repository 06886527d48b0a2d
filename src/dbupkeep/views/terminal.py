"""What a terminal is asked and told: width, colour, columns. Nothing is written wider than it is."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from msgspec import Struct

from dbupkeep.errors import OperationError


class Color(StrEnum):
    """When to colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


_CODES: Mapping[str, str] = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}

_PLAIN: Mapping[str, str] = {
    "✓": "+", "✗": "x", "▸": ">", "–": "-", "·": "-", "…": "~", "→": "->", "‖": "=", "×": "x", "│": "|", "└": "`",
    "├": "|", "─": "-", "≈": "~", "−": "-", "’": "'", "━": "=", "⚠": "!",
}  # fmt: skip
"""What is written instead where the encoding has no such sign."""


class ReaderLeft(Exception):
    """Whoever read the output has gone; there is nobody to tell."""


class Terminal:
    """One output stream as a person sees it."""

    def __init__(self, stream: TextIO, *, color: Color = Color.AUTO, environ: Mapping[str, str] | None = None) -> None:
        """Ask the stream and the environment once. `NO_COLOR` and `FORCE_COLOR` count where `color` is auto."""
        environ = os.environ if environ is None else environ
        self.stream = stream
        self.tty = stream.isatty()
        self.lively = self.tty and environ.get("TERM", "") != "dumb"
        self.color = _colored(color, environ, lively=self.lively)
        self.encoding = (stream.encoding or "ascii").lower().replace("-", "")
        columns = environ.get("COLUMNS", "")
        fixed = int(columns) if columns.isdecimal() and int(columns) > 0 else None
        self._width = fixed if fixed or not self.tty else shutil.get_terminal_size().columns

    @property
    def width(self) -> int | None:
        """Columns there are; None where output goes to a file or a pipe, which takes lines of any length."""
        return self._width

    def paint(self, text: str, *styles: str) -> str:
        """The text in these styles, where the stream takes colour."""
        codes = [_CODES[style] for style in " ".join(styles).split()]
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if codes and self.color and text else text

    def line(self, text: str = "") -> None:
        """Write one line; signs that the encoding lacks are written in another way."""
        if not self.encoding.startswith("utf"):
            text = "".join(_PLAIN.get(char, char) for char in text)
        text = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        try:
            self.stream.write(text + "\n")
            self.stream.flush()
        except BrokenPipeError as error:
            raise ReaderLeft from error
        except OSError as error:
            # What is still buffered goes nowhere, without another complaint at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
            raise OperationError(
                "the output could not be written",
                why=str(error.strerror),
                hint="what was done is kept: see `dbupkeep jobs`",
            ) from error


def _colored(color: Color, environ: Mapping[str, str], *, lively: bool) -> bool:
    if color is not Color.AUTO:
        return color is Color.ALWAYS
    if environ.get("NO_COLOR"):
        return False
    return bool(environ.get("FORCE_COLOR")) or lively


def standard_output(color: Color = Color.AUTO) -> Terminal:
    """Where results go."""
    return Terminal(_open(sys.stdout), color=color)


def standard_error(color: Color = Color.AUTO) -> Terminal:
    """Where messages and progress go."""
    return Terminal(_open(sys.stderr), color=color)


def _open(stream: TextIO | None) -> TextIO:
    """The stream; nowhere, if the caller has closed it (`>&-`)."""
    return stream if stream is not None else Path(os.devnull).open("w", encoding="utf-8")


def cells(text: str) -> int:
    """How many columns a text takes."""
    return len(text) if text.isascii() else sum(_cells(char) for char in text)


def _cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def fit(text: str, width: int | None) -> str:
    """The text, cut with an ellipsis where it takes more columns than there are."""
    if width is None or cells(text) <= width:
        return text
    if width < 1:
        return ""
    kept, used = [], 0
    for char in text:
        used += _cells(char)
        if used > width - 1:
            break
        kept.append(char)
    return "".join(kept).rstrip() + "…"


def squeeze(text: str, width: int) -> str:
    """The text, its middle left out where it takes more columns than there are: names often differ at their ends."""
    if cells(text) <= width:
        return text
    tail = fit(text[::-1], (width - 1) // 2 + 1)[:-1][::-1]
    return fit(text, width - cells(tail)) + tail if width > 2 else fit(text, width)  # noqa: PLR2004 - room for an end


def pad(text: str, width: int, *, right: bool = False) -> str:
    """The text filled up with blanks to so many columns."""
    blanks = " " * max(0, width - cells(text))
    return blanks + text if right else text + blanks


def wrap(text: str, width: int | None, *, indent: int = 0) -> list[str]:
    """The text as lines of at most `width` columns, each behind `indent` blanks; words too long for one are cut."""
    if width is None:
        return [" " * indent + text]
    room = max(20, width - indent)
    lines, line = [], ""
    for word in text.split(" "):
        word = fit(word, room)  # noqa: PLW2901 - the same word, as far as it fits
        if line and cells(line) + 1 + cells(word) > room:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [" " * indent + each for each in (*lines, line)]


READABLE = 14
"""Columns below which a name is not cut."""


class Cell(Struct, frozen=True):
    """One entry of a table."""

    text: str
    style: str = ""


class Table(Struct, frozen=True, kw_only=True):
    """Rows in aligned columns.

    Where the terminal is too narrow, the columns in `optional` are left out, first to last, and those in `flexible` cut.
    """

    head: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = ()
    right: frozenset[int] = frozenset()  # columns of numbers
    flexible: tuple[int, ...] = ()
    optional: tuple[int, ...] = ()
    names: frozenset[int] = frozenset()  # columns that are cut in the middle
    indent: int = 0
    gap: int = 2

    def lines(self, terminal: Terminal) -> list[str]:
        """The table as lines; a column that is empty throughout is left out."""
        rows = [list(row) for row in self.rows]
        shown = [number for number in range(len(rows[0])) if any(row[number].text for row in rows)] if rows else []
        everything = [[Cell(text, "dim") for text in self.head], *rows] if self.head and rows else rows
        full = {number: max(cells(row[number].text) for row in everything) for number in shown}
        for number in self.optional:
            if terminal.width is not None and self._least(shown, full) > terminal.width and number in shown:
                shown.remove(number)
        widths = [full[number] for number in shown]
        self._shrink(widths, shown, terminal.width)
        return [self._line([row[number] for number in shown], widths, shown, terminal) for row in everything]

    def _least(self, shown: Sequence[int], full: Mapping[int, int]) -> int:
        """Columns that the table takes when the flexible ones are cut as far as they stay readable."""
        least = [min(full[number], READABLE) if number in self.flexible else full[number] for number in shown]
        return self.indent + sum(least) + self.gap * (len(least) - 1)

    def _shrink(self, widths: list[int], shown: Sequence[int], room: int | None) -> None:
        if room is None:
            return
        for number in self.flexible:
            over = self.indent + sum(widths) + self.gap * (len(widths) - 1) - room
            if over > 0 and number in shown:
                at = shown.index(number)
                widths[at] = max(min(widths[at], READABLE), widths[at] - over)

    def _line(self, row: Sequence[Cell], widths: Sequence[int], shown: Sequence[int], terminal: Terminal) -> str:
        parts, room = [], (terminal.width - self.indent) if terminal.width else None
        for at, cell in enumerate(row):
            width = widths[at] if room is None else max(0, min(widths[at], room))
            last = at == len(row) - 1
            text = squeeze(cell.text, width) if shown[at] in self.names else fit(cell.text, width)
            text = text if last and shown[at] not in self.right else pad(text, width, right=shown[at] in self.right)
            parts.append(terminal.paint(text, cell.style))
            room = None if room is None else room - width - self.gap
        return (" " * self.indent + (" " * self.gap).join(parts)).rstrip()
