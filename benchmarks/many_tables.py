"""PostgreSQL 18: many tables of all sizes, in use, of which a few are due, or none, against vacuumdb doing its whole round.

The sizes are spread evenly over two orders of magnitude, as those of applications are: from 100 rows to 10,000. The tables
and what has changed in them are those of the benchmark `postgresql`, where all have the same size.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.harness import Comparison, compare
from benchmarks.place import Place
from benchmarks.postgresql import about, due, idle, make
from tests.plugins.postgresql import NEWEST, start

ROWS = "100 * 100 ^ (i * 0.6180339887 % 1)"
"""Of the table of number `i`: its steps are spread evenly, whatever the number of tables."""


def run(place: Place) -> Iterator[Comparison]:
    """Yield the comparisons."""
    server = start(NEWEST, fsync="on", shared_buffers="256MB", log_statement="none", max_locks_per_transaction=1000)
    rounds = place.rounds or 5
    try:
        many = make(server.create("many"), 3000 if place.full else 300, ROWS)
        for operations, flags in ((["vacuum"], ()), (["vacuum", "analyze"], ("--analyze",))):
            title = f"{' and '.join(operations).upper()}, one in twenty of many tables due"
            yield compare(title, due(place, many, operations, flags), rounds=rounds, note=about(many))
        many.drop()
        whole = make(server.create("whole"), 10_000 if place.full else 500, ROWS)
        yield compare("Nothing due, many tables", idle(place, whole), rounds=rounds, note=about(whole))
    finally:
        server.remove()
