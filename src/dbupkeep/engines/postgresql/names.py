"""Names of objects: how they are told to people, quoted for the server, and chosen by patterns. Pure but for quoting."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from dbupkeep.logs import printable

if TYPE_CHECKING:
    from psycopg import sql

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*\Z")


def told(schema: str, name: str) -> str:
    """A qualified name as SQL would write it: the name of an object in plans, ledgers and holds."""
    return f"{_written(schema)}.{_written(name)}"


def split(qualified: str) -> tuple[str, str]:
    """Schema and name of what `told` wrote."""
    parts = re.fullmatch(r'("(?:[^"]|"")*"|[^."]*)\.("(?:[^"]|"")*"|[^."]*)', qualified, re.DOTALL)
    if not parts:
        raise ValueError(f"not a qualified name: {printable(qualified)}")
    return _read(parts[1]), _read(parts[2])


def identifier(qualified: str) -> sql.Identifier:
    """A qualified name for a statement, by the driver's own quoting."""
    from psycopg import sql

    return sql.Identifier(*split(qualified))


@dataclass(frozen=True, slots=True, kw_only=True)
class Patterns:
    """Some patterns for `schema.name` or `name`, with `*` and `?`; in double quotes a part is taken literally."""

    patterns: tuple[tuple[str | None, str], ...] = ()

    @classmethod
    def of(cls, text: str | Iterable[str]) -> Patterns:
        """Read patterns, separated by commas outside of double quotes."""
        texts = [text] if isinstance(text, str) else list(text)
        found = [part.strip() for each in texts for part in re.findall(r'(?:"(?:[^"]|"")*"|[^,"])+', each)]
        return cls(patterns=tuple(_pattern(part) for part in found if part))

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.patterns)

    def match(self, schema: str, name: str) -> bool:
        """Whether one of them fits."""
        return any(
            fnmatchcase(name, wanted) and (within is None or fnmatchcase(schema, within))
            for within, wanted in self.patterns
        )


def _written(part: str) -> str:
    return part if _PLAIN.match(part) else '"' + part.replace('"', '""') + '"'


def _read(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


def _pattern(text: str) -> tuple[str | None, str]:
    parts = re.findall(r'(?:"(?:[^"]|"")*"|[^."])+', text)
    read = [_literal(part) for part in parts]
    return (read[-2], read[-1]) if len(read) > 1 else (None, read[-1] if read else text)


def _literal(part: str) -> str:
    """A part of a pattern for `fnmatch`, where `[` is a bracket and no set of characters."""
    if part.startswith('"') and part.endswith('"') and len(part) > 1:
        return re.sub(r"([*?\[])", r"[\1]", _read(part))
    return part.replace("[", "[[]")
