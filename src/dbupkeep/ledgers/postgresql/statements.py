"""Named statements on a psycopg connection, in a transaction and outside of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NoReturn, TypeVar

import psycopg
from psycopg import RawCursor
from psycopg.rows import dict_row

from dbupkeep.errors import LedgerError
from dbupkeep.ledgers.postgresql.sessions import Address, Connection, Pool
from dbupkeep.sql import Row, statements

T = TypeVar("T")

TOKENS = re.compile(
    r"(?P<text>'(?:[^']|'')*')|(?P<comment>--[^\n]*)|(?P<cast>::)|:(?P<name>[a-z_][a-z0-9_]*)|(?P<percent>%)"
)


@cache
def in_psycopg(text: str) -> str:
    """A statement with `:name` parameters in the driver's form; quoted text, comments and `::casts` stay."""

    def replace(token: re.Match[str]) -> str:
        if token["name"]:
            return f"%({token['name']})s"
        return token[0].replace("%", "%%")

    return TOKENS.sub(replace, text)


class PostgresqlSql:
    """Statements on one connection, by name."""

    def __init__(self, connection: Connection) -> None:
        """Stand on an open connection."""
        self.connection = connection
        self.events: list[Mapping[str, Any]] = []  # of this transaction, still to be written

    def all(self, statement: str, **parameters: Any) -> list[Row]:  # noqa: ANN401 - what the driver can bind
        """Run a statement and return its rows."""
        return self.text(_named(statement), parameters)

    def text(self, text: str, parameters: Mapping[str, Any]) -> list[Row]:
        """Run a statement by its text and return its rows."""
        return list(self._execute(text, parameters).fetchall())

    def one(self, statement: str, **parameters: Any) -> Row | None:  # noqa: ANN401
        """Run a statement and return its first row."""
        found = self.all(statement, **parameters)
        return found[0] if found else None

    def run(self, statement: str, **parameters: Any) -> int:  # noqa: ANN401
        """Run a statement and return how many rows it changed.

        An event is written with the commit, so that numbers are given in the order of commits: else a follower would
        see 8, which was committed first, and never 7.
        """
        if statement == "event_insert":
            self.events.append(parameters)
            return 1
        return self._execute(_named(statement), parameters).rowcount

    def many(self, statement: str, parameters: Iterable[Mapping[str, Any]]) -> None:
        """Run a statement once for each set of parameters."""
        with self.connection.cursor() as cursor:
            cursor.executemany(_named(statement).encode(), parameters)

    def native(self, text: str, *values: Any) -> list[Row]:  # noqa: ANN401
        """Run a statement in the server's own notation, `$1`, and return its rows."""
        with RawCursor(self.connection, row_factory=dict_row) as cursor:
            cursor.execute(text.encode(), values)
            return list(cursor.fetchall()) if cursor.description else []

    def begin(self) -> str:
        """Begin a transaction; its number, by which its outcome can be asked for on another connection."""
        cursor = self.connection.execute(
            "begin isolation level read committed; select pg_current_xact_id()::text as xid"
        )
        cursor.nextset()
        return str((cursor.fetchone() or {})["xid"])

    def commit(self) -> None:
        """Write the events and commit, in one go: no client can stand still between the two and hold up all others."""
        with self.connection.pipeline(), self.connection.cursor() as cursor:
            if self.events:
                cursor.execute(_named("events_in_turn").encode())
                cursor.executemany(_named("event_insert").encode(), self.events)
            cursor.execute("commit")

    def _execute(self, text: str, parameters: Mapping[str, Any]) -> psycopg.Cursor[Any]:
        return self.connection.execute(text.encode(), parameters)


class Outside:
    """Statements outside of a transaction, each on a connection that is free; a broken one is replaced once."""

    def __init__(self, pool: Pool, address: Address) -> None:
        """Stand on a pool."""
        self._pool, self._address = pool, address

    def all(self, statement: str, **parameters: Any) -> list[Row]:  # noqa: ANN401 - as above
        """Run a statement and return its rows."""
        return self._try(lambda sql: sql.all(statement, **parameters))

    def text(self, text: str, parameters: Mapping[str, Any]) -> list[Row]:
        """Run a statement by its text and return its rows."""
        return self._try(lambda sql: sql.text(text, parameters))

    def one(self, statement: str, **parameters: Any) -> Row | None:  # noqa: ANN401 - as above
        """Run a statement and return its first row."""
        return self._try(lambda sql: sql.one(statement, **parameters))

    def run(self, statement: str, **parameters: Any) -> int:  # noqa: ANN401 - as above
        """Run a statement that may be run twice, and return how many rows it changed."""
        return self._try(lambda sql: sql.run(statement, **parameters))

    def many(self, statement: str, parameters: Iterable[Mapping[str, Any]]) -> None:
        """Run a statement once for each set of parameters."""
        rows = list(parameters)
        self._try(lambda sql: sql.many(statement, rows))

    def native(self, text: str, *values: Any) -> list[Row]:  # noqa: ANN401 - as above
        """Run a statement in the server's own notation and return its rows."""
        return self._try(lambda sql: sql.native(text, *values))

    def _try(self, work: Callable[[PostgresqlSql], T]) -> T:
        for again in (True, False):
            try:
                with self._pool.lent() as connection:
                    return work(PostgresqlSql(connection))
            except psycopg.Error as error:
                if not (again and connection.closed):
                    raise_translated(error, self._address)
                self._pool.drop_idle()
        raise AssertionError  # pragma: no cover - the last turn returns or raises


def translated(error: BaseException, address: Address) -> BaseException:
    """The driver's error in our words; ours as they are."""
    if not isinstance(error, psycopg.Error):
        return error
    hints = {
        "25006": "the server takes no changes now; is it a standby?",
        "42501": "grant the user the rights on the schema dbupkeep",
        "42P01": "its tables are missing; open it with `dbupkeep doctor`",
        "53100": "free some space on the server; work that was running is taken up again",
        "53300": "the server has no connection left; raise max_connections or run fewer processes",
        "55P03": "another program has kept it locked; see which with `dbupkeep doctor`",
    }
    why = (error.diag.message_primary if error.sqlstate else None) or "the connection was lost"
    mended = LedgerError(
        f"the ledger {address} cannot be used", why=why, hint=hints.get(error.sqlstate or "", "see `dbupkeep doctor`")
    )
    # What the server says has no secrets in it; what the driver says of a connection might.
    mended.__cause__ = error if error.sqlstate else None
    return mended


def raise_translated(error: BaseException, address: Address) -> NoReturn:
    """Raise it in our words, with the cause that may be shown."""
    mended = translated(error, address)
    raise mended from mended.__cause__


@cache
def _texts() -> Mapping[str, str]:
    return {name: in_psycopg(text) for name, text in statements("postgresql").items()}


def _named(statement: str) -> str:
    return _texts()[statement]
