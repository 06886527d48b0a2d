"""Who makes CONCURRENTLY wait: it goes on only when every older snapshot, and every user of the table, has ended."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dbupkeep.engines.postgresql import words
from dbupkeep.errors import Busy
from dbupkeep.logs import printable

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

_SHOWN = 80
_PREPARED = "prepared"

_COMMITTED_WITHIN = 1.0
"""Seconds in which who prepares a transaction commits it; else it is left, and nothing will end it by itself."""

_LITERAL = re.compile(r"(\$(?:\w*)\$.*?(?:\$\w*\$|\Z))|('(?:[^']|'')*(?:'|\Z))", re.DOTALL)


def long_transactions(handle: Handle, seconds: float) -> list[dict[str, Any]]:
    """Transactions of this database that are open for longer, or prepared and left so, the oldest first."""
    rows = handle.rows("long_transactions", {"seconds": max(0.0, seconds)})
    return [row for row in rows if not _may_end_at_once(row)]


def waited_for(handle: Handle, relations: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """The same before work on some tables: a transaction that was prepared just now gets a moment to be committed."""
    rows = handle.rows("long_transactions", {"seconds": max(0.0, seconds)})
    if any(map(_may_end_at_once, in_the_way(rows, relations))):
        handle.pause(_COMMITTED_WITHIN)
    return long_transactions(handle, seconds)


def _may_end_at_once(row: Mapping[str, Any]) -> bool:
    return bool(row["state"] == _PREPARED and row["seconds"] < _COMMITTED_WITHIN)


def in_the_way(rows: Sequence[Mapping[str, Any]], relations: Sequence[int]) -> list[Mapping[str, Any]]:
    """Those that a rebuild on some tables would have to wait for. Pure.

    A session with a snapshot is waited for by all. One that is idle in a transaction at the default isolation has
    none, and is waited for by the tables that it has touched.
    """
    wanted = set(relations)
    return [row for row in rows if row["snapshot"] or wanted & set(row["relations"] or ())]


def described(row: Mapping[str, Any]) -> str:
    """A blocker as a phrase: who, how long, and what it last did, without the values in it."""
    age = words.duration(row["seconds"] or 0)
    if row["state"] == _PREPARED:
        return f"prepared transaction {printable(str(row['name']))!r} of {row['role']}, open for {age}"
    who = ", ".join(printable(str(row[name])) for name in ("role", "name", "state") if row.get(name))
    said = redacted(row["query"] or "")
    return f"pid {row['pid']} ({who}), open for {age}" + (f": {said}" if said else "")


def redacted(query: str) -> str:
    """The beginning of a statement, without its literals: what another program wrote may hold its secrets."""
    text = " ".join(_LITERAL.sub("'...'", query).split())
    if re.match(r"(?i)(create|alter)\s+(role|user)\b", text):
        text = " ".join(text.split()[:3])
    return printable(text[:_SHOWN] + ("..." if len(text) > _SHOWN else ""))


def preflight(handle: Handle, relations: Sequence[int], seconds: float, what: str) -> None:
    """Raise `Busy` when something is open that would make the work wait; nothing was begun."""
    if seconds <= 0:
        return
    fault = barred(waited_for(handle, relations, seconds), relations, what)
    if fault:
        raise fault


def barred(rows: Sequence[Mapping[str, Any]], relations: Sequence[int], what: str) -> Busy | None:
    """Why work on some tables is not begun, where open transactions would make it wait. Pure."""
    found = in_the_way(rows, relations)
    if not found:
        return None
    return Busy(
        f"{what} is not begun: it would wait for another transaction, with an unfinished index in the table",
        why=described(found[0]) + (f"; and {len(found) - 1} more" if len(found) > 1 else ""),
        hint=f"it comes back with the next run; {_ending(found[0])}",
    )


def _ending(row: Mapping[str, Any]) -> str:
    if row["state"] == _PREPARED:
        return f"COMMIT PREPARED or ROLLBACK PREPARED {printable(str(row['name']))!r}, which no session does by itself"
    return "end that transaction, or raise the setting `blocker_age`"


def planned(facts_text: object, relations: Sequence[int], seconds: float) -> str:
    """What the survey saw in the way of some tables for so long, as a phrase; empty for nothing. Pure."""
    rows: list[dict[str, Any]] = json.loads(str(facts_text or "[]"))
    found = [
        row for row in in_the_way(rows, relations) if seconds > 0 and (row["prepared"] or row["seconds"] >= seconds)
    ]
    return str(found[0]["described"]) if found else ""


def kept(rows: Sequence[Mapping[str, Any]], limit: int = 20) -> str:
    """Blockers as a survey keeps them, as JSON."""
    return json.dumps(
        [
            {
                "snapshot": row["snapshot"],
                "relations": row["relations"] or [],
                "seconds": row["seconds"],
                "prepared": row["state"] == _PREPARED,
                "described": described(row),
            }
            for row in rows[:limit]
        ]
    )
