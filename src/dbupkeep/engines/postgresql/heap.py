"""What a survey says of tables that a rewrite would make smaller: read by pgstattuple, or estimated from statistics."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dbupkeep.engines.postgresql.extensions import PGSTATTUPLE
from dbupkeep.engines.postgresql.names import told
from dbupkeep.errors import UpkeepError
from dbupkeep.facts import ObjectFacts, Value
from dbupkeep.plans import Source

if TYPE_CHECKING:
    from psycopg import sql

    from dbupkeep.engines.postgresql.handle import Handle
    from dbupkeep.engines.postgresql.selection import Selection

KIND = "heap"

_PAGE = 8192
_ROOM = _PAGE - 24
_POINTER = 4
_HEADER = 23
_LOOKED_AT = 8 * 1024 * 1024
"""Bytes from which on a table is looked at, however low a threshold is set."""

_READ_AT_MOST = 4 << 30
"""Bytes of tables that one survey has pgstattuple look over; it reads what is not all-visible."""

_WORTH_READING = 0.15
_STALE = 0.2
_SHORT = 126


def look(handle: Handle, chosen: Selection, *, everything: bool) -> list[ObjectFacts]:
    """The tables that may be worth a rewrite, or all that were chosen, as facts."""
    asked = {"everything": everything, "pages": _LOOKED_AT / handle.identity.block_size}
    rows = [row for row in handle.rows("heaps", asked) if chosen.takes(row["schema"], row["name"])]
    if not rows:
        return []
    columns: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for column in handle.rows("table_columns", {"oids": [row["oid"] for row in rows]}):
        columns[column["oid"]].append(column)
    function, left, found = PGSTATTUPLE.callable(handle), _READ_AT_MOST, []
    for row in sorted(rows, key=lambda row: -row["bytes"]):
        gain, how = estimate(row, columns[row["oid"]])
        source = Source.UNKNOWN if gain is None else Source.ESTIMATED
        if function is not None and row["main_bytes"] <= left and (gain is None or gain >= _WORTH_READING):
            left -= row["main_bytes"]
            read = _read(handle, function, row)
            gain, how, source = (read, "by its pages", Source.MEASURED) if read is not None else (gain, how, source)
        found.append(_facts(row, gain, how, source))
    return found


def estimate(row: Mapping[str, Any], columns: Sequence[Mapping[str, Any]]) -> tuple[float | None, str]:
    """The share of a table's main file that a rewrite gives back, with where that is from. Pure."""
    rows = _rows(row)
    if rows < 0:
        return None, "it was never analyzed"
    if row["modified"] > _STALE * max(rows, 1.0):
        return None, "its statistics are old: ANALYZE it, and the next plan knows"
    if rows and any(column["length"] < 0 and column["width"] is None for column in columns):
        return None, "a column has no statistics, or this role may not see them"
    room = _ROOM * fill(row["options"])
    per_page = max(1.0, math.floor(room / (_width(columns) + _POINTER)))
    after = _PAGE * max(1.0, math.ceil(rows / per_page))
    return (max(0.0, 1 - after / row["main_bytes"]) if row["main_bytes"] else 0.0), "by statistics"


def fill(options: Sequence[str] | None) -> float:
    """The share of a page that a rewrite fills."""
    found = [option.partition("=")[2] for option in options or () if option.startswith("fillfactor=")]
    return float(found[0]) / 100 if found else 1.0


def _rows(row: Mapping[str, Any]) -> float:
    changed = (row["modified"] or 0) + (row["inserted"] or 0) + (row["dead"] or 0)
    return float(row["live"] if changed and row["live"] else row["rows"])


def _width(columns: Sequence[Mapping[str, Any]]) -> float:
    """Bytes of a row, on average."""
    size, nullable = 0.0, any(column["nulls"] for column in columns)
    for column in columns:
        step = {"c": 1, "s": 2, "i": 4, "d": 8}.get(str(column["align"]), 8)
        there = 1 - float(column["nulls"] or 0)
        if column["length"] > 0:
            size = math.ceil(size / step) * step + column["length"] * there
        else:
            width = float(column["width"] or 0)
            size = (math.ceil(size / step) * step if width > _SHORT else size) + width * there
    header = math.ceil((_HEADER + (math.ceil(len(columns) / 8) if nullable else 0)) / 8) * 8
    return header + math.ceil(size / 8) * 8


def _read(handle: Handle, function: sql.Identifier, row: Mapping[str, Any]) -> float | None:
    """The share that is free or dead, by pgstattuple_approx; None when it cannot be read now."""
    from psycopg import sql

    text = sql.SQL("SELECT * FROM {}(%(oid)s::oid::regclass)").format(function).as_string(handle.connection)
    try:
        found = handle.row(text, {"oid": row["oid"]})
    except UpkeepError:
        return None
    if not found["table_len"]:
        return 0.0
    used = found["approx_tuple_len"] / found["table_len"] / fill(row["options"])
    return float(max(0.0, min(1.0, 1 - used) - (_PAGE - _ROOM) / _PAGE))


def _facts(row: Mapping[str, Any], gain: float | None, how: str, source: Source) -> ObjectFacts:
    values: dict[str, Value] = {
        name: row[name]
        for name in (
            "oid", "toast_oid", "persistence", "tablespace", "age", "multixact_age", "main_bytes", "index_bytes", "identity", "keyed", "backslash",
            "permitted",
        )
    }  # fmt: skip
    values |= {"gain": gain, "how": how, "source": source.value, "relation_kind": row["kind"]}
    return ObjectFacts(name=told(row["schema"], row["name"]), kind=KIND, bytes=row["bytes"], values=values)
