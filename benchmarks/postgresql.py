"""PostgreSQL 18: a few of many tables due, none due, and all due, against vacuumdb and reindexdb doing their whole round.

Those have no plan: they work on every table, whether that needs anything or not. The server is a durable one
(fsync on) of its own; the same rows are changed again before each run.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence

from benchmarks.harness import Comparison, Variant, compare
from benchmarks.place import Place, product
from tests.plugins.postgresql import NEWEST, Database, Server, start

ROWS = 200
"""Rows of a small table; half of them are dead when it is due."""


def run(place: Place) -> Iterator[Comparison]:
    """Yield the comparisons."""
    server = start(NEWEST, fsync="on", shared_buffers="256MB", log_statement="none", max_locks_per_transaction=1000)
    rounds = place.rounds or 5
    try:
        many = _tables(server.create("many"), 3000 if place.full else 600)
        for operations, flags in ((["vacuum"], ()), (["vacuum", "analyze"], ("--analyze",))):
            title = f"{' and '.join(operations).upper()}, one in twenty of many small tables due"
            yield compare(title, _due(place, many, operations, flags), rounds=rounds, note=_about(many))
        idle = _tables(server.create("idle"), 10_000 if place.full else 1000)
        yield compare("Nothing due, many tables", _idle(place, idle), rounds=rounds, note=_about(idle))
        mixed = _mixed(server, 50 if place.full else 2, 300)
        yield compare(
            "VACUUM, everything due", _everything(place, mixed, "vacuum", ()), rounds=rounds, note=_about(mixed)
        )
        title = "ANALYZE, everything due"
        variants = _everything(place, mixed, "analyze", ("--analyze-only",))
        yield compare(title, variants, rounds=rounds, note=_about(mixed))
        title = "REINDEX CONCURRENTLY of all indexes"
        yield compare(title, _rebuilds(place, mixed), rounds=rounds, note=_about(mixed))
    finally:
        server.remove()


def _due(
    place: Place, database: Database, operations: Sequence[str], flags: Sequence[str]
) -> Sequence[Variant]:  # fmt: skip
    tables = _small(database)[::20]
    return _variants(place, database, operations, flags, lambda: _dirty(database, tables), _is_clean(database))


def _idle(place: Place, database: Database) -> Sequence[Variant]:
    return _variants(place, database, ["vacuum", "analyze"], ("--analyze-only",), lambda: None, _is_clean(database))


def _everything(place: Place, database: Database, operation: str, flags: Sequence[str]) -> Sequence[Variant]:
    def prepare() -> None:
        _dirty(database, _small(database))
        database.execute("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 3 = 0")

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
    """The file of each index of the user's; one that is not valid has none."""
    return dict(
        database.query(
            "SELECT relname, CASE WHEN indisvalid THEN relfilenode END FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
            " WHERE relnamespace = 'public'::regnamespace"
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


def _tables(database: Database, count: int) -> Database:
    database.execute(
        f"""DO $$ BEGIN FOR i IN 1..{count} LOOP
            EXECUTE format('CREATE TABLE s%s (id int PRIMARY KEY, a int)', i);
            EXECUTE format('INSERT INTO s%s SELECT n, 0 FROM generate_series(1, {ROWS}) n', i);
        END LOOP; END $$""",
        "VACUUM ANALYZE",
        "VACUUM ANALYZE",  # of what the first one wrote into the catalogs
    )
    return database


def _mixed(server: Server, scale: int, count: int) -> Database:
    database = server.create("mixed")
    command = [str(server.bin / "pgbench"), "-q", "-i", "-s", str(scale)]
    place_of = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", database.name]
    subprocess.run([*command, *place_of], check=True, capture_output=True)
    return _tables(database, count)


def _small(database: Database) -> list[str]:
    return [row[0] for row in database.query("SELECT relname FROM pg_class WHERE relname ~ '^s[0-9]+$' ORDER BY oid")]


def _dirty(database: Database, tables: Sequence[str]) -> None:
    with database.connect() as connection:
        for name in tables:
            connection.execute(f"UPDATE {name} SET a = a + 1 WHERE id % 2 = 0")
        connection.execute("SELECT pg_stat_force_next_flush()")


def _is_clean(database: Database, operation: str = "vacuum") -> Callable[[], None]:
    column = {"vacuum": "n_dead_tup", "analyze": "n_mod_since_analyze"}[operation]

    def check() -> None:
        left = database.query(f"SELECT relname, {column} FROM pg_stat_user_tables WHERE {column} > 60")
        assert not left, f"{len(left)} tables were not done: {left[:3]}"

    return check


def _about(database: Database) -> str:
    tables, size = database.query(
        "SELECT (SELECT count(*) FROM pg_stat_user_tables), pg_size_pretty(pg_database_size(current_database()))"
    )[0]
    return f"{tables:,} tables, {size}, PostgreSQL {database.server.version}."
