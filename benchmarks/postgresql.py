"""PostgreSQL 18: a few of many tables due, none due, and all due, against vacuumdb and reindexdb doing their whole round.

Those have no plan: they work on every table, whether that needs anything or not. The server is a durable one
(fsync on) of its own; the same rows are changed again before each run. The small tables are as applications have
them (six columns, two indexes, texts), and in use: each has a few changed rows, far from due. Once they are untouched,
which is where a plan gains least.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence

from benchmarks.harness import Comparison, Variant, compare
from benchmarks.place import Place, product
from tests.plugins.postgresql import NEWEST, Database, Server, start

ROWS = 1000
"""Rows of a small table: autovacuum waits for 250 dead ones, we for 125."""

USED, DUE = 0.05, 0.5
"""Shares of the rows of a small table that have changed: since its last maintenance, and where it is due."""

_TABLE = """CREATE TABLE s%1$s (
    id bigint PRIMARY KEY, customer int, state %2$s, amount numeric(10, 2), note %2$s, changed timestamptz
)"""
_ROWS = """INSERT INTO s%s SELECT n, n %% 40, 'open', n * 1.25, repeat('words ', n %% 9), now() - n * interval '1 hour'
FROM generate_series(1, %s) n"""


_RESTED = (
    "VACUUM ANALYZE",
    # Of what the first one wrote into these.
    "VACUUM ANALYZE pg_catalog.pg_class, pg_catalog.pg_statistic, pg_catalog.pg_attribute, pg_catalog.pg_index",
)


def run(place: Place) -> Iterator[Comparison]:
    """Yield the comparisons."""
    server = start(NEWEST, fsync="on", shared_buffers="256MB", log_statement="none", max_locks_per_transaction=1000)
    rounds = place.rounds or 5
    try:
        many = make(server.create("many"), 3000 if place.full else 600)
        for title, variants in _few_due(place, many):
            yield compare(title, variants, rounds=rounds, note=about(many))
        resting = make(server.create("idle"), 10_000 if place.full else 1000)
        yield compare("Nothing due, many small tables in use", idle(place, resting), rounds=rounds, note=about(resting))
        resting.drop()
        for count, text in ((3000 if place.full else 300, "text"), (300 if place.full else 60, "varchar(60)")):
            mixed = _mixed(server, 50 if place.full else 2, count, text)
            for title, variants in _all_due(place, mixed, f"pgbench and {count:,} small tables"):
                yield compare(title, variants, rounds=rounds, note=about(mixed))
            mixed.drop()
    finally:
        server.remove()


def _few_due(place: Place, database: Database) -> Iterator[tuple[str, Sequence[Variant]]]:
    """One of twenty tables is due; the others are in use, or nobody has touched them since they were last maintained."""
    yield "VACUUM, one in twenty of many small tables due, all in use", due(place, database, ["vacuum"], ())
    title = "VACUUM, one in twenty of many small tables due, the others untouched"
    yield title, due(place, database, ["vacuum"], (), used=False)
    title = "VACUUM and ANALYZE, one in twenty of many small tables due, all in use"
    yield title, due(place, database, ["vacuum", "analyze"], ("--analyze",))


def _all_due(place: Place, database: Database, of: str) -> Iterator[tuple[str, Sequence[Variant]]]:
    yield f"VACUUM, everything due: {of}", _everything(place, database, "vacuum", ())
    yield f"ANALYZE, everything due: {of}", _everything(place, database, "analyze", ("--analyze-only",))
    yield f"REINDEX CONCURRENTLY of all indexes: {of}", _rebuilds(place, database)


def due(
    place: Place, database: Database, operations: Sequence[str], flags: Sequence[str], *, used: bool = True
) -> Sequence[Variant]:
    """One of twenty tables has lost half of its rows."""
    tables = small(database)

    def prepare() -> None:
        database.execute(*_RESTED)
        _change(database, tables if used else [], USED)
        _change(database, tables[::20], DUE)

    return _variants(place, database, operations, flags, prepare, _is_clean(database))


def idle(place: Place, database: Database) -> Sequence[Variant]:
    """Nothing is due."""

    def prepare() -> None:
        database.execute(*_RESTED)
        _change(database, small(database), USED)

    flags = ("--analyze-only",)
    return _variants(place, database, ["vacuum", "analyze"], flags, prepare, _is_clean(database))


def _everything(place: Place, database: Database, operation: str, flags: Sequence[str]) -> Sequence[Variant]:
    def prepare() -> None:
        database.execute("VACUUM")  # what ANALYZE leaves does not pile up
        _change(database, small(database), DUE)
        database.execute("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 5 = 0")

    return _variants(place, database, [operation], flags, prepare, _is_clean(database, operation))


def _rebuilds(place: Place, database: Database) -> Sequence[Variant]:
    files: dict[str, int] = {}

    def prepare() -> None:
        files.update(_files_of_indexes(database))

    def check() -> None:
        now = _files_of_indexes(database)
        same = [name for name, file in files.items() if now.get(name) == file]
        assert now.keys() == files.keys(), "there are other indexes than before"
        assert not same, f"{len(same)} indexes were not rebuilt: {same[:3]}"

    return _variants(place, database, ["reindex"], ("--concurrently",), prepare, check, more=("--force",))


def _files_of_indexes(database: Database) -> dict[str, int]:
    """The file of each index of the user's tables, and of their TOAST where it holds something; one that is not valid has none."""
    return dict(
        database.query(
            "SELECT relname, CASE WHEN indisvalid THEN relfilenode END FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
            " WHERE indrelid >= 16384 AND NOT (relnamespace = 'pg_toast'::regnamespace AND pg_relation_size(c.oid) <= 8192)"
        )
    )


def _variants(
    place: Place, database: Database, operations: Sequence[str], flags: Sequence[str], prepare: Callable[[], None],
    check: Callable[[], None], *, more: Sequence[str] = (),
) -> Sequence[Variant]:  # fmt: skip
    """The product's own program with some flags, and our command with `more` of its own; both two at a time."""
    server, program = database.server, "reindexdb" if operations == ["reindex"] else "vacuumdb"
    place_of = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-d", database.name]

    def again() -> None:
        place.forget()
        prepare()
        database.execute("CHECKPOINT")

    asked = ("--operations", ",".join(operations), *more, "-j2")
    return [
        Variant(
            name=" ".join([program, *flags, "-j2"]),
            command=[str(server.bin / program), *place_of, *flags, "-j2"],
            prepare=again,
            check=check,
        ),
        Variant(
            name=" ".join(["dbupkeep run", *asked]), command=product("run", database.url, *asked), prepare=again,
            check=check, environment=place.environment,
        ),
    ]  # fmt: skip


def make(database: Database, count: int, rows: str = str(ROWS), *, text: str = "text") -> Database:
    """Small tables `s1`, `s2`, ... of so many rows, an expression of their number `i`; `text` is the type of texts."""
    database.execute(
        f"""DO $$ BEGIN FOR i IN 1..{count} LOOP
            EXECUTE format($table${_TABLE}$table$, i, '{text}');
            EXECUTE format('CREATE INDEX ON s%s (customer)', i);
            EXECUTE format($rows${_ROWS}$rows$, i, ({rows})::int);
        END LOOP; END $$""",
        *_RESTED,
    )
    return database


def _mixed(server: Server, scale: int, count: int, text: str) -> Database:
    """pgbench's tables, with two more indexes, and small ones; of `varchar(60)` these have no TOAST tables."""
    database = server.create("mixed")
    command = [str(server.bin / "pgbench"), "-q", "-i", "-s", str(scale)]
    place_of = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", database.name]
    subprocess.run([*command, *place_of], check=True, capture_output=True)
    database.execute("CREATE INDEX ON pgbench_accounts (abalance)", "CREATE INDEX ON pgbench_accounts (bid)")
    # Of TOAST tables reindexdb rebuilds the empty indexes too, and we do not.
    return make(database, count, text=text)


def small(database: Database) -> list[str]:
    """The names of the small tables."""
    return [row[0] for row in database.query("SELECT relname FROM pg_class WHERE relname ~ '^s[0-9]+$' ORDER BY oid")]


def _change(database: Database, tables: Sequence[str], share: float) -> None:
    with database.connect() as connection:
        connection.execute("SET synchronous_commit = off")
        rows = dict(connection.execute("SELECT relname, reltuples FROM pg_class WHERE relkind = 'r'").fetchall())
        for name in tables:
            text = f"UPDATE {name} SET amount = amount + 1, changed = now() WHERE id <= {share * rows[name]}"
            connection.execute(text)
        connection.execute("SELECT pg_stat_force_next_flush()")


def _is_clean(database: Database, operation: str = "vacuum") -> Callable[[], None]:
    """Nothing is left of what was due."""
    column = {"vacuum": "n_dead_tup", "analyze": "n_mod_since_analyze"}[operation]
    text = (
        f"SELECT relname, {column}, n_live_tup FROM pg_stat_user_tables WHERE {column} > 50 + {2 * USED} * n_live_tup"
    )

    def check() -> None:
        left = database.query(text)
        assert not left, f"{len(left)} tables were not done: {left[:3]}"

    return check


def about(database: Database) -> str:
    """How many tables, how big."""
    tables, size = database.query(
        "SELECT (SELECT count(*) FROM pg_stat_user_tables), pg_size_pretty(pg_database_size(current_database()))"
    )[0]
    return f"{tables:,} tables, {size}, PostgreSQL {database.server.version}."
