"""What `doctor` finds on real servers: rights that are lacking, and files that a crash has left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from dbupkeep.engine import Finding, Purpose
from tests.plugins.postgresql import NEWEST, Server, start
from tests.plugins.postgresql_bench import Workbench

pytestmark = pytest.mark.engine("postgresql")

LONG_AGO = 3600.0


def findings(bench: Workbench, *, user: str = "") -> dict[str, Finding]:
    with bench.session(purpose=Purpose.SURVEY, user=user) as session:
        return {finding.subject: finding for finding in bench.engine.doctor(session)}


@pytest.fixture
def own_server() -> Iterator[Server]:
    own = start(NEWEST)
    yield own
    own.remove()


def test_files_that_a_crash_left_are_told_and_stay(own_server: Server) -> None:
    bench = Workbench(database=own_server.create())
    bench.bloat()
    work = bench.database.connect()
    work.execute("BEGIN")
    work.execute("CREATE TABLE lost AS SELECT n, repeat('x', 500) FROM generate_series(1, 5000) n")
    (path,) = work.execute("SELECT pg_relation_filepath('lost')").fetchone() or ("",)
    own_server.stop("QUIT")
    work.close()
    own_server.start_again()
    file = own_server.data / path
    assert file.stat().st_size > 1_000_000
    assert "lost files" not in findings(bench), "what is as young as this may be of somebody at work"
    before = time.time() - LONG_AGO
    for each in file.parent.iterdir():
        os.utime(each, (before, before))
    told = findings(bench)["lost files"]
    assert not told.ok
    assert told.message.startswith("2 files with "), "of the table, and of the index of its TOAST table"
    assert file.name in told.message
    assert file.exists()


def test_a_role_is_told_which_rights_it_lacks(bench: Workbench) -> None:
    bench.bloat()
    bench.database.execute("DROP ROLE IF EXISTS poor", "CREATE ROLE poor LOGIN")
    poor, rich = findings(bench, user="poor"), findings(bench)
    assert (poor["rights on tables"].ok, rich["rights on tables"].ok) == (False, True)
    hint = poor["rights on tables"].hint
    assert ("pg_maintain" in hint) == (bench.database.server.version >= 17)
    assert "pg_monitor" in poor["sight of sessions"].hint
    assert "pg_statistic" in poor["sight of statistics"].hint
    assert "USAGE ON SCHEMA pg_toast" in poor["TOAST tables"].hint
    assert "does not need" in rich["role"].message
    bench.database.execute("DROP ROLE poor")


def test_a_role_is_told_which_function_it_may_not_call(postgresql: Callable[[int], Server]) -> None:
    bench = Workbench(database=postgresql(15).create())
    bench.database.execute("CREATE EXTENSION amcheck", "DROP ROLE IF EXISTS poor", "CREATE ROLE poor LOGIN")
    told = findings(bench, user="poor")["amcheck"]
    assert not told.ok
    assert "GRANT EXECUTE ON FUNCTION public.bt_index_check" in told.hint
    bench.database.execute("GRANT EXECUTE ON FUNCTION bt_index_check(regclass, boolean) TO poor")
    assert findings(bench, user="poor")["amcheck"].ok
    bench.database.drop()
    with bench.database.server.connect() as connection:
        connection.execute("DROP ROLE poor")
