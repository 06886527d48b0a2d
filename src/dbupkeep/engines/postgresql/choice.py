"""Whether the names that were chosen are there: a name that is mistyped must not make a run that does nothing, and is green."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dbupkeep.definitions import Setting
from dbupkeep.engines.postgresql.names import Pattern, Patterns
from dbupkeep.engines.postgresql.selection import Selection
from dbupkeep.errors import Unmatched
from dbupkeep.facts import Notice
from dbupkeep.logs import printable

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

_HINT = "names are schema.name, with * and ?; capitals and strange characters in double quotes"


def unmatched(
    handle: Handle, chosen: Selection, rows: Sequence[Mapping[str, Any]], *, fleet: bool
) -> tuple[Notice, ...]:
    """What is to be said of names and patterns that fit nothing; of one among many databases, nothing.

    Raises `Unmatched` where a table or schema that was named is not there, or where nothing fits at all.
    """
    if not chosen.is_choice:
        return ()
    names = [(str(row["schema"]), str(row["name"])) for row in rows]
    schemas = _schemas(handle, chosen, names)
    lacking = [*chosen.tables.unmatched(names), *chosen.schemas.unmatched(schemas)]
    nothing = chosen.is_narrow and len(lacking) == len(chosen.tables.patterns) + len(chosen.schemas.patterns)
    named = lacking if nothing else [pattern for pattern in lacking if not (pattern.wild or fleet)]
    if named:
        what = "schema" if chosen.schemas else "table"
        raise Unmatched(f"there is no {what} {_written(named)} in {printable(handle.identity.database)}", hint=_HINT)
    # An exclusion by pattern may be one for another day; one by a name that is not there is mistyped.
    left_out = [*chosen.exclude_tables.unmatched(names), *chosen.exclude_schemas.unmatched(schemas)]
    mistyped = [pattern for pattern in left_out if not pattern.wild]
    return () if fleet else (*_told(lacking, "chosen"), *_told(mistyped, "left out"))


def nothing_left(config: Mapping[str, Setting]) -> str:
    """Why there is no table to decide on. Pure."""
    by_age = any(config.get(name) for name in ("min_xid_age", "min_mxid_age"))
    return "no table is as old as was asked for" if by_age else "no table is left of what was chosen"


def refuse_unmatched(handle: Handle, patterns: Patterns, names: Sequence[tuple[str, str]], what: str) -> None:
    """Raise `Unmatched` where a name is not there, or no pattern fits."""
    lacking = patterns.unmatched(names)
    named = lacking if len(lacking) == len(patterns.patterns) else [each for each in lacking if not each.wild]
    if named:
        raise Unmatched(f"there is no {what} {_written(named)} in {printable(handle.identity.database)}", hint=_HINT)


def _schemas(handle: Handle, chosen: Selection, names: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The schemas, as names without one of their own: those with tables, or all where that is not enough."""
    found = [("", schema) for schema in dict.fromkeys(schema for schema, _ in names)]
    if not (chosen.schemas.unmatched(found) or chosen.exclude_schemas.unmatched(found)):
        return found
    return [("", str(row["name"])) for row in handle.rows("schemas")]


def _told(patterns: Sequence[Pattern], how: str) -> tuple[Notice, ...]:
    if not patterns:
        return ()
    return (
        Notice(code="nothing_of_that_name", message=f"nothing is {how} by {_written(patterns)}: nothing there is called so", hint=_HINT),
    )  # fmt: skip


def _written(patterns: Sequence[Pattern]) -> str:
    return ", ".join(printable(pattern.written) for pattern in patterns)
