"""What SQLite's planner knows of the tables, and which of it is missing or outgrown.

The rule is that of `PRAGMA optimize`: an index without a row in sqlite_stat1, or a table whose size moved tenfold since.
It is applied here by reading, because the pragma's own dry run begins a write transaction, which a survey must not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import apsw
from msgspec import Struct

DRY_RUN = "PRAGMA optimize(0x10003)"
"""Lists what `PRAGMA optimize` would analyse, and does nothing; begins a write transaction where it looks at two tables."""

_TENFOLD = 10
_PROBES = 8
_STRIDE = 50
"""A table's rows are estimated from how far apart so many neighbours are, at a few places."""

_COUNTABLE = 2_000
"""Up to so many rows a table is counted instead."""

_WORTH_COUNTING = 2_000_000
"""Up to so many rows a table that seems to have grown is counted before it is believed."""

_EVEN = 100
"""Where neighbours are so many times farther apart in one place than in another, rowids say nothing of how many."""

_PARTIAL = re.compile(r"\bWHERE\b", re.IGNORECASE)

_WITHOUT_ROWID = re.compile(r"\)[^)]*\bWITHOUT\s+ROWID\b[^)]*$", re.IGNORECASE)

_TABLES = r"""
SELECT name, sql FROM sqlite_schema
WHERE type = 'table' AND rootpage > 0 AND name NOT LIKE 'sqlite\_%' ESCAPE '\'
"""
_INDEXES = "SELECT tbl_name, name, coalesce(sql, '') FROM sqlite_schema WHERE type = 'index'"
_STATISTICS = "SELECT tbl, idx, stat FROM sqlite_stat1"


class Staleness(Struct, frozen=True, kw_only=True):
    """Tables that need ANALYZE, by why."""

    missing: tuple[str, ...]
    outgrown: tuple[str, ...]

    @property
    def tables(self) -> list[str]:
        """All of them."""
        return sorted(self.missing + self.outgrown)


def staleness(connection: apsw.Connection) -> Staleness:
    """Go through the tables that have an index. Only reads; raises what apsw raises."""
    tables = {str(name): str(sql) for name, sql in connection.execute(_TABLES)}
    # A table without rowids is an index itself, and is analysed under its own name.
    indexes: dict[str, list[str]] = {name: [] for name, sql in tables.items() if _WITHOUT_ROWID.search(sql)}
    for table, index, sql in connection.execute(_INDEXES):
        if table in tables:
            # An empty partial index never gets a row, so that one of those is missing says nothing.
            indexes.setdefault(str(table), []).extend([] if _PARTIAL.search(str(sql)) else [str(index)])
    known = _known(connection)
    missing = [table for table, names in indexes.items() if not _has_all(known.get(table, {}), names)]
    outgrown = [
        table
        for table in indexes
        if table not in missing and (was := max(known[table].values())) and _moved(connection, table, was)
    ]
    filled = [table for table in missing if _counted(connection, table, 1)]
    return Staleness(missing=tuple(filled), outgrown=tuple(outgrown))


def analyzed(connection: apsw.Connection) -> set[str]:
    """The tables that have rows in sqlite_stat1."""
    return set(_known(connection))


def samples(connection: apsw.Connection) -> int:
    """How many samples sqlite_stat4 has; only a full ANALYZE of a build with STAT4 makes them."""
    if not connection.table_exists("main", "sqlite_stat4"):
        return 0
    return next((int(str(row[0])) for row in connection.execute("SELECT count(*) FROM sqlite_stat4")), 0)


def row_counts(connection: apsw.Connection, tables: Iterable[str]) -> Mapping[str, int]:
    """About how many rows the tables have, without counting them: what progress is a share of."""
    return {table: _estimate(connection, table) or 0 for table in tables}


def quoted(name: str) -> str:
    """An identifier as SQL. Raises `ValueError` for a NUL, which ends a statement."""
    if "\0" in name:
        raise ValueError(name)
    return '"' + name.replace('"', '""') + '"'


def _known(connection: apsw.Connection) -> dict[str, dict[str, int]]:
    """Rows by table and index, as of the last ANALYZE."""
    known: dict[str, dict[str, int]] = {}
    if connection.table_exists("main", "sqlite_stat1"):
        for table, index, stat in connection.execute(_STATISTICS):
            rows = str(stat or "").partition(" ")[0]
            known.setdefault(str(table), {})[str(index or "")] = int(rows) if rows.isdigit() else 0
    return known


def _has_all(known: Mapping[str, int], names: list[str]) -> bool:
    return bool(known) and all(name in known for name in names)


def _moved(connection: apsw.Connection, table: str, was: int) -> bool:
    """Whether the rows are ten times more or fewer than they were; the cheap looks that rule it out come first."""
    few = was // _TENFOLD
    if few <= _COUNTABLE:
        ends = _range(connection, table)
        if few and _counted(connection, table, few + 1) <= few:
            return True
        most = ends[2] if ends else _counted(connection, table, was * _TENFOLD)
        if most < was * _TENFOLD or not ends:
            return most >= was * _TENFOLD
    now, many = _estimate(connection, table), was * _TENFOLD
    if now is not None and now < many:
        return now <= few
    if many <= _WORTH_COUNTING:
        return _counted(connection, table, many) == many
    return now is not None


def _counted(connection: apsw.Connection, table: str, limit: int) -> int:
    sql = f"SELECT count(*) FROM (SELECT 1 FROM main.{quoted(table)} LIMIT {int(limit)})"  # noqa: S608 - quoted
    return next((int(str(row[0])) for row in connection.execute(sql)), 0)


def _estimate(connection: apsw.Connection, table: str) -> int | None:
    """Rows by the range of rowids and how densely it is filled; None where a big table has none, or uneven ones."""
    few = _counted(connection, table, _COUNTABLE)
    if few < _COUNTABLE:
        return few
    ends = _range(connection, table)
    if ends is None:
        return None
    first, last, numbers = ends
    shares = list(_densities(connection, table, first, last))
    if not shares or max(shares) > _EVEN * min(shares):
        return None
    return max(few, int(numbers * sum(shares) / len(shares)))


def _range(connection: apsw.Connection, table: str) -> tuple[int, int, int] | None:
    """The first and last rowid, and how many numbers that is; None where the table has no rowids."""
    name = quoted(table)
    try:
        found = connection.execute(
            f"SELECT (SELECT min(_rowid_) FROM main.{name}), (SELECT max(_rowid_) FROM main.{name})"  # noqa: S608 - quoted
        ).fetchall()
    except apsw.SQLError:
        return None
    first, last = found[0]
    return (first, last, last - first + 1) if isinstance(first, int) and isinstance(last, int) else None


def _densities(connection: apsw.Connection, table: str, first: int, last: int) -> Iterator[float]:
    """At places spread evenly over the range: which share of the numbers is taken."""
    sql = f"SELECT _rowid_ FROM main.{quoted(table)} WHERE _rowid_ >= ? ORDER BY _rowid_ LIMIT 1 OFFSET {_STRIDE}"  # noqa: S608 - quoted
    for place in range(_PROBES):
        start = first + (last - first) * place // _PROBES
        found = connection.execute(sql, (start,)).fetchall()
        end = found[0][0] if found else last
        if isinstance(end, int):
            yield _STRIDE / max(_STRIDE, end - start) if found else _STRIDE / max(_STRIDE, last - start)
