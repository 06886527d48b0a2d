"""The unfinished copies that a cut-off REINDEX CONCURRENTLY leaves in a table, and the proof of which are ours.

`_ccnew` is a copy that was not finished, `_ccold` the old index after a rebuild that succeeded; both are invalid, and
some cost every write. Ours is what our own attempt made: its number was seen while it was built, or it is the only
new copy of the index that we had begun to rebuild. What could not be dropped at once is marked with a comment on the
server, so that any later run knows it. Nothing else is ever dropped without consent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import asdict

from dbupkeep.engines.postgresql.names import split
from dbupkeep.errors import UpkeepError

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

Row = Mapping[str, Any]

MARK = "dbupkeep: "
"""How the comment on a copy begins that we could not drop."""

_NAME_BYTES = 63
_CLIPPED_FROM = _NAME_BYTES - 3  # a character has up to four bytes, and none is cut in two
_COPY = re.compile(r"(?P<stem>.*)_(?P<label>ccnew|ccold)\d*\Z", re.DOTALL)


class Intent(Struct, frozen=True, kw_only=True):
    """What an attempt is about to rebuild, as it notes it before it begins."""

    index: int  # OID
    relation: int  # OID of what it indexes: a table, or its TOAST table
    name: str  # qualified
    invalid: tuple[int, ...]  # OIDs of the invalid indexes that were there before: never ours
    bytes: int

    def text(self) -> str:
        """As a note."""
        return json.dumps({"rebuild": asdict(self)})


def text_of(intents: Sequence[Intent]) -> str:
    """Those of a group as one note."""
    return json.dumps({"rebuild": [asdict(intent) for intent in intents]})


def intents(notes: Sequence[str], index: str) -> list[Intent]:
    """Read the notes of earlier attempts on an index."""
    return [intent for attempt in attempts(notes) for intent in attempt if intent.name == index]


def attempts(notes: Sequence[str]) -> list[list[Intent]]:
    """What each earlier attempt was about to rebuild, in order."""
    found = []
    for note in notes:
        with suppress(ValueError, KeyError, TypeError):
            noted = json.loads(note)["rebuild"]
            listed = noted if isinstance(noted, list) else [noted]
            found.append([Intent(**{**values, "invalid": tuple(values["invalid"])}) for values in listed])
    return found


def invalid(handle: Handle, relations: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Invalid indexes of some tables, or of all."""
    return handle.rows("invalid_indexes", {"relations": None if relations is None else list(relations)})


def label_of(name: str) -> str:
    """`ccnew` or `ccold` where a name is one that the server gives to a copy; else empty."""
    match = _COPY.match(name)
    return match["label"] if match else ""


def is_copy_of(name: str, base: str) -> bool:
    """Whether a name is one that the server gives to a copy of an index; long names are clipped."""
    match = _COPY.match(name)
    if not match:
        return False
    clipped = len(name.encode()) >= _CLIPPED_FROM
    return match["stem"] == base or (clipped and base.startswith(match["stem"]))


def is_marked(row: Row) -> bool:
    """Whether the server itself keeps that it is ours."""
    return str(row.get("comment") or "").startswith(MARK)


def ours(rows: Sequence[Row], intent: Intent, seen: int = 0) -> list[Row]:
    """Which invalid indexes an attempt has left. Pure. `seen` is the OID that was seen being built, if any was.

    A REINDEX INDEX makes one copy. Where several could be it and none was seen, none is taken.
    """
    base = split(intent.name)[1]
    old = [row for row in rows if row["oid"] == intent.index and row["name"] != base]
    fresh = [row for row in rows if row["oid"] not in intent.invalid and row["oid"] != intent.index]
    made = [row for row in fresh if row["oid"] == seen] or [row for row in fresh if is_copy_of(row["name"], base)]
    return [*old, *(made if len(made) == 1 else [])]


def of_one_at_work(rows: Sequence[Row], intents: Sequence[Intent]) -> list[Row]:
    """Which invalid indexes an attempt on several has left that was lost while it was at one of them. Pure.

    It can be one copy at most. Where several could be it, none is taken: all others are strangers'.
    """
    unmarked = [row for row in rows if not is_marked(row)]
    found = {
        row["oid"]: row
        for intent in intents
        for row in ours([each for each in unmarked if each["relation"] == intent.relation], intent)
    }
    return list(found.values()) if len(found) == 1 else []


def drop(handle: Handle, row: Row, *, lock_wait: float) -> bool:
    """Drop a copy without holding anybody up; whether it is gone. It waits for those who use the table."""
    from psycopg import sql

    from dbupkeep.engines.postgresql.bytewise import Name

    name = Name(row["schema"], row["name"])
    with suppress(UpkeepError):
        handle.clear_up(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(name), lock_wait=lock_wait)
    if handle.connection.closed:
        return False
    left = [each for each in invalid(handle, [row["relation"]]) if each["oid"] == row["oid"]]
    return not left


def mark(handle: Handle, row: Row, tag: str) -> None:
    """Keep on the server that a copy is ours, for whoever comes next. Disturbs nobody: no query uses the index."""
    from psycopg import sql

    from dbupkeep.engines.postgresql.bytewise import Name

    name = Name(row["schema"], row["name"])
    text = f"{MARK}an unfinished copy that {tag or 'a run'} could not drop; its next run does"
    with suppress(UpkeepError):
        handle.clear_up(sql.SQL("COMMENT ON INDEX {} IS {}").format(name, sql.Literal(text)), lock_wait=1.0)


def clear(handle: Handle, rows: Sequence[Row], *, lock_wait: float) -> list[Row]:
    """Drop copies of ours; returns those that are still there, marked."""
    left = [row for row in rows if not drop(handle, row, lock_wait=lock_wait)]
    for row in left:
        if not handle.connection.closed:
            mark(handle, row, handle.tag)
    return left
