"""What only the embedded queue has: clocks that it sets leases by, and slots that outlive an outage of the ledger."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dbupkeep.errors import LedgerError
from dbupkeep.jobs import Delivery
from dbupkeep.ledgers.sqlite import SqliteLedger
from dbupkeep.queues import embedded
from dbupkeep.queues.embedded import EmbeddedQueue, _Worker
from dbupkeep.testing.pair_kit import eventually, serving

LEASE = 2.0


class Clock:
    def __init__(self) -> None:
        self.wall, self.seconds = datetime(2026, 1, 1, tzinfo=UTC), 100.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    opened = SqliteLedger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def enqueue(ledger: SqliteLedger, queue: EmbeddedQueue, *names: str) -> None:
    ledger.transact(lambda tx: queue.enqueue(tx, [Delivery(job_id=name, attempt=1) for name in names]))


def worker(ledger: SqliteLedger, clock: Clock, boot: str) -> _Worker:
    return _Worker(ledger, clock, LEASE, boot, "[]", threading.Event())


@pytest.mark.parametrize("jump", [timedelta(days=-365), timedelta(hours=-1), timedelta(hours=1), timedelta(days=365)])
def test_the_wall_clock_moves_no_lease(ledger: SqliteLedger, jump: timedelta) -> None:
    clock = Clock()
    queue = EmbeddedQueue(ledger, clock=clock, lease=LEASE)
    enqueue(ledger, queue, "a")
    one, other = (worker(ledger, clock, queue._boot) for _ in range(2))
    assert one._take("") is not None
    clock.wall += jump
    assert other._take("") is None, "a lease was ended by the wall clock"
    clock.seconds += LEASE - 0.1
    assert other._take("") is None
    clock.seconds += 0.2
    clock.wall -= 2 * jump
    assert other._take("") is not None, "a lease was kept by the wall clock"


def test_leases_of_another_start_of_the_machine_are_over(ledger: SqliteLedger) -> None:
    clock = Clock()
    queue = EmbeddedQueue(ledger, clock=clock, lease=LEASE)
    enqueue(ledger, queue, "a")
    assert worker(ledger, clock, queue._boot)._take("") is not None
    assert worker(ledger, clock, queue._boot)._take("") is None
    clock.seconds = 0.0  # the count of seconds begins anew with the machine
    assert worker(ledger, clock, "the next start")._take("") is not None


class Outage:
    """A store that can be broken for a while."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self.ledger, self.broken, self.refused = ledger, False, 0

    def _check(self) -> None:
        if self.broken:
            self.refused += 1
            raise LedgerError("the ledger cannot be used")

    def transact(self, work: Callable[[Any], Any]) -> Any:
        self._check()
        return self.ledger.transact(work)

    def transact_lightly(self, work: Callable[[Any], Any]) -> Any:
        self._check()
        return self.ledger.transact_lightly(work)

    def reading(self) -> Any:
        self._check()
        return self.ledger.reading()


def test_slots_outlive_an_outage(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(embedded, "LAZY", 0.01)
    outage = Outage(ledger)
    queue = EmbeddedQueue(outage, lease=LEASE)
    enqueue(ledger, queue, "a")
    handled: list[str] = []

    def handler(delivery: Delivery, worker: str) -> None:
        handled.append(delivery.key)
        if len(handled) == 1:
            outage.broken = True
            raise LedgerError("the ledger cannot be used")

    with serving(queue, handler, slots=2):
        eventually("the outage is noticed", lambda: outage.refused > 5)
        outage.broken = False
        eventually("what could not be handled comes again", lambda: len(handled) == 2)
        enqueue(ledger, queue, "b")
        eventually("the slots still work", lambda: "b/1" in handled)
    levels = [record.levelname for record in caplog.records if "nothing new is taken" in record.message]
    assert "ERROR" in levels, "who watches the run is not told why it stands still"
    assert levels.count("ERROR") <= 2, "each slot says it once"
    assert handled == ["a/1", "a/1", "b/1"]


def test_an_outage_at_the_end_does_not_keep_a_process(ledger: SqliteLedger) -> None:
    outage = Outage(ledger)
    queue = EmbeddedQueue(outage, lease=LEASE)
    enqueue(ledger, queue, "a")
    handled: list[str] = []
    with serving(queue, lambda delivery, worker: handled.append(delivery.key)) as stop:
        eventually("it is handled", lambda: handled)
        outage.broken = True
        stop.set()
    assert handled == ["a/1"]


def test_a_handler_that_wants_to_exit_loses_its_delivery_alone(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "LAZY", 0.01)
    queue = EmbeddedQueue(ledger, lease=LEASE)
    enqueue(ledger, queue, "a")
    handled: list[str] = []

    def handler(delivery: Delivery, worker: str) -> None:
        handled.append(delivery.key)
        if len(handled) < 3:
            raise SystemExit(1)

    with serving(queue, handler):
        eventually("it comes again", lambda: len(handled) == 3)


def test_connections_end_with_their_threads(ledger: SqliteLedger) -> None:
    queue = EmbeddedQueue(ledger, lease=LEASE)
    for _ in range(20):
        with serving(queue, lambda delivery, worker: None, slots=3):
            pass
    gc.collect()
    assert len(ledger._opened) <= 3
