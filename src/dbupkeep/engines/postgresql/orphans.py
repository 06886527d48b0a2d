"""Sessions of lost attempts that are still on the server: waited for where their work is worth it, ended else.

Only sessions with exactly the mark of the lost attempt, or of one before it, and of this role are touched: they are ours,
and nobody waits for them. An attempt that was lost early may not have come to the end of the one before it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dbupkeep.engines.postgresql import needs
from dbupkeep.engines.postgresql.progress import of_reindex, of_rewrite, of_vacuum
from dbupkeep.errors import Busy
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem
from dbupkeep.progress import Progress

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

Row = Mapping[str, Any]

_BY_ITSELF = 2.5
"""Seconds in which a session whose client is dead ends by itself, where the server looks for that."""

_CANCEL = 2.0
"""Seconds that a cancelled orphan gets before its session is ended."""

_IDLE = 0.5
"""The same for one that does nothing: of a dead client it ends at once."""

_PAUSE = 0.1
_WAIT = 10.0

NEARLY = 0.5
"""The share of its work from which on an orphan is waited for, however little that is."""

DEAR = 256 * 1024 * 1024
"""Bytes of table or index from which on work is not given up for having lost its client."""

_VIEWS: Mapping[Operation, tuple[str, Callable[[Row], Progress]]] = {
    Operation.VACUUM: (
        "progress_vacuum",
        lambda row: of_vacuum(row, heap_pages=0, index_pages=0, dead=False),
    ),
    Operation.REINDEX: ("progress_reindex", of_reindex),
    Operation.OPTIMIZE: ("progress_rewrite", of_rewrite),
}


def settle(handle: Handle, item: PlanItem, tag: str) -> None:
    """Have the sessions of a lost attempt end: by their work, by themselves, cancelled, or ended. Raises `Busy` when one stays.

    When a stop is asked for, they are cancelled at once; what they leave is still to be cleared up.
    """
    tags, started = _up_to(tag), perf_counter()
    deadline = needs.number(item.options, "deadline")
    given = Counter[int]()  # looks at which each was not worth waiting for
    pause, cancelled = threading.Event(), set[int]()
    while orphans := handle.rows("orphans", {"tags": tags}):
        late = bool(deadline) and perf_counter() - started > deadline
        for row in orphans:
            if handle.stopping or late or not _worth_waiting_for(handle, item, row):
                given[row["pid"]] += 1
                _end(handle, row, given[row["pid"]] * _PAUSE, cancelled)
        if max(given.values(), default=0) * _PAUSE >= _BY_ITSELF + _CANCEL + _WAIT:
            raise Busy(
                "a session of the attempt before is still at work",
                why=f"pid {orphans[0]['pid']} ({tag}) does not end",
                hint="it comes back with the next run",
            )
        pause.wait(_PAUSE)


def _end(handle: Handle, row: Row, waited: float, cancelled: set[int]) -> None:
    """Cancel a session, and end it when that does not help; the server may have ended it by itself until then."""
    pid, at_work = row["pid"], row["state"] == "active"
    if waited >= (_BY_ITSELF + _CANCEL if at_work else _IDLE):
        handle.rows("SELECT pg_terminate_backend(%(pid)s)", {"pid": pid})
    elif at_work and (waited >= _BY_ITSELF or handle.stopping) and pid not in cancelled:
        cancelled.add(pid)
        handle.rows("SELECT pg_cancel_backend(%(pid)s)", {"pid": pid})


def _worth_waiting_for(handle: Handle, item: PlanItem, row: Row) -> bool:
    """Whether an orphan gets on with work that is nearly done, or that would cost much to do again."""
    if row["state"] != "active" or row["wait_event_type"] == "Lock" or item.operation not in _VIEWS:
        return False
    view, read = _VIEWS[item.operation]
    found = handle.rows(view, {"pid": row["pid"]})
    if not found:
        return False
    return (read(found[0]).fraction or 0.0) >= NEARLY or needs.number(item.evidence, "bytes") >= DEAR


def _up_to(tag: str) -> list[str]:
    """The marks of all attempts of a job up to one of them."""
    job, _, number = tag.rpartition(":")
    return [f"{job}:{n}" for n in range(1, int(number) + 1)] if job and number.isdecimal() else [tag]
