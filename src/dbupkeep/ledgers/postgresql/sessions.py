"""Connections to the ledger's server: where it is, what holds in each session, and a small pool. Secrets stay here."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import conninfo
from psycopg.rows import DictRow, dict_row
from typing_extensions import override

from dbupkeep import pooling
from dbupkeep.errors import LedgerError

Connection = psycopg.Connection[DictRow]

SCHEMA = "dbupkeep"
"""All tables are in a schema of this name, so that the database may have other uses."""

POOL = 10
"""Connections of one process at most; others wait for one to be free."""

DEFAULTS: Mapping[str, Any] = {
    "connect_timeout": 10,
    "application_name": "dbupkeep ledger",
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Unless the url says otherwise: a network that swallows everything is noticed within half a minute."""

SETTINGS: Mapping[str, str] = {
    "search_path": SCHEMA,
    "timezone": "UTC",
    "datestyle": "ISO",
    "client_encoding": "UTF8",
    "lock_timeout": "60s",
    "idle_in_transaction_session_timeout": "15s",
}
"""A program that stands still in a transaction must not hold up all others."""

SETUP = """
with wanted (name, value) as (
  select * from unnest(%(names)s::text[], %(values)s::text[])
  union all
  select 'synchronous_commit', 'on' where current_setting('synchronous_commit') = 'off'
)
select pg_backend_pid() as pid, count(set_config(name, value, pg_backend_pid() <> %(greeted)s)) as n from wanted
"""
"""What is committed is on disk. Settings last for the session, unless another process answers than the one that greeted us."""


class Address:
    """Where the ledger is: for connecting with all of it, for showing without its secrets."""

    def __init__(self, location: str) -> None:
        """Take a libpq url apart. Raises `LedgerError` for a malformed one, which is not repeated in it."""
        try:
            parts = conninfo.conninfo_to_dict(location)
        except psycopg.Error:
            raise _malformed() from None
        named = [str(parts.get(name) or "") for name in ("host", "user", "dbname")]
        if any("@" in part for part in named) or "/" in named[1] or "/" in named[2]:
            raise _malformed() from None
        self.parameters: Mapping[str, Any] = {**DEFAULTS, **parts}

    @override
    def __str__(self) -> str:
        """Without secrets."""
        part = {name: str(value) for name, value in self.parameters.items()}
        user = f"{part['user']}@" if part.get("user") else ""
        port = f":{part['port']}" if part.get("port") else ""
        return f"postgresql://{user}{part.get('host', '')}{port}/{part.get('dbname', '')}"

    def connect(self) -> Connection:
        """A connection with all that holds in a session; each statement is a transaction unless one is begun."""
        try:
            connection = psycopg.connect(**self.parameters, autocommit=True, row_factory=dict_row)
            try:
                self._set_up(connection)
            except (psycopg.Error, LedgerError):
                connection.close()
                raise
        except psycopg.Error as error:
            # The driver's own error may repeat what it was given, so it is remade and not kept as the cause.
            raise LedgerError(
                f"the ledger {self} cannot be reached", why=_why(error), hint="check its url and that the server runs"
            ) from None
        return connection

    def _set_up(self, connection: Connection) -> None:
        """Settings for the session; none of them stays where the session is not ours. Raises `LedgerError` then."""
        pid = _setting(connection, connection.info.backend_pid)
        if not pooling.is_between(connection, pid):
            return
        if pooling.shares_sessions(connection, self.parameters):
            raise LedgerError(
                pooling.WHAT.format(place=f"what answers for the ledger {self}"),
                why="what a ledger sets and locks in a session would be another program's in the next moment",
                hint=pooling.HINT,
            )
        _setting(connection, pid)


def _setting(connection: Connection, greeted: int) -> int:
    """Set what holds in a session, if it is the process that `greeted` us; returns which one answers."""
    asked = {"names": list(SETTINGS), "values": list(SETTINGS.values()), "greeted": greeted}
    return int((connection.execute(SETUP, asked, prepare=False).fetchone() or {})["pid"])


def _malformed() -> LedgerError:
    return LedgerError(
        "the url of the ledger is malformed",
        why="it is not postgresql://USER@HOST:PORT/DATABASE",
        hint="in a password, write @ : / and % as %40 %3A %2F and %25; or leave it to PGPASSWORD or a password file",
    )


def _why(error: psycopg.Error) -> str:
    """What kept a connection from being made, in words of our own."""
    text = str(error)
    known = {
        "password authentication failed": "the server refuses the password",
        "no password supplied": "the server wants a password",
        "no pg_hba.conf entry": "the server does not let this user in from here",
        "does not exist": "the server has no such database or user",
        "too many clients": "the server has no connection left",
        "starting up": "the server is starting",
        "shutting down": "the server is shutting down",
        "Connection refused": "nothing listens there",
        "No such file or directory": "nothing listens there",
        "timeout": "there is no answer",
        "could not translate host name": "the host is not known",
        "failed to resolve host": "the host is not known",
        "SSL": "the connection cannot be encrypted as wanted",
    }
    return next((words for sign, words in known.items() if sign in text), "there is no connection")


class Pool:
    """A few connections, each lent to one thread at a time."""

    def __init__(self, address: Address, size: int = POOL) -> None:
        """Begin with none."""
        self._address = address
        self._idle: list[Connection] = []
        self._slots = threading.BoundedSemaphore(size)
        self._guard = threading.Lock()
        self._pid = os.getpid()
        self._closed = False

    @contextmanager
    def lent(self) -> Generator[Connection, None, None]:
        """A connection that is not in a transaction; a broken one is not lent again."""
        self._check_process()
        with self._slots:
            connection = self._take()
            try:
                yield connection
            finally:
                self._give_back(connection)

    def drop_idle(self) -> None:
        """Close what is not lent: after one connection broke, the others are likely to be broken too."""
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            with suppress(psycopg.Error):
                connection.close()

    def close(self) -> None:
        """Close all; safe to repeat. Those of a parent process are left alone."""
        if self._pid == os.getpid():
            self._closed = True
            self.drop_idle()

    def _take(self) -> Connection:
        with self._guard:
            while self._idle:
                connection = self._idle.pop()
                if not connection.closed:
                    return connection
        return self._address.connect()

    def _give_back(self, connection: Connection) -> None:
        idle = psycopg.pq.TransactionStatus.IDLE
        if not connection.closed and connection.info.transaction_status is idle and not self._closed:
            with self._guard:
                self._idle.append(connection)
            return
        with suppress(psycopg.Error):
            connection.close()

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise LedgerError(
                "the ledger was opened before this process was forked",
                why="a connection must not be carried into a child process",
                hint="open the ledger in the child, or start children with the `spawn` method",
            )
