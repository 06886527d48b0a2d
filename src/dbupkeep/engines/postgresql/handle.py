"""One connection to one database, set up for maintenance: settings, identity, statements, and the way to stop them."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from dbupkeep import logs
from dbupkeep.definitions import Target
from dbupkeep.engine import Purpose, Stop
from dbupkeep.engines.postgresql import introduction
from dbupkeep.engines.postgresql.faults import CANCELLED, error_of, told
from dbupkeep.engines.postgresql.introduction import Identity
from dbupkeep.engines.postgresql.queries import query
from dbupkeep.engines.postgresql.urls import parameters_of
from dbupkeep.errors import Busy, Interrupted, Kind, Lost, OperationError, UpkeepError

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

Row = dict[str, Any]

ADVISORY = 0x64625570
"""The first key of our advisory locks ("dbUp"); the second is the object's OID."""

_CANCEL_PATIENCE = 3.0
_NAME_LIMIT = 63
_MARK = re.compile(r"[^A-Za-z0-9:._-]")


class Said(Struct, frozen=True, kw_only=True):
    """A notice of the server, by its code."""

    code: str
    text: str


class Handle:
    """A connection for one job at a time. Every method but `interrupt` and `hang_up` is the working thread's."""

    def __init__(self, target: Target, *, tag: str = "", purpose: Purpose = Purpose.WORK) -> None:
        """Connect. Raises a `TargetError` or a `UsageError`; neither repeats the URL."""
        self.target = target
        self.tag = tag[:_NAME_LIMIT]
        self.purpose = purpose
        self._parameters = parameters_of(target.url, os.environ)
        self._stop = threading.Event()
        self._fault: UpkeepError | None = None  # why the work is stopped, where nobody asked for it
        self._asked = False  # whether somebody did
        self._busy = threading.Event()
        self._said: list[Said] = []
        self.tell: Callable[[str], object] | None = None
        """Told each statement that changes something, before it is sent."""
        self._lock_wait = ""  # as last set, empty for the session's own
        self._answers: dict[tuple[Any, ...], list[Row]] = {}
        self.connection, self.identity = self._opened()

    # --- asking ---

    def rows(self, name_or_text: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """The rows of a named query (or of a text)."""
        from psycopg.rows import dict_row

        from dbupkeep.engines.postgresql import bytewise

        text = query(name_or_text, self.identity.version)
        with told("looking at the server failed"), self.connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(text, parameters)
            try:
                return cursor.fetchall()
            except UnicodeDecodeError:  # of another database of the server: names, or what was asked there
                bytewise.adapt(self.connection)
        with told("looking at the server failed"), self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(text, parameters).fetchall()

    def once(self, name: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """The rows of a named query whose answer lasts as long as the connection: asked for once."""
        key = (name, tuple((parameters or {}).items()))
        if key not in self._answers:
            self._answers[key] = self.rows(name, parameters)
        return self._answers[key]

    def row(self, name_or_text: str, parameters: Mapping[str, Any] | None = None) -> Row:
        """The only row of a query."""
        return self.rows(name_or_text, parameters)[0]

    # --- doing ---

    @contextmanager
    def one_item(self) -> Iterator[None]:
        """Frame one item: a stop that was asked for before counts, and is used up at the end."""
        try:
            self.check_stop()
            yield
        finally:
            self._forget_the_stop()
            self.unlock_all()

    def check_stop(self) -> None:
        """Raise `Interrupted` when a stop was asked for, or the fault for which the work is stopped."""
        if self._stop.is_set():
            if self._fault is not None:
                raise self._fault
            raise Interrupted("the work was stopped", why="it was asked to stop", hint="run it again to go on")

    def pause(self, seconds: float) -> None:
        """Wait a while. Raises `Interrupted` as soon as a stop is asked for."""
        self._stop.wait(seconds)
        self.check_stop()

    def perform(self, statement: sql.Composable, *, lock_wait: float) -> list[Said]:
        """Execute a statement of maintenance and return the server's notices.

        `lock_wait` is how long each lock is waited for, in seconds; 0 is for ever. Raises as `error_of`.
        """
        import psycopg

        self.check_stop()
        self._tell(statement)
        with self._stoppable(lock_wait):
            self._said = []
            try:
                self._send(statement)
            except psycopg.Error as error:
                raise self._failed(error) from error
        return self._said

    def rows_by(self, name: str, parameters: Mapping[str, Any], *, lock_wait: float) -> list[Row]:
        """As `rows`, for a look at tables that may be locked: each lock is waited for so long, and a stop ends it."""
        with self._stoppable(lock_wait):
            return self.rows(name, parameters)

    def clear_up(self, statement: sql.Composable, *, lock_wait: float) -> None:
        """Execute a statement that removes what the work left, though a stop was asked for. Raises as `error_of`."""
        self._tell(statement)
        with told("clearing up failed"):
            self._wait_for_locks(lock_wait)
            self._send(statement)

    @contextmanager
    def _stoppable(self, lock_wait: float) -> Iterator[None]:
        """Frame what a stop cancels. Whether one was asked for is looked at inside, so that none gets lost on the border."""
        self._busy.set()
        try:
            self.check_stop()
            with told("looking at the server failed"):
                self._wait_for_locks(lock_wait)
            yield
        except Interrupted:
            self.check_stop()  # it may be known better for what it was stopped
            raise
        finally:
            self._busy.clear()

    def _tell(self, statement: sql.Composable) -> None:
        if self.tell is None:
            return
        from dbupkeep.engines.postgresql import bytewise

        text = bytewise.written(statement, self.connection)
        if not text.startswith(("SET ", "RESET ")):
            self.tell(text)

    def _send(self, statement: sql.Composable) -> None:
        from psycopg import sql

        self.connection.execute(sql.SQL("{} {}").format(sql.SQL(self._comment()), statement), prepare=False)

    def try_lock(self, oids: Sequence[int]) -> list[int]:
        """Take our advisory lock on objects; returns those that another session of ours is on."""
        found = self.rows(
            "SELECT oid::bigint AS oid, pg_try_advisory_lock(%(ours)s, (oid::bigint - CASE WHEN oid::bigint > 2147483647"
            " THEN 4294967296 ELSE 0 END)::int) AS got FROM unnest(%(oids)s::oid[]) AS oid",
            {"ours": ADVISORY, "oids": list(oids)},
        )
        return [int(row["oid"]) for row in found if not row["got"]]

    def lock(self, oid: int, what: str) -> None:
        """Take our advisory lock on one object. Raises `Busy` when another session of ours is on it."""
        if self.try_lock([oid]):
            raise Busy(
                f"{what} is being maintained already",
                why="another session of dbupkeep holds its lock on the server",
                hint="it comes back with the next run; `dbupkeep jobs` shows what runs",
            )

    def unlock_all(self) -> None:
        """Give our advisory locks back; safe to repeat."""
        if not self.connection.closed:
            with suppress(Exception):  # a broken connection has given its locks up already
                self.connection.execute("SELECT pg_advisory_unlock_all()")

    @property
    def parameters(self) -> Mapping[str, str]:
        """What the connection was asked for with; no secret is ever among it."""
        return self._parameters

    @property
    def _name(self) -> str:
        """What the server's own views call the session."""
        return self.tag or "dbupkeep"

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self._stop.is_set()

    @property
    def at_work(self) -> bool:
        """Whether a statement of maintenance is with the server now."""
        return self._busy.is_set()

    # --- stopping ---

    def interrupt(self, fault: UpkeepError | None = None) -> Stop:
        """Ask the running statement to end; from any thread. It then raises `fault`, where that is given first."""
        if fault is not None and not self._stop.is_set():
            self._fault = fault
        self._asked = self._asked or fault is None
        self._stop.set()
        if not self._busy.is_set() or self.connection.closed:
            return Stop.STOPPED
        try:
            self.connection.cancel_safe(timeout=_CANCEL_PATIENCE)
        except Exception:  # noqa: BLE001 - whatever the driver raises on a dying connection: the stop stays asked for
            return Stop.UNKNOWN
        return Stop.STOPPED

    def go_on(self) -> None:
        """Forget what one statement was stopped for, so that others can follow; a stop that was asked for stays."""
        self._stop.clear()
        self._fault = None
        if self._asked:  # it may have been asked for just now
            self._stop.set()

    def hang_up(self) -> None:
        """Cut the connection from another thread: a call that waits on it ends, as lost."""
        with suppress(OSError, ValueError):
            duplicate = socket.socket(fileno=os.dup(self.connection.fileno()))
            with duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)

    def reconnect(self) -> None:
        """Connect anew, to the same server. Raises `Lost` when that does not work, or when it is another one."""
        before = self.identity
        self._answers.clear()
        self.close()
        try:
            self.connection, self.identity = self._opened()
        except Exception as error:
            raise Lost("the server cannot be reached again", why=getattr(error, "message", "")) from error
        if self.identity.system != before.system:
            raise Lost("another server answers now", why=f"its system identifier is {self.identity.system}")

    def renew(self, tag: str) -> bool:
        """Serve another job under another mark, with settings as at the start; False when the connection is not fit to."""
        from psycopg.pq import TransactionStatus

        if self.connection.closed or self.connection.info.transaction_status is not TransactionStatus.IDLE:
            return False
        self.tag = tag[:_NAME_LIMIT]
        self._forget_the_stop()
        before = self.identity
        try:
            with told("setting up the session failed"):
                self.connection.execute("RESET ALL")
            self._lock_wait = ""
            self.identity = introduction.introduced(
                self.connection, self._parameters, self._name, read_only=self._only_looks
            )
        except UpkeepError:
            return False
        return self.identity == before

    def second(self, suffix: str = "/watch") -> Handle:
        """Another connection to the same database, for looking on."""
        return Handle(self.target, tag=f"{self.tag[: _NAME_LIMIT - len(suffix)]}{suffix}", purpose=Purpose.SURVEY)

    def close(self) -> None:
        """End the session; safe to repeat."""
        self.connection.close()

    # --- inside ---

    def _forget_the_stop(self) -> None:
        self._asked = False
        self._stop.clear()
        self._fault = None

    def _wait_for_locks(self, seconds: float) -> None:
        """Say how long the next statements wait for each lock; nothing is sent where that is so already."""
        wait = f"{max(0, round(1000 * seconds))}ms"
        if wait != self._lock_wait:
            self.connection.execute("SELECT set_config('lock_timeout', %s, false)", [wait])
            self._lock_wait = wait

    def _opened(self) -> tuple[psycopg.Connection[Any], Identity]:
        self._lock_wait = ""
        connection, identity = introduction.opened(self._parameters, self._name, read_only=self._only_looks)
        connection.add_notice_handler(self._note)
        return connection, identity

    @property
    def _only_looks(self) -> bool:
        return self.purpose is Purpose.SURVEY

    def _failed(self, error: psycopg.Error) -> Exception:
        if error.sqlstate != CANCELLED or self.stopping:
            return error_of(error)
        return OperationError(
            "somebody else cancelled the work on the server",
            why="a cancel request that is not ours (pg_cancel_backend, or a timeout)",
            hint="run it again",
            kind=Kind.INTERRUPTED,
        )

    def _comment(self) -> str:
        """The full ids, for the server's own views and log; whatever could end a comment is taken out."""
        fields = logs.current()
        known = {
            "run": fields.get("correlation_id"), "parent": fields.get("parent_id"), "job": fields.get("job_id"),
            "attempt": fields.get("attempt"),
        }  # fmt: skip
        words = [f"{name}={_MARK.sub('', str(value))}" for name, value in known.items() if value]
        return f"/* {' '.join(['dbupkeep', *words])} */"

    def _note(self, diagnostic: Any) -> None:  # noqa: ANN401 - psycopg's Diagnostic
        if diagnostic.severity_nonlocalized == "WARNING":
            self._said.append(Said(code=diagnostic.sqlstate or "", text=diagnostic.message_primary or ""))
