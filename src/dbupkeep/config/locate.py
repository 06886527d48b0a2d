"""Where each key and value of a TOML text is, found before it is parsed.

`tomllib` gives no positions, and takes seconds over a dotted key of many thousand parts. So a scanner goes over the
text first, in time linear in its length: it notes the line of every key and value, and stops at what is beyond any
configuration that a person wrote. It does not judge the syntax: that is `tomllib`'s, and where the scanner is lost it
says how far it came, so that nothing behind that point need be parsed.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from collections.abc import Mapping

from msgspec import Struct

Path = tuple[str | int, ...]
"""Keys, and numbers for the places in arrays: `("jobs", "nightly", "steps", 0, "operations", 1)`."""

DEEPEST = 32  # keys and arrays within each other
LONGEST_KEY = 1024  # characters of one key with all its dots
LONGEST_TEXT = 65_536  # characters of one text
LONGEST_NUMBER = 256  # characters of any other value
MOST_ENTRIES = 20_000  # parts of keys, and array items
MOST_LINES = 20_000

# No possessive quantifiers, which early releases of Python 3.11 match wrongly; no alternative here overlaps another.
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_PART = re.compile(r"""[ \t]*(?:([A-Za-z0-9_-]+)|("(?:[^"\\\n]|\\.)*")|'([^'\n]*)')[ \t]*""")
_STRING = re.compile(
    r'''"""[^"\\]*(?:(?:\\[\s\S]|"(?!""))[^"\\]*)*""""{0,2}'''
    r"""|'''[^']*(?:'(?!'')[^']*)*''''{0,2}"""
    r'''|(?!""")"[^"\\\n]*(?:\\.[^"\\\n]*)*"'''
    r"""|(?!''')'[^'\n]*'"""
)
_BARE = re.compile(r"[^,\]}#\n]+")


class TooMuch(ValueError):
    """The text is beyond a limit, at `line`."""

    def __init__(self, what: str, *, line: int) -> None:
        super().__init__(what)
        self.line = line


class _Lost(Exception):
    """This is no TOML that the scanner knows."""


class Located(Struct, frozen=True, kw_only=True):
    """What the scanner found."""

    lines: Mapping[Path, int]  # counted from 1
    readable: int  # how many characters `tomllib` may have; all of them where the scanner was not lost


def locate(text: str) -> Located:
    """Find the line of every key and value. Raises `TooMuch`."""
    scanner = _Scanner(text)
    try:
        scanner.document()
    except _Lost:
        end = text.find("\n", scanner.at, scanner.at + LONGEST_KEY)
        return Located(lines=scanner.lines, readable=end + 1 if end >= 0 else min(len(text), scanner.at + LONGEST_KEY))
    return Located(lines=scanner.lines, readable=len(text))


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}  # arrays of tables, and how many tables each has so far
        self._entries = 0
        self._newlines = [found.start() for found in re.finditer("\n", text)]
        if len(self._newlines) > MOST_LINES:
            raise TooMuch(f"there are more than {MOST_LINES} lines", line=MOST_LINES + 1)

    def document(self) -> None:
        table: Path = ()
        while self._skip_blank() < len(self.text):
            if self._take("[["):
                table = self._header("]]")
            elif self._take("["):
                table = self._header("]")
            else:
                self._assignment(table)

    def _header(self, closing: str) -> Path:
        line = self._line()
        path: Path = ()
        parts = self._key()
        self._expect(closing)
        for part in parts[:-1]:
            path = self._enter((*path, part), line)
        path = (*path, parts[-1])
        if closing == "]]":
            self.lines.setdefault(path, line)
            self._arrays[path] = self._arrays.get(path, 0) + 1
        path = self._enter(path, line)
        self._note(path, line)
        return path

    def _enter(self, path: Path, line: int) -> Path:
        """Go into a table; of an array of tables, into the last one."""
        self.lines.setdefault(path, line)
        if path in self._arrays:
            path = (*path, self._arrays[path] - 1)
            self.lines.setdefault(path, line)
        return path

    def _assignment(self, table: Path) -> None:
        line = self._line()
        path = table
        for part in self._key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        self._note(path, line)
        self._expect("=")
        self._value(path)

    def _key(self) -> list[str]:
        start, parts = self.at, list[str]()
        while True:
            found = _PART.match(self.text, self.at, start + LONGEST_KEY + 1)
            if found is None:
                raise _Lost
            self.at = found.end()
            if len(parts) >= DEEPEST or self.at - start > LONGEST_KEY:
                limit = f"{DEEPEST} parts and {LONGEST_KEY} characters"
                raise TooMuch(f"a key is longer than {limit}", line=self._line(start))
            self._count(self._line(start))
            bare, quoted, literal = found.groups()
            parts.append(_unquoted(quoted) if quoted is not None else bare if bare is not None else literal)
            if not self._take("."):
                return parts

    def _value(self, path: Path) -> None:
        while self.text.startswith((" ", "\t"), self.at):
            self.at += 1
        if self._take("["):
            self._array(path)
        elif self._take("{"):
            self._inline(path)
        else:
            self._scalar()

    def _scalar(self) -> None:
        is_text = self.text.startswith(('"', "'"), self.at)
        pattern, longest = (_STRING, LONGEST_TEXT) if is_text else (_BARE, LONGEST_NUMBER)
        found = pattern.match(self.text, self.at, self.at + longest + 1)
        if (found is None and is_text and len(self.text) - self.at > longest) or (
            found is not None and found.end() - self.at > longest
        ):
            raise TooMuch(f"a value is longer than {longest} characters", line=self._line())
        if found is None:
            raise _Lost
        self.at = found.end()

    def _array(self, path: Path) -> None:
        number = 0
        while self._skip_blank() < len(self.text) and not self._take("]"):
            item = (*path, number)
            self._note(item, self._line())
            self._count(self._line())
            self._value(item)
            self._skip_blank()
            if not self._take(","):
                self._expect("]")
                return
            number += 1

    def _inline(self, path: Path) -> None:
        while self._skip_blank() < len(self.text) and not self._take("}"):
            self._assignment(path)
            self._skip_blank()
            if not self._take(","):
                self._expect("}")
                return

    def _note(self, path: Path, line: int) -> None:
        self.lines.setdefault(path, line)
        if len(path) > DEEPEST:
            raise TooMuch(f"tables and arrays are nested deeper than {DEEPEST}", line=line)

    def _count(self, line: int) -> None:
        self._entries += 1
        if self._entries > MOST_ENTRIES:
            raise TooMuch(f"there are more than {MOST_ENTRIES} keys and values", line=line)

    def _line(self, at: int | None = None) -> int:
        return bisect_left(self._newlines, self.at if at is None else at) + 1

    def _skip_blank(self) -> int:
        found = _BLANK.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return self.at

    def _take(self, mark: str) -> bool:
        taken = self.text.startswith(mark, self.at)
        self.at += len(mark) * taken
        return taken

    def _expect(self, mark: str) -> None:
        if not self._take(mark):
            raise _Lost


def _unquoted(text: str) -> str:
    if "\\" not in text:
        return text[1:-1]
    try:
        return str(tomllib.loads(f"key = {text}")["key"])
    except ValueError:
        raise _Lost from None
