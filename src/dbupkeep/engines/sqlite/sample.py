"""A database that has seen better days: for the demo, for trying things out, and for benchmarks."""

from __future__ import annotations

from pathlib import Path

import apsw

from dbupkeep.engines.sqlite import words
from dbupkeep.errors import Refused

BYTES_A_ROW = 475
"""About what one event takes in the file, with its share of the indexes and of the other tables."""

_SCHEMA = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers, total REAL, placed_at TEXT);
CREATE TABLE events (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL, kind TEXT NOT NULL, at TEXT NOT NULL, body TEXT);
"""

_INDEXES = """
CREATE INDEX customers_city ON customers (city);
CREATE INDEX orders_customer ON orders (customer_id);
CREATE INDEX orders_placed ON orders (placed_at);
CREATE INDEX events_customer ON events (customer_id, kind);
CREATE INDEX events_at ON events (at);
"""

_ROWS = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < :rows) "

_FILL = (
    (0.05, "INSERT INTO customers SELECT i, 'Customer ' || i, 'City ' || i * 7919 % 500 FROM n"),
    (0.25, "INSERT INTO orders SELECT i, i * 31 % :customers + 1, i % 997 / 7.0, datetime(1.6e9 + i * 60, 'unixepoch') FROM n"),
    (
        1.00,
        ("INSERT INTO events SELECT i, i * 7919 % :customers + 1, substr('viewclickbuy..', i % 3 * 4 + 1, 4),"
        " datetime(1.6e9 + i * 7919 % 90000000, 'unixepoch'), hex(zeroblob(80)) || i || hex(zeroblob(60)) FROM n"),
    ),
)  # fmt: skip

_FORGET = (
    "DELETE FROM events WHERE at < (SELECT at FROM events ORDER BY at LIMIT 1 OFFSET (SELECT count(*) * 62 / 100 FROM events))",
    "DELETE FROM orders WHERE id % 3 = 0",
)


def make(path: Path, size: int) -> None:
    """Make a database that was about `size` bytes of use and is now more than half empty, without statistics.

    Raises `Refused` when something is at that path.
    """
    if path.exists():
        raise Refused(f"{path} exists", hint="a sample is only made where nothing is")
    rows = max(200, size // BYTES_A_ROW)
    connection = apsw.Connection(str(path))
    try:
        connection.execute("PRAGMA journal_mode = off; PRAGMA synchronous = off").fetchall()
        connection.execute(_SCHEMA).fetchall()
        with connection:
            for part, text in _FILL:
                values = {"rows": max(10, int(rows * part)), "customers": max(10, int(rows * _FILL[0][0]))}
                connection.execute(_ROWS + text, values).fetchall()
        connection.execute(_INDEXES).fetchall()
        with connection:
            for text in _FORGET:
                connection.execute(text).fetchall()
        connection.execute("PRAGMA journal_mode = delete").fetchall()
    finally:
        connection.close()


def described(path: Path) -> str:
    """What was made, in words."""
    return f"{path.name}, {words.size(path.stat().st_size)}: three tables, five indexes, most old rows deleted, no statistics"
