"""What SQLite's planner knows of the tables, and what SQLite itself would refresh."""

from __future__ import annotations

from collections.abc import Iterable

from dbupkeep.engines.sqlite.handle import Handle
from dbupkeep.engines.sqlite.schema import quoted

DRY_RUN = "PRAGMA optimize(0x10003)"
"""Lists what `PRAGMA optimize` would analyse, on all tables, and does nothing."""


def statements(handle: Handle) -> list[str]:
    """What `PRAGMA optimize` would do now: an index without a row in sqlite_stat1, or a size that moved tenfold."""
    return [str(row[0]) for row in handle.rows(DRY_RUN, stage="asking what to optimise")]


def stale(handle: Handle, tables: Iterable[str] | None = None) -> list[str]:
    """The tables that need statistics by that rule."""
    names = tables if tables is not None else [row[0] for row in handle.rows(_TABLES)]
    texts = {f'ANALYZE "main".{quoted(name)}': name for name in names}
    return sorted(texts[text] for text in statements(handle) if text in texts)


def analyzed(handle: Handle) -> set[str]:
    """The tables that have rows in sqlite_stat1."""
    if not has(handle, "sqlite_stat1"):
        return set()
    return {str(row[0]) for row in handle.rows("SELECT DISTINCT tbl FROM sqlite_stat1")}


def samples(handle: Handle) -> int:
    """How many samples sqlite_stat4 has; only a full ANALYZE of a build with STAT4 makes them."""
    return int(handle.rows("SELECT count(*) FROM sqlite_stat4")[0][0]) if has(handle, "sqlite_stat4") else 0


def has(handle: Handle, table: str) -> bool:
    """Whether a table of that name is there."""
    return bool(handle.connection.table_exists("main", table))


_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table'"
