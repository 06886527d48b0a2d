"""The databases of a whole server: the target's `pattern` says which by name, its `exclude` which not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase

from msgspec.structs import replace

from dbupkeep.definitions import Target
from dbupkeep.engine import Candidate, Purpose
from dbupkeep.engines.postgresql.handle import Handle
from dbupkeep.engines.postgresql.urls import parameters_of, with_database
from dbupkeep.errors import Missing
from dbupkeep.logs import is_text, printable

_UNREADABLE = "its name is not UTF-8, and no URL can name it: rename it from a session with its own encoding"


def of_server(place: Target) -> Iterator[Candidate]:
    """Ask the server, by the one database that the URL names (or the role's own). Raises a `TargetError`."""
    handle = Handle(replace(place, url=_entrance(place.url)), tag="dbupkeep discovery", purpose=Purpose.SURVEY)
    try:
        found = handle.rows("databases")
    finally:
        handle.close()
    taken = [row for row in found if _takes(place, str(row["name"]))]
    if not taken:
        raise Missing(
            f"no database of {handle.identity.key.rpartition('/')[0]} is chosen",
            why=f"none is called {printable(place.pattern)}, or all are excluded" if place.pattern != "*" else "all are excluded",
            hint="`psql -l` lists them; patterns take * and ?",
        )  # fmt: skip
    for row in taken:
        name = str(row["name"])
        target = replace(
            place, name=f"{place.name}/{printable(name)}", url=with_database(place.url, name), pattern="",
            exclude=tuple(pattern for pattern in place.exclude if "." in pattern),
        )  # fmt: skip
        problem = row["problem"] or ("" if is_text(name) else _UNREADABLE)
        yield Candidate(target=target, due=not problem, problem=problem)


def _takes(place: Target, name: str) -> bool:
    return fnmatchcase(name, place.pattern) and not any(fnmatchcase(name, pattern) for pattern in place.exclude)


def _entrance(url: str) -> str:
    """Where to ask: what the URL names; else, as vacuumdb does, the database `postgres`."""
    named = parameters_of(url, os.environ)
    if named.get("dbname") or named.get("service") or os.environ.get("PGDATABASE") or os.environ.get("PGSERVICE"):
        return url
    return with_database(url, "postgres")
