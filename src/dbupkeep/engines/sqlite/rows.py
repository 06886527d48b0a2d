"""About how many rows the tables have, without counting them: what progress is a share of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbupkeep.engines.sqlite.handle import Handle
from dbupkeep.engines.sqlite.schema import Entry, quoted
from dbupkeep.engines.sqlite.statistics import has
from dbupkeep.errors import OperationError, Refused

_SMALLEST = 8
"""Bytes of the smallest row; bounds what a table with wild rowids can claim."""


def row_counts(handle: Handle, schema: Sequence[Entry]) -> Mapping[str, int]:
    """Rows by table: from sqlite_stat1, else the highest rowid; 0 where neither is there."""
    known = _from_statistics(handle)
    most = int(handle.pragma("page_count")) * int(handle.pragma("page_size")) // _SMALLEST
    tables = [
        entry for entry in schema if entry.kind == "table" and not entry.sql[:20].upper().startswith("CREATE VIRTUAL")
    ]
    return {entry.name: min(most, known.get(entry.name) or _highest(handle, entry.name)) for entry in tables}


def _from_statistics(handle: Handle) -> dict[str, int]:
    if not has(handle, "sqlite_stat1"):
        return {}
    found = handle.rows("SELECT tbl, max(cast(stat AS INTEGER)) FROM sqlite_stat1 GROUP BY tbl")
    return {str(table): int(rows or 0) for table, rows in found}


def _highest(handle: Handle, table: str) -> int:
    try:
        value = handle.rows(f"SELECT max(_rowid_) FROM main.{quoted(table)}")[0][0]  # noqa: S608 - quoted
    except (OperationError, Refused):
        return 0  # without rowids, or its damage is what the work is about to find
    return value if isinstance(value, int) and value > 0 else 0
