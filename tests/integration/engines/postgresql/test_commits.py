"""Commits of small work that do not wait for the disk one by one: nothing that is said to be done is lost in a crash."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
from psycopg import sql

from dbupkeep.definitions import Policy
from dbupkeep.engines.postgresql.commits import together
from dbupkeep.engines.postgresql.handle import Handle
from dbupkeep.engines.postgresql.session import PostgresqlSession
from dbupkeep.operations import Operation
from dbupkeep.testing.engine_suite import item_of
from tests.plugins.postgresql import NEWEST, Server, start
from tests.plugins.postgresql_bench import Workbench

WAITS = "SELECT current_setting('synchronous_commit')"
ON_DISK = "SELECT pg_current_wal_flush_lsn() >= %(lsn)s::pg_lsn AS it"
NOW = "SELECT pg_current_wal_insert_lsn()::text AS lsn"


@pytest.fixture(scope="module")
def lazy() -> Iterator[Server]:
    """A server whose WAL writer comes once in ten seconds, so that a crash loses what nobody waited for."""
    server = start(NEWEST, wal_writer_delay="10s")
    yield server
    server.remove()


@pytest.fixture
def bench(lazy: Server) -> Iterator[Workbench]:
    database = lazy.create()
    yield Workbench(database=database)
    database.drop()


@pytest.fixture
def handle(bench: Workbench) -> Iterator[Handle]:
    with bench.session() as session:
        yield cast("PostgresqlSession", session).handle


def write(handle: Handle, name: str) -> None:
    handle.perform(sql.SQL("CREATE TABLE {} ()").format(sql.Identifier("public", name)), lock_wait=0)


def test_statistics_that_are_said_to_be_fresh_survive_a_crash_of_the_server(bench: Workbench) -> None:
    for number in range(12):
        bench.bloat(f"t{number}", rows=500, dead=0)
        bench.database.execute(f"UPDATE t{number} SET a = 'y'")
    policy = Policy(thresholds={"analyze": {"group_from": 2}})
    items = [item_of(each) for each in bench.due(Operation.ANALYZE, policy=policy)]
    names = {name for item in items if len(item.members) > 1 for name in item.members}
    assert len(names) > 8
    for item in items:
        _, evidence = bench.perform(item)
        assert evidence.reason.startswith("statistics are fresh")
    bench.database.server.stop("QUIT")
    bench.database.server.start_again()
    fresh = "SELECT 'public.' || tablename FROM pg_stats WHERE attname = 'a' AND most_common_vals::text = '{y}'"
    assert names <= {name for (name,) in bench.database.query(fresh)}


def test_what_a_lost_attempt_had_done_is_on_the_disk_before_that_is_said(newest: Workbench) -> None:
    for number in range(12):
        newest.bloat(f"t{number}", rows=500, dead=0)
        newest.database.execute(f"UPDATE t{number} SET a = 'y'")
    policy = Policy(thresholds={"analyze": {"group_from": 2}})
    item = next(each for each in map(item_of, newest.due(Operation.ANALYZE, policy=policy)) if each.members)
    newest.database.execute("SET synchronous_commit = off", f"ANALYZE {', '.join(item.members)}")
    with newest.session(tag="dbupkeep:lost:2") as session:
        handle = cast("PostgresqlSession", session).handle
        written = handle.row(NOW)
        evidence = session.recover(item, "dbupkeep:lost:1", [])
        assert evidence is not None
        assert "the attempt before had done it" in evidence.reason
        assert handle.row(ON_DISK, written)["it"]


def test_only_the_last_piece_waits_for_the_disk_and_takes_the_others_along(handle: Handle) -> None:
    usual = handle.row(WAITS)
    with together(handle) as commits:
        assert handle.row(WAITS)["current_setting"] == "off"
        write(handle, "one")
        written = handle.row(NOW)
        assert not handle.row(ON_DISK, written)["it"]
        commits.last()
        assert handle.row(WAITS) == usual
        write(handle, "two")
        assert handle.row(ON_DISK, written)["it"]


def test_where_the_last_piece_commits_nothing_the_writer_is_waited_for(newest: Workbench) -> None:
    with newest.session() as session:
        handle = cast("PostgresqlSession", session).handle
        with together(handle):
            write(handle, "one")
            written = handle.row(NOW)
        assert handle.row(ON_DISK, written)["it"]


def test_a_fault_leaves_no_session_that_does_not_wait(handle: Handle) -> None:
    usual = handle.row(WAITS)
    with pytest.raises(ZeroDivisionError), together(handle):
        raise ZeroDivisionError
    assert handle.renew("another")
    assert handle.row(WAITS) == usual


@pytest.mark.parametrize("setting", ["off", "local"])
def test_what_the_server_is_set_to_comes_back(bench: Workbench, setting: str) -> None:
    bench.database.execute(f"ALTER DATABASE {bench.database.name} SET synchronous_commit = {setting}")
    with bench.session() as session:
        handle = cast("PostgresqlSession", session).handle
        with together(handle) as commits:
            commits.last()
            write(handle, "one")
        assert handle.row(WAITS)["current_setting"] == setting


def test_where_standbys_are_waited_for_commits_wait(bench: Workbench) -> None:
    bench.database.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
    try:
        with bench.session() as session:
            handle = cast("PostgresqlSession", session).handle
            with together(handle):
                assert handle.row(WAITS)["current_setting"] == "on"
    finally:
        bench.database.execute("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
