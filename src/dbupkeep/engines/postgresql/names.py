"""Names of objects: how they are told to people, quoted for the server, and chosen by patterns. Pure but for quoting."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from msgspec import Struct

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
    from dbupkeep.engines.postgresql.bytewise import Name

    return Name(*split(qualified))


_PART = r'"(?:[^"]|"")*"'
_COLUMNS = rf"\((?:{_PART}|[^)\"])*\)"


class Pattern(Struct, frozen=True, kw_only=True):
    """One pattern: of the schema, where it says one, of the name, and the columns that are chosen with it."""

    schema: str | None
    name: str
    columns: tuple[str, ...] = ()
    written: str = ""
    wild: bool = False  # whether it may stand for several names

    def match(self, schema: str, name: str) -> bool:
        """Whether it fits."""
        return fnmatchcase(name, self.name) and (self.schema is None or fnmatchcase(schema, self.schema))


class Patterns(Struct, frozen=True, kw_only=True):
    """Some patterns for `schema.name` or `name`, with `*` and `?`; in double quotes a part is taken literally.

    Columns may follow in parentheses, as of vacuumdb's tables: `orders(id, "Total")`.
    """

    patterns: tuple[Pattern, ...] = ()

    @classmethod
    def of(cls, text: str | Iterable[str]) -> Patterns:
        """Read patterns, separated by commas outside of double quotes and parentheses."""
        texts = [text] if isinstance(text, str) else list(text)
        found = [part.strip() for each in texts for part in _separated(each)]
        return cls(patterns=tuple(_pattern(part) for part in found if part))

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.patterns)

    def match(self, schema: str, name: str) -> bool:
        """Whether one of them fits."""
        return any(pattern.match(schema, name) for pattern in self.patterns)

    def unmatched(self, names: Iterable[tuple[str, str]]) -> list[Pattern]:
        """Those of them that fit none of some names (schema, name)."""
        left = list(self.patterns)
        for schema, name in names:
            if not left:
                break
            left = [pattern for pattern in left if not pattern.match(schema, name)]
        return left

    @property
    def with_columns(self) -> bool:
        """Whether columns are chosen anywhere."""
        return any(pattern.columns for pattern in self.patterns)

    def columns(self, schema: str, name: str) -> tuple[str, ...]:
        """The columns that are chosen of a table; empty for all of them."""
        found = [pattern.columns for pattern in self.patterns if pattern.match(schema, name)]
        return tuple(dict.fromkeys(column for each in found for column in each)) if all(found) else ()


def _written(part: str) -> str:
    return part if _PLAIN.match(part) else '"' + part.replace('"', '""') + '"'


def _read(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


def _separated(text: str) -> list[str]:
    parts = [""]
    for piece in re.findall(rf"{_PART}|{_COLUMNS}|.", text, re.DOTALL):
        if piece == ",":
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _pattern(text: str) -> Pattern:
    chosen = re.search(rf"{_COLUMNS}\Z", text)
    named = text[: chosen.start()].rstrip() if chosen else text
    columns = re.findall(rf'(?:{_PART}|[^,"])+', chosen[0][1:-1]) if chosen else []
    parts = re.findall(rf'(?:{_PART}|[^."])+', named)
    read = [_literal(part) for part in parts]
    return Pattern(
        schema=read[-2] if len(read) > 1 else None,
        name=read[-1] if read else named,
        columns=tuple(_read(column.strip()) for column in columns if column.strip()),
        written=named.strip(),
        wild=any("*" in part or "?" in part for part in parts if not part.startswith('"')),
    )


def _literal(part: str) -> str:
    """A part of a pattern for `fnmatch`, where `[` is a bracket and no set of characters.

    Without quotes a capital stands for the small letter too, to which the server and vacuumdb turn it.
    """
    if part.startswith('"') and part.endswith('"') and len(part) > 1:
        return re.sub(r"([*?\[])", r"[\1]", _read(part))
    return re.sub("[A-Z]", lambda capital: f"[{capital[0]}{capital[0].lower()}]", part.replace("[", "[[]"))
