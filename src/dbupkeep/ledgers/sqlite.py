"""The embedded ledger: one SQLite file, in WAL, for the threads and processes of one machine."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import apsw
from msgspec import Struct, field
from typing_extensions import override

from dbupkeep.clock import Clock, SystemClock
from dbupkeep.errors import LedgerError
from dbupkeep.estimates import Measurement
from dbupkeep.events import Event
from dbupkeep.jobs import Delivery, Job
from dbupkeep.ledger import Change, Control, Health, Tx, Wait
from dbupkeep.ledgers import rows
from dbupkeep.ledgers.reads import RelationalReads
from dbupkeep.ledgers.relational import RelationalTx, RelationalWrites
from dbupkeep.ledgers.trails import RelationalTrail
from dbupkeep.progress import Progress
from dbupkeep.sql import Row, migrations, statements

T = TypeVar("T")

APPLICATION_ID = 0x64627570
"""`dbup` in ASCII: tells a ledger from any other SQLite file."""

ELSEWHERE = "choose another place with --ledger; nothing was changed"

BUSY_MS = 60_000
"""How long a write waits for other processes; the longest outage that loses no result."""

WAL_RESET_BUG_FIXED = (3, 51, 3)
"""Older libraries can damage a WAL file that several processes write; they keep a rollback journal."""


class SqliteTx:
    """Statements on one connection, by name."""

    def __init__(self, connection: apsw.Connection) -> None:
        """Stand on an open connection."""
        self.connection = connection
        self._texts = statements("sqlite")
        self._columns: dict[str, tuple[str, ...]] = {}

    def all(self, statement: str, **parameters: Any) -> list[Row]:  # noqa: ANN401 - what the driver can bind
        """Run a statement and return its rows."""
        return self.text(self._texts[statement], parameters)

    def text(self, text: str, parameters: Mapping[str, Any]) -> list[Row]:
        """Run a statement by its text and return its rows."""
        cursor = self.connection.execute(text, parameters)
        found: list[Row] = []
        for row in cursor:
            names = self._columns.get(text, ())
            if len(names) != len(row):  # also when another process has added a column
                names = self._columns[text] = tuple(column[0] for column in cursor.get_description())
            found.append(dict(zip(names, row, strict=True)))
        return found

    def one(self, statement: str, **parameters: Any) -> Row | None:  # noqa: ANN401
        """Run a statement and return its first row."""
        found = self.all(statement, **parameters)
        return found[0] if found else None

    def run(self, statement: str, **parameters: Any) -> int:  # noqa: ANN401
        """Run a statement and return how many rows it changed."""
        self.connection.execute(self._texts[statement], parameters).fetchall()
        return self.connection.changes()

    def many(self, statement: str, parameters: Iterable[Mapping[str, Any]]) -> None:
        """Run a statement once for each set of parameters."""
        self.connection.executemany(self._texts[statement], parameters).fetchall()


class _ReadingTx(SqliteTx):
    """Statements outside of a transaction, whose errors nobody else puts into our words."""

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        super().__init__(connection)
        self._path = path

    @override
    def text(self, text: str, parameters: Mapping[str, Any]) -> list[Row]:
        try:
            return super().text(text, parameters)
        except apsw.Error as error:
            raise translated(error, self._path) from error


class _Pending(Struct, eq=False):
    """A closure that waits for its transaction."""

    work: Callable[[Any], Any]
    durable: bool = True
    done: bool = False
    result: Any = None
    error: BaseException | None = field(default=None)


class SqliteLedger(RelationalReads, RelationalTrail):
    """Ledger and Reader on one SQLite file.

    Writers of one process share a connection and, when several wait, one commit: `transact` returns only after it.
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        """Open or create the file. Raises `LedgerError` when it is something else."""
        self.path = path
        self.clock = clock or SystemClock()
        self._writes = RelationalWrites()
        self._pid = os.getpid()
        self._local = threading.local()
        self._opened: weakref.WeakSet[apsw.Connection] = weakref.WeakSet()  # a thread's own goes with it
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._waiting: list[_Pending] = []
        _prepare(path)
        self._writer = self._open()
        self._sql = SqliteTx(self._writer)
        self._full = True

    @override
    def transact(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction, with the closures of other threads that wait at that moment."""
        return cast("T", self._transact(_Pending(work=work)))

    def transact_lightly(self, work: Callable[[Tx], T]) -> T:
        """As `transact`, without waiting for the disk."""
        return cast("T", self._transact(_Pending(work=work, durable=False)))

    def _transact(self, mine: _Pending) -> Any:  # noqa: ANN401 - passes through what the closure returns
        self._check_process()
        with self._guard:
            self._waiting.append(mine)
        try:
            with self._turn:
                if not mine.done:
                    with self._guard:
                        batch, self._waiting = self._waiting, []
                    self._commit(batch)
        except BaseException:  # interrupted while it waited: nobody may run it any more
            with self._guard:
                self._waiting = [pending for pending in self._waiting if pending is not mine]
            raise
        if mine.error is not None:
            raise mine.error
        return mine.result

    def _commit(self, batch: Sequence[_Pending]) -> None:
        """Run a batch in one transaction; a closure that raises takes back its own part only."""
        try:
            self._wait_for_disk(any(pending.durable for pending in batch))
            self._writer.execute("begin immediate")
            for pending in batch:
                self._run_one(pending, alone=len(batch) == 1)
            self._writer.execute("commit")
        except BaseException as error:
            for pending in batch:
                pending.error = pending.error or translated(error, self.path)
            if not self._writer.get_autocommit():
                with suppress(apsw.Error):  # whatever broke the transaction may break its end
                    self._writer.execute("rollback")
            if not isinstance(error, Exception):
                raise
        finally:
            for pending in batch:
                pending.done = True

    def _wait_for_disk(self, full: bool) -> None:  # noqa: FBT001 - the one thing that it is about
        if full is not self._full:
            self._writer.execute(f"pragma synchronous = {'full' if full else 'normal'}")
            self._full = full

    def _run_one(self, pending: _Pending, *, alone: bool) -> None:
        if alone:
            pending.result = pending.work(RelationalTx(self._sql, self.clock))
            return
        self._writer.execute("savepoint closure")
        try:
            pending.result = pending.work(RelationalTx(self._sql, self.clock))
        except Exception as error:
            if self._writer.get_autocommit():  # SQLite has taken back the whole transaction
                raise
            pending.error = translated(error, self.path)
            self._writer.execute("rollback to closure")
        self._writer.execute("release closure")

    def insert(self, tx: Tx, jobs: Sequence[Job], waits: Sequence[Wait], slots: Mapping[str, int]) -> None:
        """Add new jobs."""
        self._writes.insert(_own(tx), jobs, waits, slots)

    def append(self, tx: Tx, job_id: str, event: Event, attempt: int | None = None) -> Change | None:
        """The one write of a job's life."""
        return self._writes.append(_own(tx), job_id, event, attempt)

    def release(self, tx: Tx, targets: Collection[str]) -> Sequence[Delivery]:
        """Make jobs of these targets deliverable."""
        return self._writes.release(_own(tx), targets)

    def put(self, tx: Tx, kind: str, key: str, doc: Mapping[str, Any], version: int | None = None) -> bool:
        """Store a document."""
        return self._writes.put(_own(tx), kind, key, doc, version)

    def measure(self, tx: Tx, sample: Measurement) -> None:
        """Keep a measurement."""
        self._writes.measure(_own(tx), sample)

    def report(self, job_id: str, attempt: int, progress: Progress | None) -> Control:
        """Keep the last progress of an attempt and learn what is wanted of it.

        Not worth a disk flush, which would also have the disk flush what the running operation has written so far.
        """
        return self.transact_lightly(lambda tx: self._writes.report(_own(tx), job_id, attempt, progress))

    def prune(self, before: datetime) -> int:
        """Remove runs that ended before that moment, a hundred in a transaction."""
        removed = 0
        while True:
            runs, jobs = self.transact(lambda tx: self._writes.prune_some(_own(tx), before))
            removed += jobs
            if not runs:
                return removed

    def migrate(self) -> None:
        """Apply the migrations that the file does not have."""
        self._check_process()
        with self._turn:
            try:
                _migrate(self._writer, self.path)
            except apsw.Error as error:
                raise translated(error, self.path) from error

    def close(self) -> None:
        """Close the connections of all threads."""
        if self._pid != os.getpid():
            return
        with self._turn, self._guard:
            for connection in list(self._opened):
                with suppress(apsw.Error):
                    connection.close()
            self._opened.clear()

    @override
    def reading(self) -> SqliteTx:
        """This thread's own connection for reads."""
        self._check_process()
        tx = getattr(self._local, "tx", None)
        if tx is None:
            connection = self._open()
            connection.pragma("query_only", value=True)
            tx = self._local.tx = _ReadingTx(connection, self.path)
        return cast("SqliteTx", tx)

    @override
    def query(self, text: str, values: Mapping[str, Any]) -> Sequence[Row]:
        """Run a composed statement."""
        return self.reading().text(text, values)

    def health(self) -> Health:
        """Sizes, counts and the result of a quick check."""
        tx = self.reading()
        verdict = str(tx.connection.execute("pragma quick_check(1)").get)
        sound = verdict == "ok"
        oldest = tx.one("oldest_pending") if sound else None
        return Health(
            ok=sound,
            location=str(self.path),
            version=int(cast("int", tx.connection.pragma("user_version"))),
            bytes=sum(part.stat().st_size for part in (self.path, Path(f"{self.path}-wal")) if part.exists()),
            jobs={row["status"]: row["n"] for row in tx.all("statuses")} if sound else {},
            oldest_pending_at=rows.moment_or_none(oldest["at"]) if oldest else None,
            message="" if sound else verdict,
        )

    def _open(self) -> apsw.Connection:
        try:
            connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
            connection.set_busy_timeout(BUSY_MS)
            # Else a statement that may use a partial index is prepared anew each time that a value is bound.
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
            _version(connection, self.path)
            connection.pragma("journal_mode", journal_mode(apsw.sqlite_lib_version()))
            connection.pragma("synchronous", "full")
            connection.pragma("foreign_keys", value=True)
        except apsw.Error as error:
            raise translated(error, self.path) from error
        with self._guard:
            self._opened.add(connection)
        return connection

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise LedgerError(
                "the ledger was opened before this process was forked",
                why="a SQLite connection must not be carried into a child process",
                hint="open the ledger in the child, or start children with the `spawn` method",
            )


def journal_mode(version: str) -> str:
    """WAL, except with libraries in which several processes can damage it."""
    return "wal" if tuple(int(part) for part in version.split(".")[:3]) >= WAL_RESET_BUG_FIXED else "delete"


def _own(tx: Tx) -> RelationalTx:
    return cast("RelationalTx", tx)


def _prepare(path: Path) -> None:
    """Make a ledger that only its owner may read where there is none; what exists already stays as it is."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _create(path)
        if not path.stat().st_size:
            raise LedgerError(
                f"the ledger {path} is empty",
                why="a ledger is never of 0 bytes, so this one was cut off or is something else; nothing was changed",
                hint="restore it from a copy, or remove the file to begin with a new one",
            )
        check_header(path)
    except OSError as error:
        raise LedgerError(
            f"cannot make the ledger {path}", why=str(error), hint="choose another place with --ledger"
        ) from error
    except apsw.Error as error:
        raise translated(error, path) from error


def check_header(path: Path) -> None:
    """Refuse a file that is no ledger before SQLite opens it, which could already change what lies beside it."""
    file = apsw.VFSFile("unix", str(path), [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0])
    try:
        header = file.xRead(min(path.stat().st_size, 100), 0)
    finally:
        file.xClose()
    if not header.startswith(b"SQLite format 3\0"):
        raise LedgerError(f"{path} is not a ledger of dbupkeep", why="it is not a database", hint=ELSEWHERE)
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise LedgerError(f"{path} is a database, but not a ledger of dbupkeep", hint=ELSEWHERE)
    _check_version(int.from_bytes(header[60:64], "big"), path)


def _check_version(version: int, path: Path) -> None:
    latest = migrations("sqlite")[-1][0]
    if version > latest:
        raise LedgerError(
            f"the ledger {path} is of a newer version ({version}) than this program knows ({latest})",
            hint="upgrade dbupkeep, or choose another ledger with --ledger; nothing was changed",
        )


def _create(path: Path) -> None:
    """Make a whole ledger beside the place and put it there at once: nobody ever sees half of one."""
    import tempfile  # once in a ledger's life

    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    os.close(descriptor)
    try:
        connection = apsw.Connection(name, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.pragma("journal_mode", journal_mode(apsw.sqlite_lib_version()))
            _migrate(connection, path)
        finally:
            connection.close()
        with suppress(FileExistsError):  # another process was faster
            os.link(name, path)
    finally:
        Path(name).unlink()


def _migrate(connection: apsw.Connection, path: Path) -> None:
    """Apply the migrations that the file does not have, all or none."""
    latest = migrations("sqlite")[-1][0]
    if _version(connection, path) == latest:
        return
    connection.execute("begin immediate")
    try:
        have = _version(connection, path)
        for number, _, text in migrations("sqlite"):
            if number > have:
                connection.execute(text).fetchall()
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", latest)
        connection.execute("commit")
    except BaseException:
        if not connection.get_autocommit():
            connection.execute("rollback")
        raise


def _version(connection: apsw.Connection, path: Path) -> int:
    """The schema version of a ledger; 0 for a new file. Raises `LedgerError` for any other database."""
    try:
        mark = connection.pragma("application_id")
        version = int(cast("int", connection.pragma("user_version")))
        tables = connection.execute("select count(*) from sqlite_schema").get
    except apsw.Error as error:
        raise translated(error, path) from error
    if mark != APPLICATION_ID and (mark or version or tables):
        raise LedgerError(f"{path} is a database, but not a ledger of dbupkeep", hint=ELSEWHERE)
    _check_version(version, path)
    return version


def translated(error: BaseException, path: Path) -> BaseException:
    """The driver's error in our words; ours as they are."""
    if not isinstance(error, Exception):
        return LedgerError(f"a change of the ledger {path} was interrupted", hint="nothing was changed; try again")
    if not isinstance(error, apsw.Error):
        return error
    hints: dict[type[Exception], str] = {
        apsw.NotADBError: ELSEWHERE,
        apsw.CorruptError: "it is damaged; nothing more is written to it. Restore it from a copy",
        apsw.FullError: "free some space; work that was running is taken up again",
        apsw.BusyError: "another process has kept it locked; see which with `dbupkeep doctor`",
        apsw.ReadOnlyError: "it cannot be written; check the rights of the file and its folder",
        apsw.CantOpenError: "it cannot be opened; check the rights of the file and its folder",
    }
    hint = next((text for cls, text in hints.items() if isinstance(error, cls)), "see `dbupkeep doctor`")
    translated = LedgerError(f"the ledger {path} cannot be used", why=str(error), hint=hint)
    translated.__cause__ = error
    return translated
