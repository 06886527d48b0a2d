"""Delivery by PgQueuer, in the database of the PostgreSQL ledger: for many machines.

Of PgQueuer we use tables, hand-out and heartbeat; statuses, schedules, limits and retries are not used. What the port
promises beyond it is little and stands in `fenced.py`; docs/decisions/0003-ledger-and-queue.md says why.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

import psycopg

from dbupkeep.clock import Clock
from dbupkeep.errors import LedgerError
from dbupkeep.jobs import Delivery
from dbupkeep.ledger import Tx
from dbupkeep.queue import Handler, WorkerProcess
from dbupkeep.sql import HasSql, Row, SqlTx

T = TypeVar("T")

LEASE = 30.0
"""Seconds that a silent worker keeps what it holds."""


class NativeSql(SqlTx, Protocol):
    """Statements in the server's own notation too."""

    def native(self, text: str, *values: Any) -> list[Row]:  # noqa: ANN401 - what the driver can bind
        """Run a statement with `$1` parameters and return its rows."""
        ...


class Address(Protocol):
    """Where a server is."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """All that a connection is made with, secrets included."""
        ...


class Store(Protocol):
    """A ledger on PostgreSQL, as far as a queue in its database needs it."""

    @property
    def address(self) -> Address:
        """Where it is."""
        ...

    def transact(self, work: Callable[[Any], T]) -> T:
        """Run a closure in a transaction of its own."""
        ...

    def reading(self) -> NativeSql:
        """Statements outside of a transaction."""
        ...


def lease_seconds() -> float:
    """The lease length: `DBUPKEEP_LEASE` in seconds, or the default."""
    return float(os.environ.get("DBUPKEEP_LEASE") or LEASE)


class PgqueuerQueue:
    """The queue in PgQueuer's tables, beside those of the ledger."""

    def __init__(self, store: Store, *, clock: Clock | None = None, lease: float | None = None) -> None:
        """Stand on the ledger's own database; `lease` is in seconds. Leases are read on the server's clock."""
        self._store = store
        self._lease = lease if lease is not None else lease_seconds()

    def enqueue(self, tx: Tx, deliveries: Sequence[Delivery]) -> None:
        """Add deliveries on the ledger's transaction."""
        if deliveries:
            from dbupkeep.queues.pgqueuer import tables

            sql = cast("NativeSql", cast("HasSql", tx).sql)
            sql.native(tables.enqueueing(), *tables.enqueued(deliveries))

    def serve(self, lanes: Sequence[str], slots: int, handler: Handler, stop: threading.Event) -> None:
        """Hand out deliveries until `stop` is set; returns when the handlers have. Raises `LedgerError`."""
        from dbupkeep.queues.pgqueuer.serving import Server

        server = Server(self._store, self._lease, lanes, slots, handler)
        try:
            _on_a_loop(lambda: server.serve(stop))
        except psycopg.Error as error:
            raise LedgerError(
                "deliveries can no longer be taken", why=type(error).__name__, hint="see `dbupkeep doctor`"
            ) from None

    def missing(self, keys: Collection[str]) -> set[str]:
        """Which of these keys have no delivery."""
        if not keys:
            return set()
        known = self._store.reading().all("deliveries_known", keys=sorted(keys))
        return set(keys) - {row["dedupe_key"] for row in known}

    def workers(self) -> Sequence[WorkerProcess]:
        """The processes that serve or served lately."""
        sql = self._store.reading()
        held: dict[str, list[str]] = {}
        for row in sql.all("deliveries_held"):
            held.setdefault(row["worker"], []).append(row["dedupe_key"])
        return [
            WorkerProcess(
                id=row["id"],
                lanes=tuple(row["lanes"]),
                busy=tuple(held.get(row["id"], ())),
                alive=row["alive"],
                seen_at=row["seen_at"],
            )
            for row in sql.all("workers")
        ]

    def prune(self) -> int:
        """Forget dead worker processes that hold nothing, and what PgQueuer logged."""
        sql = self._store.reading()
        sql.run("delivery_log_prune")
        return sql.run("workers_prune")

    def migrate(self) -> None:
        """Install PgQueuer's tables, or bring them up to the version that is installed here. Raises `LedgerError`."""
        from dbupkeep.queues.pgqueuer import tables

        made_by = tables.number_of(self._store.reading().native(tables.MADE_BY)[0]["comment"])
        mine = tables.number_of(tables.mark())
        if made_by[:2] > mine[:2]:
            raise LedgerError(
                "the ledger's deliveries are of a newer PgQueuer than this program has",
                hint="upgrade dbupkeep here too",
            )
        if made_by < mine:
            _on_a_loop(lambda: tables.migrate(self._store.address.parameters))

    def close(self) -> None:
        """Nothing of its own to let go of."""


def _on_a_loop(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine to its end on an event loop in a thread of its own: the caller's may have one already."""
    faults: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread below
            faults.append(error)

    thread = threading.Thread(target=run, name="dbupkeep-pgqueuer")
    thread.start()
    thread.join()
    if faults:
        raise faults[0]
