"""The shared ledger: a PostgreSQL database, for many machines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Any, TypeVar, cast

import psycopg
from psycopg import errors as server
from typing_extensions import override

from dbupkeep.clock import Clock, SystemClock
from dbupkeep.errors import LedgerError
from dbupkeep.estimates import Measurement
from dbupkeep.events import Event
from dbupkeep.jobs import Delivery, Job, Phase
from dbupkeep.ledger import Change, Control, Health, Tx, Wait
from dbupkeep.ledgers import rows
from dbupkeep.ledgers.postgresql.sessions import SCHEMA, Address, Connection, Pool
from dbupkeep.ledgers.postgresql.statements import Outside, PostgresqlSql, in_psycopg, raise_translated
from dbupkeep.ledgers.reads import RelationalReads
from dbupkeep.ledgers.relational import RelationalTx, RelationalWrites
from dbupkeep.ledgers.trails import RelationalTrail
from dbupkeep.progress import Progress
from dbupkeep.sql import Row, migrations

T = TypeVar("T")

TRIES = 8
"""How often a transaction is run that meets others or loses its connection; with the pauses, some seconds."""

PAUSE = 0.02
"""Seconds before the second try; doubled with each."""

CONFLICTS = (server.SerializationFailure, server.DeadlockDetected)


class PostgresqlTx(RelationalTx):
    """An open transaction.

    Order of locks: the run (its root's row), then targets, then rows. All changes within a run meet at its parents
    anyway, so they take turns from the start and never wait for each other crosswise; what crosses runs is released
    under the lock of its target.
    """

    def __init__(self, sql: PostgresqlSql, clock: Clock) -> None:
        """Begin with nothing locked."""
        super().__init__(sql, clock)
        self._runs: set[str] = set()
        self._targets: set[str] = set()

    @override
    def job(self, job_id: str) -> Job | None:
        """One job, as it is once its run and its target are locked."""
        job = super().job(job_id)
        if job is None or not self._lock_around(job):
            return job
        self.forget(job_id)
        return super().job(job_id)

    @override
    def lock_target(self, target: str) -> bool:
        """See that nobody else releases on a target; whether that had to be waited for."""
        if target in self._targets:
            return False
        self._targets.add(target)
        if self.sql.one("target_lock", target=target) is None:
            self.sql.run("target_known", target=target)
            self.sql.one("target_lock", target=target)
        return True

    @override
    def get(self, kind: str, key: str) -> Mapping[str, Any] | None:
        """A document, locked."""
        row = self.sql.one("document_locked", kind=kind, key=key)
        return rows.load(row["doc"]) if row else None

    def _lock_around(self, job: Job) -> bool:
        waited = job.correlation_id not in self._runs
        if waited:
            self.sql.one("run_lock", id=job.correlation_id)
            self._runs.add(job.correlation_id)
        if job.phase is Phase.EXECUTION and job.target:
            waited |= self.lock_target(job.target)
        return waited


class PostgresqlLedger(RelationalReads, RelationalTrail):
    """Ledger and Reader on one PostgreSQL database."""

    def __init__(self, location: str, clock: Clock | None = None) -> None:
        """Take a url; nothing is connected yet. Raises `LedgerError` when it is malformed."""
        self.clock = clock or SystemClock()
        self.address = Address(location)
        self._pool = Pool(self.address)
        self._outside = Outside(self._pool, self.address)
        self._writes = RelationalWrites()
        self._rest = threading.Event()

    @override
    def transact(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction, again where it met another one or lost its connection before the commit."""
        for turn in count(1):
            try:
                return self._transact_once(work)
            except CONFLICTS as error:
                if turn >= TRIES:
                    raise_translated(error, self.address)
            except _Lost as lost:
                if lost.xid and self._committed(lost.xid):
                    return cast("T", lost.result)
                if turn >= TRIES:
                    raise_translated(lost.error, self.address)
            self._rest.wait(PAUSE * 2**turn)
        raise AssertionError  # pragma: no cover - the last turn returns or raises

    def transact_lightly(self, work: Callable[[Tx], T]) -> T:
        """As `transact`."""
        return self.transact(work)

    def _transact_once(self, work: Callable[[Tx], T]) -> T:
        with self._pool.lent() as connection:
            sql = PostgresqlSql(connection)
            xid: str = ""
            result: Any = None
            try:
                number = sql.begin()
                result = work(PostgresqlTx(sql, self.clock))
                xid = number
                sql.commit()
            except CONFLICTS:
                _take_back(connection)
                raise
            except psycopg.Error as error:
                _take_back(connection)
                if connection.closed:
                    self._pool.drop_idle()
                    raise _Lost(error, xid, result) from None
                raise_translated(error, self.address)
            except BaseException:
                _take_back(connection)
                raise
            return cast("T", result)

    def _committed(self, xid: str) -> bool:
        """Whether a transaction was committed whose connection broke while it was. Raises `LedgerError`."""
        for turn in range(TRIES):
            try:
                row = self._outside.one("outcome", xid=xid)
            except LedgerError:
                if turn == TRIES - 1:
                    raise
            else:
                outcome = row["outcome"] if row else None
                if outcome in ("committed", "aborted"):
                    return bool(outcome == "committed")
            self._rest.wait(PAUSE * 2 ** (turn + 1))
        raise LedgerError(
            f"the ledger {self.address} was lost while a change was committed",
            why="whether the change was made cannot be found out",
            hint="look with `dbupkeep jobs` before you do it again",
        )

    def insert(self, tx: Tx, jobs: Sequence[Job], waits: Sequence[Wait], slots: Mapping[str, int]) -> None:
        """Add new jobs."""
        self._writes.insert(_own(tx), jobs, waits, slots)

    def append(self, tx: Tx, job_id: str, event: Event, attempt: int | None = None) -> Change | None:
        """The one write of a job's life."""
        return self._writes.append(_own(tx), job_id, event, attempt)

    def release(self, tx: Tx, targets: Collection[str]) -> Sequence[Delivery]:
        """Make jobs deliverable."""
        return self._writes.release(_own(tx), targets)

    def report(self, job_id: str, attempt: int, progress: Progress | None) -> Control:
        """Keep progress, learn what is wanted."""
        return self._writes.report(RelationalTx(self._outside, self.clock), job_id, attempt, progress)

    def put(self, tx: Tx, kind: str, key: str, doc: Mapping[str, Any], version: int | None = None) -> bool:
        """Store a document."""
        return self._writes.put(_own(tx), kind, key, doc, version)

    def measure(self, tx: Tx, sample: Measurement) -> None:
        """Keep a measurement."""
        self._writes.measure(_own(tx), sample)

    def prune(self, before: datetime) -> int:
        """Remove old runs, some at a time."""
        removed = 0
        while True:
            runs, jobs = self.transact(lambda tx: self._writes.prune_some(_own(tx), before))
            removed += jobs
            if not runs:
                return removed

    def migrate(self) -> None:
        """Apply the migrations that the database does not have."""
        try:
            with self._pool.lent() as connection, connection.transaction():
                connection.execute("select pg_advisory_xact_lock(hashtextextended('dbupkeep schema', 0))")
                _apply_missing(connection, self.address)
        except (LedgerError, psycopg.Error) as error:
            self._pool.drop_idle()
            raise_translated(error, self.address)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    @override
    def reading(self) -> Outside:
        """Statements outside of a transaction."""
        return self._outside

    @override
    def query(self, text: str, values: Mapping[str, Any]) -> Sequence[Row]:
        """Run a composed statement."""
        return self._outside.text(in_psycopg(text), values)

    def health(self) -> Health:
        """Sizes and counts."""
        oldest = self._outside.one("oldest_pending")
        version = self._outside.one("version") or {"version": 0}
        return Health(
            ok=True,
            location=str(self.address),
            version=version["version"],
            bytes=(self._outside.one("bytes") or {"bytes": 0})["bytes"],
            jobs={row["status"]: row["n"] for row in self._outside.all("statuses")},
            oldest_pending_at=rows.moment_or_none(oldest["at"]) if oldest else None,
        )


class _Lost(Exception):
    """The connection broke; with `xid`, while the transaction was being committed."""

    def __init__(self, error: psycopg.Error, xid: str, result: object) -> None:
        super().__init__()
        self.error, self.xid, self.result = error, xid, result


def _own(tx: Tx) -> RelationalTx:
    return cast("RelationalTx", tx)


def _take_back(connection: Connection) -> None:
    """End a transaction that failed; a connection on which that is not possible is closed."""
    try:
        connection.execute("rollback")
    except psycopg.Error:
        connection.close()


def _version(connection: Connection) -> int:
    """The schema version of a ledger; 0 where there is none."""
    there = connection.execute(f"select to_regclass('{SCHEMA}.schema_version') is not null as it").fetchone()
    if there is None or not there["it"]:
        return 0
    row = connection.execute(f"select version from {SCHEMA}.schema_version").fetchone()  # noqa: S608 - a fixed name
    return int(row["version"]) if row else 0


def _apply_missing(connection: Connection, address: Address) -> None:
    """Apply the migrations that are missing, in the transaction that is open. Raises `LedgerError` for a newer one."""
    have, latest = _version(connection), migrations("postgresql")[-1][0]
    if have > latest:
        raise LedgerError(
            f"the ledger {address} is of a newer version ({have}) than this program knows ({latest})",
            hint="upgrade dbupkeep, or choose another ledger with --ledger",
        )
    if have == latest:
        return
    if not connection.execute("select 1 from pg_namespace where nspname = %s", [SCHEMA]).fetchone():
        connection.execute(f"create schema {SCHEMA}")
    connection.execute("create table if not exists schema_version (version integer not null)")
    for number, _, text in migrations("postgresql"):
        if number > have:
            connection.execute(text.encode())
            connection.execute("delete from schema_version")
            connection.execute("insert into schema_version values (%s)", [number])
