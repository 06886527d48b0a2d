"""Delivery inside the SQLite ledger: threads in the process, and several processes on one machine.

Leases are read on one clock only: seconds since the machine's start, valid for that start. A worker that went away
is noticed when its lease runs out, or sooner where the system says that its process has ended; what it held is handed
out before anything new.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from dbupkeep.clock import Clock, SystemClock, boot_id, is_gone, new_id, process_mark
from dbupkeep.errors import LedgerError
from dbupkeep.jobs import Delivery
from dbupkeep.queue import Handler, WorkerProcess
from dbupkeep.sql import HasSql, Row, SqlStore, SqlTx

if TYPE_CHECKING:
    from dbupkeep.ledger import Tx

R = TypeVar("R")

log = logging.getLogger(__name__)

LEASE = 30.0
"""Seconds that a silent worker keeps what it holds."""

GLANCE = 1.0
"""Seconds between looks at whether other worker processes have ended."""

QUICK, LAZY = 0.005, 0.25
"""Seconds between looks at an empty queue: soon after work, and at rest."""


def lease_seconds() -> float:
    """The lease length: `DBUPKEEP_LEASE` in seconds, or the default."""
    return float(os.environ.get("DBUPKEEP_LEASE") or LEASE)


class EmbeddedQueue:
    """The queue in the tables of a SQLite ledger."""

    def __init__(self, store: SqlStore, *, clock: Clock | None = None, lease: float | None = None) -> None:
        """Stand on the ledger's own database; `lease` is in seconds."""
        self._store = store
        self._clock = clock or SystemClock()
        self._lease = lease if lease is not None else lease_seconds()
        self._boot = boot_id()
        self._news = threading.Event()

    def enqueue(self, tx: Tx, deliveries: Sequence[Delivery]) -> None:
        """Add deliveries on the ledger's transaction."""
        sql = cast("HasSql", tx).sql
        now = self._clock.monotonic()
        for delivery in deliveries:
            sql.run(
                "delivery_insert",
                key=delivery.key,
                job_id=delivery.job_id,
                attempt=delivery.attempt,
                lane=delivery.lane,
                due=now + delivery.delay,
                boot=self._boot,
            )
        if deliveries:
            self._news.set()

    def serve(self, lanes: Sequence[str], slots: int, handler: Handler, stop: threading.Event) -> None:
        """Hand out deliveries until `stop` is set; returns when the handlers have."""
        worker = _Worker(self._store, self._clock, self._lease, self._boot, json.dumps(list(lanes)), self._news)
        threads = [
            threading.Thread(target=worker.slot, args=(handler, stop), name=f"dbupkeep-slot-{n}") for n in range(slots)
        ]
        worker.renew()
        for thread in threads:
            thread.start()
        beat = min(self._lease / 4, GLANCE)
        until_renewal = self._lease / 4
        while any(thread.is_alive() for thread in threads):
            worker.bury()
            if stop.wait(beat):
                self._news.set()  # nobody sleeps on
                _join(threads, self._lease / 4)
                until_renewal = 0
            until_renewal -= beat
            if until_renewal <= 0:
                until_renewal = self._lease / 4
                worker.renew()
        worker.leave()

    def missing(self, keys: Collection[str]) -> set[str]:
        """Which of these keys have no delivery."""
        known = self._store.reading().all("deliveries_known", keys=json.dumps(sorted(keys)))
        return set(keys) - {row["key"] for row in known}

    def workers(self) -> Sequence[WorkerProcess]:
        """The processes that serve or served lately."""
        sql, now = self._store.reading(), self._clock.monotonic()
        return [
            WorkerProcess(
                id=row["id"],
                lanes=tuple(json.loads(row["lanes"])),
                busy=tuple(held["key"] for held in sql.all("deliveries_of", worker=row["id"])),
                alive=row["boot"] == self._boot and row["lease"] >= now and not is_gone(row["process"]),
                seen_at=datetime.fromisoformat(row["seen_at"]),
            )
            for row in sql.all("workers")
        ]

    def prune(self) -> int:
        """Forget dead worker processes that hold nothing."""
        now = self._clock.monotonic()
        return self._store.transact(lambda tx: cast("HasSql", tx).sql.run("workers_prune", boot=self._boot, now=now))

    def migrate(self) -> None:
        """Nothing of its own: its tables come with the ledger's migrations."""

    def close(self) -> None:
        """Nothing of its own to let go of."""


class _Worker:
    """One process's share in serving: an identity, its slots, and the lease that it renews."""

    def __init__(
        self, store: SqlStore, clock: Clock, lease: float, boot: str, lanes: str, news: threading.Event
    ) -> None:
        self.id = new_id()
        self._store, self._clock, self._lease, self._boot, self._lanes = store, clock, lease, boot, lanes
        self._news = news
        self._process = process_mark()
        # What its slots have in hand. Only this is renewed, and none of it is taken for lost by this process itself,
        # however late it is (a suspended machine, a ledger that was locked).
        self._held: set[str] = set()
        self._guard = threading.Lock()

    def slot(self, handler: Handler, stop: threading.Event) -> None:
        """Take deliveries one after another until stopped; the last one is acknowledged with the next take."""
        done, rest, told = "", QUICK, False
        while not stop.is_set():
            try:
                delivery = self._take(done)
            except LedgerError as error:  # what is done stays to be acknowledged
                level = logging.WARNING if told else logging.ERROR  # who watches is told once
                log.log(level, "the ledger cannot be used; nothing new is taken", extra={"error": error.message})
                told = True
                stop.wait(LAZY)
                continue
            done, told = "", False
            if delivery is None:
                if self._news.wait(rest) and not stop.is_set():  # at a stop it stays set, for the other slots
                    self._news.clear()
                    rest = QUICK
                else:
                    rest = min(LAZY, rest * 2)
                continue
            rest = QUICK
            done = self._handle(handler, delivery)
            if not done:  # what could not be handled comes again, at a pace that leaves room for others
                stop.wait(LAZY)
        self._acknowledge(done)

    def _handle(self, handler: Handler, delivery: Delivery) -> str:
        try:
            handler(delivery, self.id)
        except (Exception, SystemExit):  # let the delivery come again, where its attempt is counted as lost
            log.exception("a delivery could not be handled", extra={"delivery": delivery.key})
            self._let_go(delivery.key)  # at the latest when its lease runs out
            self._try(lambda sql: sql.run("delivery_lose", key=delivery.key, worker=self.id))
            return ""
        return delivery.key

    def _take(self, done: str) -> Delivery | None:
        """The next delivery: one whose worker was lost before a new one."""
        if not done and self._next(self._store.reading()) is None:
            return None
        taken = self._transact(lambda sql: self._claim(sql, done))
        with self._guard:
            self._held.discard(done)
            if taken is not None:
                self._held.add(taken.key)
        return taken

    def _claim(self, sql: SqlTx, done: str) -> Delivery | None:
        if done:
            sql.run("delivery_done", key=done, worker=self.id)
        row = self._next(sql)
        if row is None:
            return None
        lease = self._clock.monotonic() + self._lease
        sql.run("delivery_take", key=row["key"], worker=self.id, lease=lease, boot=self._boot)
        return Delivery(job_id=row["job_id"], attempt=row["attempt"], lane=row["lane"])

    def _next(self, sql: SqlTx) -> Row | None:
        at = {"boot": self._boot, "now": self._clock.monotonic(), "lanes": self._lanes, "held": self._holding()}
        return sql.one("delivery_lost", **at) or sql.one("delivery_free", **at)

    def _acknowledge(self, done: str) -> None:
        if done:
            self._try(lambda sql: sql.run("delivery_done", key=done, worker=self.id))
            self._let_go(done)

    def _let_go(self, key: str) -> None:
        with self._guard:
            self._held.discard(key)

    def _holding(self) -> str:
        """The keys of what is held, as JSON."""
        with self._guard:
            return json.dumps(list(self._held))

    def renew(self) -> None:
        """Say that this process lives, and keep what it holds."""

        def write(sql: SqlTx) -> None:
            lease = self._clock.monotonic() + self._lease  # from when the ledger could be written
            seen_at = self._clock.now().isoformat()
            mine = {"id": self.id, "lanes": self._lanes, "boot": self._boot, "process": self._process}
            sql.run("worker_put", **mine, lease=lease, seen_at=seen_at)
            sql.run("deliveries_renew", lease=lease, worker=self.id, held=self._holding())

        self._try(write)

    def bury(self) -> None:
        """Let what ended processes held be handed out at once."""
        try:
            others = [row for row in self._store.reading().all("workers") if row["id"] != self.id and row["lease"] > 0]
        except LedgerError:
            return  # their leases run out all the same
        for other in others:
            if other["boot"] == self._boot and other["process"] and is_gone(other["process"]):
                log.info("a worker process has ended without a word", extra={"worker": other["id"]})
                self._try(partial(_bury, dead=other["id"]))

    def leave(self) -> None:
        """Say that this process is gone."""
        self._try(lambda sql: sql.run("worker_drop", id=self.id))

    def _try(self, work: Callable[[SqlTx], object]) -> None:
        """Write what may also be left to the end of the lease."""
        try:
            self._transact(work)
        except LedgerError as error:
            log.warning("the ledger cannot be used; a lease is left as it is", extra={"error": error.message})

    def _transact(self, work: Callable[[SqlTx], R]) -> R:
        """Who is on a delivery need not outlive a power failure: then nobody is."""
        return self._store.transact_lightly(lambda tx: work(cast("HasSql", tx).sql))


def _bury(sql: SqlTx, dead: str) -> None:
    sql.run("deliveries_dead", id=dead)
    sql.run("worker_dead", id=dead)


def _join(threads: Sequence[threading.Thread], seconds: float) -> None:
    """Wait a while for threads that are about to end."""
    for thread in threads:
        thread.join(seconds / len(threads))
