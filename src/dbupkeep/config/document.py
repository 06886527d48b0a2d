"""A configuration as it was written: the file's text, the environment's overrides, and where each value came from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from dbupkeep.config.locate import Path as Key
from dbupkeep.config.locate import TooMuch, locate
from dbupkeep.config.names import PREFIX, SEPARATOR, overrides
from dbupkeep.errors import DefinitionError, UsageError
from dbupkeep.logs import mask, printable

BIGGEST_FILE = 1_000_000  # bytes

_AS_TOML = re.compile(r"\s*(?:[\[{\"']|(?:true|false|[+-]?[0-9][0-9_]*(?:\.[0-9]+)?)\s*$)")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)\S+")
_AT_LINE = re.compile(r" \(at line (\d+), column (\d+)\)$")


class Document(Struct, frozen=True, kw_only=True):
    """What was written, not yet judged."""

    data: dict[str, Any]
    file: str = ""  # as it was named; empty when there is none
    folder: Path = field(default_factory=Path)  # what relative paths are relative to
    lines: Mapping[Key, int] = field(default_factory=dict)
    variables: Mapping[Key, str] = field(default_factory=dict)  # which environment variable set a key

    def origin(self, key: Key) -> str:
        """`file:line`, `environment NAME`, or `default` for a value that nobody wrote."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.variables:
                return f"environment {self.variables[key[:end]]}"
        return f"{self.file}:{self.lines[key]}" if key in self.lines else "default"

    def place(self, key: Key) -> str:
        """Where a fault at that key is best looked for: its own place, else that of what it should be in."""
        if self.origin(key) != "default":
            return self.origin(key)
        for end in range(len(key), -1, -1):
            beneath = [name for set_key, name in self.variables.items() if set_key[:end] == key[:end]]
            if key[:end] in self.lines:
                return f"{self.file}:{self.lines[key[:end]]}"
            if end and beneath:
                return f"environment {beneath[0]}"
        return f"{self.file}:1" if self.file else "environment"


def read(path: Path | None, environ: Mapping[str, str]) -> Document:
    """Read a file (None: there is none) and the overrides. Raises `UsageError`, and `DefinitionError` for bad TOML."""
    data, lines = _parse(_text(path), str(path)) if path else ({}, {})
    variables: dict[Key, str] = {}
    for name in overrides(environ):
        variables[_override(data, name, environ[name])] = name
    folder = path.absolute().parent if path else Path.cwd()
    return Document(data=data, file=str(path or ""), folder=folder, lines=lines, variables=variables)


def dotted(key: Key) -> str:
    """Write a key as people read it: `jobs.nightly.steps[0].operations[1]`."""
    text = ""
    for part in key:
        word = shown(str(part))
        text += f"[{part}]" if isinstance(part, int) else f".{word}" if text else word
    return text


def shown(text: str, *, width: int = 80) -> str:
    """A name as a fault may repeat it. A url where a name is wanted is cut: what follows may be as good as a password."""
    return _URL.sub(r"\1…", printable(mask(text)))[:width]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(BIGGEST_FILE + 1)
    except FileNotFoundError:
        raise UsageError(
            f"there is no configuration file {printable(str(path))}", hint="check --config and DBUPKEEP_CONFIG"
        ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(f"the configuration file {printable(str(path))} cannot be read", why=reason) from error
    if len(content) > BIGGEST_FILE:
        raise _fault(str(path), "1", f"the file is bigger than {BIGGEST_FILE} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _fault(str(path), str(line), "the text is not UTF-8") from None


def _parse(text: str, file: str) -> tuple[dict[str, Any], Mapping[Key, int]]:
    text = text.replace("\r\n", "\n")
    try:
        located = locate(text)
    except TooMuch as error:
        raise _fault(file, str(error.line), str(error)) from None
    last = text.count("\n", 0, max(0, located.readable - 1)) + 1
    try:
        data = tomllib.loads(text[: located.readable])
    except ValueError as error:  # TOMLDecodeError, or a number of too many digits
        raise _fault(file, *_syntax(str(error), last)) from None
    except RecursionError:
        raise _fault(file, str(last), "the nesting is too deep") from None
    if located.readable < len(text):
        raise _fault(file, str(last), "this is not TOML")
    return data, located.lines


def _syntax(message: str, last: int) -> tuple[str, str]:
    found = _AT_LINE.search(message)
    if found is None:
        return str(last), _sentence(message.removesuffix(" (at end of document)"))
    return f"{found[1]}:{found[2]}", _sentence(message[: found.start()])


def _sentence(text: str) -> str:
    plain = shown(text, width=200)
    return f"this is not TOML: {plain[:1].lower()}{plain[1:]}"


def _fault(file: str, line: str, message: str) -> DefinitionError:
    return DefinitionError("the configuration cannot be read", faults=(f"{printable(file)}:{line}: {message}",))


def _override(data: dict[str, Any], name: str, text: str) -> Key:
    """Set what a variable says, and return its key; keys are found whatever their case, with `_` for `-`."""
    key: Key = ()
    place: Any = data
    parts = name.removeprefix(PREFIX).lower().split(SEPARATOR)
    for number, part in enumerate(parts):
        found = _entry(place, part)
        if found is None or len(parts) > 32:  # noqa: PLR2004 - as deep as a file may be
            raise DefinitionError(
                "the environment cannot be read",
                faults=(f"environment {printable(name)}: {dotted((*key, part))} is no place for a value",),
            )
        key = (*key, found)
        if number == len(parts) - 1:
            place[found] = _value(text)
        else:
            if found not in place and isinstance(place, dict):
                place[found] = {}
            place = place[found]
    return key


def _entry(place: Any, part: str) -> Any:  # noqa: ANN401 - anything that TOML can say
    if isinstance(place, dict) and part:
        return next((name for name in place if name.lower().replace("-", "_") == part), part)
    if isinstance(place, list) and part.isdecimal() and len(part) < 6 and int(part) < len(place):  # noqa: PLR2004
        return int(part)
    return None


def _value(text: str) -> object:
    """A number, a truth value, a list or a table as in TOML; anything else is the text itself."""
    if _AS_TOML.match(text) is None or len(text) > BIGGEST_FILE:
        return text
    try:
        located = locate(f"value = {text}")
        return tomllib.loads(f"value = {text}"[: located.readable])["value"]
    except (ValueError, RecursionError):
        return text
