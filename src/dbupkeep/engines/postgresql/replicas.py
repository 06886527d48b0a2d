"""Waits for replicas that are behind before WAL is added that they would have to catch up with."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dbupkeep.definitions import Setting
from dbupkeep.engine import Report
from dbupkeep.engines.postgresql import needs, words
from dbupkeep.errors import Busy
from dbupkeep.facts import Value
from dbupkeep.plans import PlanItem
from dbupkeep.progress import Progress

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

LIMITS: Mapping[str, Setting] = {"max_lag_bytes": 64 * 1024 * 1024, "max_lag": 10.0, "lag_patience": 300.0}
"""From which bytes or seconds of lag on nothing is started, and for how many seconds it is waited for; 0: no limit."""

_PAUSE = 0.5
_NOTED = 0.4
"""Seconds from which on a wait is told."""


def wait(handle: Handle, item: PlanItem, report: Report) -> dict[str, Value]:
    """Wait until all replicas are near enough; returns the seconds as evidence. Raises `Busy` when that takes too long.

    What the role may not see (without pg_monitor) does not count.
    """
    started = perf_counter()
    while behind := _behind(item, handle.row("replication")):
        report.progress(Progress(stage=f"waiting for a replica: {behind}"))
        handle.pause(_PAUSE)
        waited = perf_counter() - started
        if waited >= needs.number(item.options, "lag_patience"):
            raise Busy(
                "a replica is too far behind",
                why=f"{behind}, waited for {words.duration(waited)}",
                hint="let it catch up; it comes back with the next run",
            )
    waited = perf_counter() - started
    return {"replica_wait_seconds": round(waited, 3)} if waited > _NOTED else {}


def _behind(item: PlanItem, row: Mapping[str, Any]) -> str:
    """How far the slowest replica is behind, when that is too far."""
    most_bytes, most_seconds = needs.number(item.options, "max_lag_bytes"), needs.number(item.options, "max_lag")
    lag, seconds = row["lag_bytes"] or 0, row["lag_seconds"] or 0.0
    if most_bytes and lag > most_bytes:
        return f"{words.size(lag)} behind, more than {words.size(most_bytes)}"
    if most_seconds and seconds > most_seconds and lag:
        return f"{words.duration(seconds)} behind, more than {words.duration(most_seconds)}"
    return ""
