from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
from psycopg import sql
from typing_extensions import override

from dbupkeep import engines
from dbupkeep.definitions import Target
from dbupkeep.engine import Engine
from dbupkeep.engines.postgresql import target_of
from dbupkeep.testing.engine_suite import EngineSuite, Laboratory
from tests.plugins.postgresql import Database, Server

pytestmark = pytest.mark.engine("postgresql")

FINGERPRINT = """
SELECT md5(string_agg(concat_ws('|', oid, xmin, relfilenode, relpages, reltuples, pg_relation_size(oid),
           pg_stat_get_vacuum_count(oid), pg_stat_get_analyze_count(oid)), ',' ORDER BY oid)) FROM pg_class
"""


EXTENSIONS = ("amcheck", "pg_repack", "pgstattuple")


def _target(url: str) -> Target:
    """Without the catalogs: those that all databases share are due by what other tests do."""
    return target_of(url, exclude=("pg_catalog.*",))


class PostgresqlLaboratory:
    """Databases of one server. They are made and looked at by the test's own connections."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._made: dict[str, Database] = {}

    @property
    def engine(self) -> Engine:
        return engines.load("postgresql")

    def bloated(self) -> Target:
        database = self._new()
        database.execute(
            "CREATE TABLE t (id int PRIMARY KEY, a text)",
            "CREATE INDEX t_a ON t (a)",
            "INSERT INTO t SELECT n, lpad(n::text, 100, 'x') FROM generate_series(1, 30000) n",
            "VACUUM ANALYZE t",
            "DELETE FROM t WHERE id <= 20000",
        )
        return _target(database.url)

    def missing(self) -> Target:
        return _target(self._server.url("nowhere"))

    def exists(self, target: Target) -> bool:
        with self._server.connect() as connection:
            return bool(connection.execute("SELECT FROM pg_database WHERE datname = 'nowhere'").fetchall())

    def hostile(self, name: str) -> Target | None:
        # 63 bytes is what the server keeps of a name; longer ones are for a test of their own.
        if name == "victim" or len(name.encode()) > 60:
            return None
        database = self._new()
        table, index = sql.Identifier(name), sql.Identifier(f"i{name}")
        with database.connect() as connection:
            for statement in (
                sql.SQL("CREATE TABLE victim AS SELECT generate_series(1, 10) AS a"),
                sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, {} text)").format(table, table),
                sql.SQL("CREATE INDEX {} ON {} ({})").format(index, table, table),
                sql.SQL("INSERT INTO {} SELECT n, 'x' FROM generate_series(1, 500) n").format(table),
                sql.SQL("DELETE FROM {} WHERE id > 100").format(table),
            ):
                connection.execute(statement)
        return _target(database.url)

    def victims(self, target: Target) -> int:
        return int(self._of(target).value("SELECT count(*) FROM victim"))

    def fingerprint(self, target: Target) -> str:
        return str(self._of(target).value(FINGERPRINT))

    def replaced(self, target: Target) -> None:
        old = self._of(target)
        old.drop()
        other = self._of(self.bloated())
        with self._server.connect() as connection:
            connection.execute(f"ALTER DATABASE {other.name} RENAME TO {old.name}")

    def close(self) -> None:
        for database in self._made.values():
            database.drop()

    def _new(self) -> Database:
        """With the extensions that this server has: the engine never creates one itself."""
        database = self._server.create()
        there = {name for (name,) in database.query("SELECT name FROM pg_available_extensions")}
        database.execute(*[f"CREATE EXTENSION {name}" for name in EXTENSIONS if name in there])
        self._made[database.url] = database
        return database

    def _of(self, target: Target) -> Database:
        return self._made[target.url]


class TestPostgresql(EngineSuite):
    gaps: ClassVar[frozenset[str]] = frozenset({"shrink"})

    @pytest.fixture
    @override
    def lab(self, server: Server) -> Iterator[Laboratory]:
        laboratory = PostgresqlLaboratory(server)
        yield laboratory
        laboratory.close()
