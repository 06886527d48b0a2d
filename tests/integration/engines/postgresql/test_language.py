"""A server that speaks German: what it says is told apart by codes and counters, not by its words."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from dbupkeep.definitions import Policy
from dbupkeep.errors import Busy, Gone, Kind, Missing, NotPermitted, OperationError, UpkeepError
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.testing.engine_suite import item_of
from tests.plugins.postgresql import Database, Server, start
from tests.plugins.postgresql_bench import Workbench, holding, in_thread, until

pytestmark = pytest.mark.engine("postgresql")

SOURCE = Path("/usr/share/i18n/locales/de_DE")
VACUUM = Operation.VACUUM


@pytest.fixture(scope="module")
def german() -> Iterator[Server]:
    """Debian's server: that of the wheel has no other languages."""
    if not shutil.which("localedef") or not SOURCE.exists():
        pytest.skip("there is no German here: as root, `sh scripts/packages` installs `locales`")
    with tempfile.TemporaryDirectory(prefix="dbupkeep-locales-") as folder, pytest.MonkeyPatch.context() as patch:
        Path(folder).chmod(0o755)  # the server is another user, who could not come into a folder of pytest's
        subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", f"{folder}/de_DE.UTF-8"], check=True)
        patch.setenv("LOCPATH", folder)
        server = start(15, lc_messages="de_DE.UTF-8")
        yield server
        server.remove()


@pytest.fixture
def bench(german: Server) -> Iterator[Workbench]:
    database = german.create()
    yield Workbench(database=database)
    database.drop()


def test_what_it_skips_for_lack_of_rights(bench: Workbench) -> None:
    bench.bloat()
    bench.database.execute("DROP ROLE IF EXISTS poor", "CREATE ROLE poor LOGIN")
    for operation in (VACUUM, Operation.ANALYZE):
        item = next(item_of(each) for each in bench.due(operation, policy=Policy(force=True), user="poor"))
        with pytest.raises(NotPermitted) as raised:
            bench.perform(item, user="poor")
        assert "only the owner of a table may" in raised.value.hint
    assert "WARNUNG" in bench.database.server.log, "the server does speak German"
    bench.database.execute("DROP OWNED BY poor", "DROP ROLE poor")


def test_what_is_locked(bench: Workbench) -> None:
    bench.bloat()
    item = bench.item(VACUUM)
    with holding(bench.database, "LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE"):
        for options in ({"skip_locked": True}, {"lock_wait": 0.2}):
            with pytest.raises(Busy):
                bench.perform(replace(item, options={**item.options, **options}))
    assert bench.perform(item)[1].effective is Effective.YES


def test_what_an_old_snapshot_keeps(bench: Workbench) -> None:
    bench.bloat(dead=0)
    with holding(bench.database, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t"):
        bench.database.execute("DELETE FROM t WHERE id <= 19000")
        _, evidence = bench.perform(bench.item(VACUUM))
    assert evidence.effective is Effective.NO
    assert "the application" in evidence.reason


def test_who_is_cancelled_by_a_stranger_and_what_is_gone(bench: Workbench) -> None:
    bench.bloat(rows=60_000, dead=30_000)
    bench.slowly()
    item = bench.item(VACUUM)
    running = in_thread(lambda: bench.perform(item))
    until(lambda: bench.database.query("SELECT FROM pg_stat_progress_vacuum"))
    bench.database.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_progress_vacuum")
    with pytest.raises(OperationError) as raised:
        running.outcome()
    assert raised.value.kind is Kind.INTERRUPTED
    bench.database.execute("DROP TABLE t")
    with pytest.raises(Gone):
        bench.perform(item)


def test_who_is_not_let_in(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    server = bench.database.server
    bench.database.execute("DROP ROLE IF EXISTS with_password", "CREATE ROLE with_password LOGIN PASSWORD 'right'")
    monkeypatch.setenv("PGPASSWORD", "wr0ng-c4n4ry")
    wanted: dict[tuple[str, str], type[UpkeepError]] = {
        ("nowhere", "postgres"): Missing, (bench.database.name, "nobody_at_all"): NotPermitted,
        (bench.database.name, "with_password"): NotPermitted,
    }  # fmt: skip
    for (name, user), cls in wanted.items():
        there = Workbench(database=Database(server=server, name=name))
        with pytest.raises(cls) as raised, there.session(user=user):
            pass
        assert "wr0ng-c4n4ry" not in str(raised.value.document())
    assert "existiert nicht" in server.log
