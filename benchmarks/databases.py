"""The databases that benchmarks work on: made from fixed numbers, so that each machine gets the same ones."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import apsw

TABLES = 6
_ROW_BYTES = 360
"""What a row takes, its entries in three indexes included."""

_SERIES = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT :rows)"
_FILL = f"""{_SERIES}
INSERT INTO t{{t}} (k, who, what) SELECT
    i * 2654435761 % 4294967291,
    printf('user-%08d@example.com', i * 40503 % 1000003),
    printf('%0*d', 40 + i * 7919 % 160, i * 2246822519 % 4294967291)
FROM n"""


def make_big(path: Path, size: int) -> None:
    """A file of about `size` bytes: six tables with three indexes each, two thirds of their rows deleted since."""
    connection = _open(path)
    rows = size // _ROW_BYTES // TABLES
    for table in range(TABLES):
        _fill(connection, table, rows)
    for table in range(TABLES):  # only now: the next table would move into the free pages
        connection.execute(f"DELETE FROM t{table} WHERE id BETWEEN :a AND :b", {"a": rows // 5, "b": rows * 4 // 5})
        connection.execute(f"DELETE FROM t{table} WHERE id % 11 = 0")
    connection.close()


def make_fleet(folder: Path, count: int, *, bloated: float) -> None:
    """So many files of 100 KB to 2 MB, 370 KB in the mean, a share of which has lost three of five rows."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(370)
    due = set(chance.sample(range(count), round(count * bloated)))
    for number in range(count):
        size = int(min(2_000_000, max(100_000, 85_000 + chance.expovariate(1 / 290_000))))
        connection = _open(folder / f"{number:05}.db")
        rows = size // _ROW_BYTES
        _fill(connection, 0, rows)
        connection.execute("PRAGMA analysis_limit = 400")
        connection.execute("ANALYZE")
        if number in due:
            connection.execute("DELETE FROM t0 WHERE id > :a", {"a": rows * 2 // 5})
        connection.close()


def plant(path: Path) -> None:
    """Leave one row out of every index, so that only a rebuilt index has all rows."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA writable_schema = on")
    found = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index'")
    schema = {str(name): str(sql) for name, sql in found}
    for name, sql in schema.items():
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (f"{sql} WHERE 0", name))
    connection.close()
    connection = apsw.Connection(str(path))
    for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
        connection.execute(f"INSERT INTO {table} (k, who, what) VALUES (1, 'planted', 'planted')")
    connection.execute("PRAGMA writable_schema = on")
    for name, sql in schema.items():
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql, name))
    connection.close()


def copy(source: Path, to: Path) -> None:
    """A fresh copy without what lies beside an old one."""
    for suffix in ("-wal", "-shm", "-journal", ""):
        Path(f"{to}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(source, to)


def free_share(path: Path) -> float:
    """The free pages of a file that nobody has open, by its header."""
    with path.open("rb") as file:
        header = file.read(100)
    pages, free = (int.from_bytes(header[at : at + 4], "big") for at in (28, 36))
    return free / pages


def check_sound(path: Path) -> None:
    """SQLite finds no fault in it."""
    with _reading(path) as connection:
        assert connection.pragma("quick_check") == "ok", f"{path} is damaged"


def check_vacuumed(path: Path, before: int) -> None:
    """The file shrank, has no free page, and is sound."""
    assert not free_share(path), f"{path} has free pages"
    check_sound(path)
    assert path.stat().st_size < 0.85 * before, (
        f"{path} did not shrink: {before:,} bytes became {path.stat().st_size:,}"
    )


def check_reindexed(path: Path) -> None:
    """Each index has as many entries as its table has rows."""
    with _reading(path) as connection:
        for index, table in connection.execute(
            "SELECT name, tbl_name FROM sqlite_schema WHERE type = 'index'"
        ).fetchall():
            rows = connection.execute(f"SELECT count(*) FROM {table} NOT INDEXED").get
            entries = connection.execute(f"SELECT count(*) FROM {table} INDEXED BY {index}").get
            assert rows == entries, f"index {index} has {entries:,} entries for {rows:,} rows"


def check_analyzed(path: Path) -> None:
    """There is a row of statistics for each index."""
    with _reading(path) as connection:
        indexes = connection.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'index'").get
        known = connection.execute("SELECT count(*) FROM sqlite_stat1").get
        assert known >= indexes, f"{known} rows of statistics for {indexes} indexes"


def _reading(path: Path) -> apsw.Connection:
    return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)


def _open(path: Path) -> apsw.Connection:
    path.unlink(missing_ok=True)
    connection = apsw.Connection(str(path))
    for text in ("PRAGMA journal_mode = off", "PRAGMA synchronous = off", "PRAGMA cache_size = -200000"):
        connection.execute(text)
    return connection


def _fill(connection: apsw.Connection, table: int, rows: int) -> None:
    connection.execute(f"CREATE TABLE t{table} (id INTEGER PRIMARY KEY, k INTEGER, who TEXT, what TEXT)")
    connection.execute(_FILL.format(t=table), {"rows": rows})
    for column in ("k", "who", "what"):
        connection.execute(f"CREATE INDEX t{table}_{column} ON t{table} ({column})")
