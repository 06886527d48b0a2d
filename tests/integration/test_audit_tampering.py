"""C17: who can write the ledger past the program leaves traces in the audit trail; only a whole rewrite does not show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from dbupkeep.app import App
from dbupkeep.audit import Act
from dbupkeep.ledger import verified
from tests.plugins.postgresql import Database

Sql = Callable[[str], object]

FORBIDDEN = ["update audit set who = 'x' where seq = 2", "delete from audit where seq = 2", "delete from audit"]

TAMPERING = [
    "update audit set who = 'nobody' where seq = 2",
    "update audit set outcome = 'done' where seq = 2",
    "update audit set detail = '{}' where seq = 3",
    "update audit set at = '2020-01-01T00:00:00.000000+00:00' where seq = 3",
    "delete from audit where seq = 3",
    "delete from audit where seq = 1",
    "delete from audit where seq = 6",
    "delete from audit where seq > 2",
    "delete from audit",
    "update audit set seq = 99 where seq = 2; update audit set seq = 2 where seq = 3; update audit set seq = 3 where seq = 99",
    "insert into audit select 7, at, who, what, on_what, target, outcome, detail, previous, seal from audit where seq = 6",
    "insert into audit select 0, at, who, what, on_what, target, outcome, detail, previous, seal from audit where seq = 6",
    "update audit_ends set last = 5",
    "update audit_ends set last_seal = pruned_seal",
    "update audit_ends set pruned = 1, pruned_seal = (select seal from audit where seq = 1); delete from audit where seq = 1",
]


def filled(location: str) -> App:
    app = App(location, isolate=False)
    for number in range(1, 7):
        app.lifecycle.record(
            Act(who="maria", what="cancel", on=f"job {number}", outcome=f"refused: {number}", detail={"n": number})
        )
    return app


def wrong(app: App) -> list[str]:
    return list(verified(app.ledger)[1])


class TestSqlite:
    @pytest.fixture
    def app(self, tmp_path: Path) -> Iterator[App]:
        app = filled(str(tmp_path / "ledger.db"))
        yield app
        app.close()

    @pytest.fixture
    def sql(self, app: App) -> Iterator[Sql]:
        with closing(apsw.Connection(app.location)) as connection:
            yield lambda text: connection.execute(text).fetchall()

    @pytest.mark.parametrize("text", FORBIDDEN)
    def test_the_ledger_refuses_to_change_an_entry(self, app: App, sql: Sql, text: str) -> None:
        with pytest.raises(apsw.ConstraintError, match="only added to"):
            sql(text)
        assert wrong(app) == []

    @pytest.mark.parametrize("text", TAMPERING)
    def test_who_gets_around_that_is_seen(self, app: App, sql: Sql, text: str) -> None:
        assert wrong(app) == []
        sql("drop trigger audit_unchanged; drop trigger audit_kept")
        sql(text)
        assert wrong(app)


@pytest.mark.engine("postgresql")
class TestPostgresql:
    @pytest.fixture
    def app(self, newest_database: Database) -> Iterator[App]:
        app = filled(newest_database.url)
        yield app
        app.close()

    @pytest.fixture
    def sql(self, app: App, newest_database: Database) -> Sql:
        return lambda text: newest_database.execute(f"set search_path = dbupkeep; {text}")

    @pytest.mark.parametrize("text", [*FORBIDDEN, "truncate audit"])
    def test_the_ledger_refuses_to_change_an_entry(self, app: App, sql: Sql, text: str) -> None:
        with pytest.raises(Exception, match="only added to"):
            sql(text)
        assert wrong(app) == []

    def test_who_gets_around_that_is_seen(self, newest_database: Database, app: App, sql: Sql) -> None:
        assert wrong(app) == []
        sql("create table kept as select * from audit; create table kept_ends as select * from audit_ends")
        sql("alter table audit disable trigger all")
        for text in TAMPERING:
            sql(text)
            assert wrong(app), text
            sql("delete from audit; insert into audit select * from kept")
            sql("delete from audit_ends; insert into audit_ends select * from kept_ends")
            assert wrong(app) == []
