"""The port to delivery: who is on a job now. What is true of the job is the ledger's to say.

A delivery is `(job, attempt)` and that pair is its key: a delivery that a lost worker held comes again with the same
key, and `lifecycle.begin` decides what that means. Nothing here knows of statuses, limits or retries.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from dbupkeep.jobs import Delivery
from dbupkeep.ledger import Tx


class WorkerProcess(Struct, frozen=True, kw_only=True):
    """A process that takes deliveries, as the queue knows it."""

    id: str  # random for each start
    lanes: tuple[str, ...]  # empty: all
    busy: tuple[str, ...]  # keys of the deliveries it holds
    alive: bool  # whether its lease is current, and it is not known to have ended
    seen_at: datetime


class Handler(Protocol):
    """What `serve` calls for each delivery, on a thread of its own."""

    def __call__(self, delivery: Delivery, worker: str) -> None:
        """Deal with the delivery; when this returns it is gone, when the process dies it comes again."""
        ...


class Queue(Protocol):
    """Delivery of attempts to worker processes."""

    def enqueue(self, tx: Tx, deliveries: Sequence[Delivery]) -> None:
        """Add deliveries on the ledger's transaction; one that is there already stays as it is."""
        ...

    def serve(self, lanes: Sequence[str], slots: int, handler: Handler, stop: threading.Event) -> None:
        """Hand deliveries of these lanes (none named: all) to `handler`, `slots` at a time, until `stop` is set.

        Returns when the handlers have. Renews each lease while its handler runs; deliveries whose lease ran out
        are handed out again, before new ones.
        """
        ...

    def missing(self, keys: Collection[str]) -> set[str]:
        """Which of these keys have no delivery."""
        ...

    def workers(self) -> Sequence[WorkerProcess]:
        """The processes that serve or served lately."""
        ...

    def prune(self) -> int:
        """Forget dead worker processes; returns how many."""
        ...

    def migrate(self) -> None:
        """Bring the tables up to date; safe to repeat and to run from several processes."""
        ...

    def close(self) -> None:
        """Let go of everything; safe to repeat."""
        ...
