"""What a schema was at the time of a plan, in few bytes, and what went, came or was altered since. Pure.

Rows are not part of it, nor are pages: a schema stays the same through VACUUM, REINDEX, ANALYZE and the application's work.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from zlib import crc32

from dbupkeep.engines.sqlite.schema import Entry
from dbupkeep.facts import DatabaseFacts, ObjectFacts

NAME = "schema"
"""The evidence of a planned item that has it."""

MOST = 300
"""Tables and indexes that are kept by name; of a larger schema only whether it is the same."""

SAID = 5
"""Names in one sentence."""

_ALL = "*"


def objects(entries: Iterable[Entry]) -> list[ObjectFacts]:
    """Tables and indexes that somebody made, each with a number for the statement that did."""
    return [
        ObjectFacts(name=entry.name, kind=entry.kind, table=entry.table, values={"made_by": crc32(entry.sql.encode())})
        for entry in entries
        if entry.kind in ("table", "index") and entry.sql and not entry.name.startswith("sqlite_")
    ]


def of(facts: DatabaseFacts) -> str:
    """The schema as a planned item keeps it; empty where the survey did not look at it."""
    found = _now(facts)
    if len(found) > MOST:
        found = {_ALL: _whole(found)}
    return json.dumps(found, separators=(",", ":")) if found else ""


def changes(planned: str, facts: DatabaseFacts) -> str:
    """Say what is another one now; empty where nothing is, and where nothing is known of then or now."""
    then, now = json.loads(planned) if planned else {}, _now(facts)
    if not then or "tables" not in facts.values:
        return ""
    if _ALL in then:
        return "" if then[_ALL] == _whole(now) else "tables or indexes came, went or were altered since the plan"
    said = (
        _told([name for name in then if name not in now], "gone"),
        _told([name for name in now if name not in then], "new"),
        _told(
            [name for name, made in now.items() if then.get(name, made) != made],
            "not what it was",
            "not what they were",
        ),
    )
    return ", ".join(part for part in said if part)


def _now(facts: DatabaseFacts) -> dict[str, int]:
    made = ((each, each.values.get("made_by")) for each in facts.objects)
    return {f"{each.kind} {each.name}": number for each, number in made if isinstance(number, int)}


def _whole(found: Mapping[str, int]) -> int:
    return crc32(json.dumps(sorted(found.items())).encode())


def _told(names: list[str], one: str, several: str = "") -> str:
    if not names:
        return ""
    listed = ", ".join(names[:SAID]) + (f" and {len(names) - SAID:,} more" if len(names) > SAID else "")
    return f"{listed} {'is' if len(names) == 1 else 'are'} {one if len(names) == 1 else several or one}"
