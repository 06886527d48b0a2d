"""Databases without letters (SQL_ASCII): what is no UTF-8 is read, told and worked on by its very bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dbupkeep.definitions import Policy
from dbupkeep.engine import Purpose, Scope
from dbupkeep.engines.postgresql.bytewise import decoded, encoded
from dbupkeep.engines.postgresql.urls import target_of
from dbupkeep.jobs import Effective
from dbupkeep.logs import printable
from dbupkeep.operations import Operation
from dbupkeep.testing.engine_suite import item_of
from tests.plugins.postgresql import Database, Server
from tests.plugins.postgresql_bench import Workbench

pytestmark = pytest.mark.engine("postgresql")

FORCE = Policy(force=True, consents=frozenset({"exclusive_lock"}))

MADE = b"""
CREATE TABLE plain (a int PRIMARY KEY);
CREATE TABLE "caf\xe9" ("na\xefve" text DEFAULT '\xff' CHECK ("na\xefve" <> '\xfe'), a int PRIMARY KEY) WITH (fillfactor = 70);
CREATE TABLE "caf\xc3\xa9" (a int PRIMARY KEY);
CREATE TABLE "\xef\x9f\xa9" (a int PRIMARY KEY);
CREATE SCHEMA "sch\xe9ma";
CREATE TABLE "sch\xe9ma"."t\xe9" (a int PRIMARY KEY);
COMMENT ON TABLE plain IS 'na\xefve';
COMMENT ON INDEX "caf\xe9_pkey" IS 'na\xefve';
CREATE STATISTICS "s\xe9" ON a, "na\xefve" FROM "caf\xe9";
INSERT INTO "caf\xe9" (a, "na\xefve") SELECT n, '\xe9' FROM generate_series(1, 5000) n;
"""


@pytest.fixture
def wordless(server: Server) -> Iterator[Workbench]:
    """A database that knows bytes alone."""
    yield from _wordless(server)


@pytest.fixture
def debian(postgresql: Callable[[int], Server]) -> Iterator[Workbench]:
    """Such a one where pg_repack and amcheck are."""
    for bench in _wordless(postgresql(15)):
        bench.database.execute("CREATE EXTENSION pg_repack", "CREATE EXTENSION amcheck")
        yield bench


def _wordless(server: Server) -> Iterator[Workbench]:
    database = Database(server=server, name="wordless")
    database.drop()
    with server.connect() as connection:
        connection.execute(
            "CREATE DATABASE wordless TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    with database.connect() as connection:
        for statement in filter(None, MADE.strip().split(b"\n")):
            connection.execute(statement)
        connection.execute("SELECT pg_stat_force_next_flush()")
    yield Workbench(database=database)
    database.drop()


NAMED = {
    "public.plain", "public." + '"caf\uf7e9"', 'public."café"', '"sch\uf7e9ma"."t\uf7e9"', 'public."\uf7ef\uf79f\uf7a9"',
}  # fmt: skip


def _counts(bench: Workbench) -> dict[bytes, tuple[int, int]]:
    with bench.database.connect() as connection:
        rows = connection.execute(
            "SELECT relname::text::bytea, vacuum_count, analyze_count FROM pg_stat_user_tables"
        ).fetchall()
    return {bytes(name): (vacuums, analyzes) for name, vacuums, analyzes in rows}


def test_what_is_no_utf8_is_worked_on_like_everything_else(wordless: Workbench) -> None:
    with wordless.database.connect() as other:  # and what others are just asking is no UTF-8 either
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute(b"SELECT 'na\xefve'")
        facts = wordless.facts(Operation.VACUUM, Operation.REINDEX, Operation.ANALYZE, force=True)
    assert {table.name for table in facts.objects if table.kind == "table"} == NAMED
    for operation in (Operation.VACUUM, Operation.REINDEX, Operation.ANALYZE, Operation.OPTIMIZE):
        for proposal in wordless.due(operation, policy=FORCE):
            _, evidence = wordless.perform(item_of(proposal))
            assert evidence.effective is not Effective.NO or operation in (Operation.REINDEX, Operation.OPTIMIZE)
    worked_on = _counts(wordless)
    assert set(worked_on) == {b"plain", b"caf\xe9", b"caf\xc3\xa9", b"t\xe9", b"\xef\x9f\xa9"}
    assert all(vacuums >= 1 and analyzes >= 1 for vacuums, analyzes in worked_on.values()), worked_on


def test_it_is_chosen_and_told_readably(wordless: Workbench) -> None:
    (chosen,) = (each.object for each in wordless.due(Operation.VACUUM, policy=FORCE, table="sch*.*"))
    assert printable(chosen) == r'"sch\xe9ma"."t\xe9"'
    (chosen,) = (each.object for each in wordless.due(Operation.VACUUM, policy=FORCE, table="café"))
    assert chosen == 'public."café"'


def test_it_is_checked_and_rewritten_by_programs_too(debian: Workbench) -> None:
    before = debian.database.value("SELECT pg_relation_filenode(oid) FROM pg_class WHERE relname LIKE 'caf_'")
    for operation in (Operation.CHECK, Operation.OPTIMIZE):
        due = debian.due(operation, policy=Policy(force=True), table="caf?")
        assert due, operation
        for proposal in due:
            _, evidence = debian.perform(item_of(proposal))
            assert evidence.effective is not Effective.NO or operation is Operation.OPTIMIZE
    assert debian.database.value("SELECT pg_relation_filenode(oid) FROM pg_class WHERE relname LIKE 'caf_'") != before


def test_why_and_doctor_read_it(wordless: Workbench) -> None:
    with wordless.session(purpose=Purpose.SURVEY) as session:
        assert wordless.engine.why(session, 'public."café"')
        assert wordless.engine.doctor(session)


def test_names_of_other_databases_harm_nobody(newest_database: Database) -> None:
    """Roles and databases are the whole server's: what one database calls a letter another may not be able to read."""
    server, bench = newest_database.server, Workbench(database=newest_database)
    bench.bloat()
    with server.connect() as connection:
        connection.execute(
            "CREATE DATABASE wordless TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    try:
        with server.connect("wordless") as connection:
            connection.execute(b'CREATE DATABASE "bas\xe9"')
            connection.execute(b'CREATE ROLE "ren\xe9" LOGIN')
            connection.execute(b'SET SESSION AUTHORIZATION "ren\xe9"')
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            connection.execute(b"SELECT 'na\xefve'")
            with bench.session(purpose=Purpose.SURVEY) as session:
                assert bench.engine.doctor(session)
            assert bench.facts(Operation.VACUUM, Operation.REINDEX).objects
            found = {
                each.target.name: each.problem
                for each in bench.engine.discover(
                    replace(target_of(server.url("postgres")), pattern="*"),
                    Scope(operations=(Operation.VACUUM,), now=datetime.now(UTC)),
                )
            }
            assert found["postgres/wordless"] == ""
            assert "not UTF-8" in found[r"postgres/bas\xe9"]
            connection.execute("ROLLBACK")
    finally:
        with server.connect("wordless") as connection:
            connection.execute(b'DROP DATABASE IF EXISTS "bas\xe9"')
            connection.execute(b'DROP ROLE IF EXISTS "ren\xe9"')
        with server.connect() as connection:
            connection.execute("DROP DATABASE wordless WITH (FORCE)")


@given(st.binary(max_size=40).filter(lambda data: b"\0" not in data))
def test_bytes_are_the_same_on_the_way_back(data: bytes) -> None:
    text = decoded(data)
    assert encoded(text) == data
    assert text.encode().decode() == text, "it can be kept"


@given(st.text(max_size=10), st.text(max_size=10))
def test_no_two_texts_become_one(one: str, other: str) -> None:
    try:
        pair = one.encode(), other.encode()
    except UnicodeEncodeError:
        return
    assert (decoded(pair[0]) == decoded(pair[1])) == (one == other)
