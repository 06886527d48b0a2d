"""incremental_vacuum in slices: gives back a few pages at a time, so that other writers hardly notice."""

from __future__ import annotations

from functools import partial
from time import perf_counter

from dbupkeep.engine import Report, Work
from dbupkeep.engines.sqlite.handle import Handle
from dbupkeep.engines.sqlite.in_place import checkpoint
from dbupkeep.engines.sqlite.sizes import measure
from dbupkeep.plans import PlanItem
from dbupkeep.progress import measured

METHOD = "incremental"

_LEAST = 16
"""Pages of the first slice, and of every one: a commit takes its time however few they are, so one page each would take hours."""

_SHARE = 0.2
"""A slice aims at this part of the allowed stall: a slow commit then still ends in time."""

_LONGEST = 0.2
_PAUSE = 0.03
"""Seconds left to others between two slices at least: three turns of a program that writes a hundred times a second."""


def run(handle: Handle, item: PlanItem, report: Report) -> Work:
    """Free all free pages. Raises `Busy` or `Interrupted`; what was freed by then stays freed."""
    started = perf_counter()
    before = measure(handle)
    aim = min(_LONGEST, _SHARE * float(item.options.get("max_stall") or 1))
    pages, longest, slices, slept = _LEAST, 0.0, 0, 0.0
    report.stage("freeing pages in slices")
    while left := int(handle.pragma("freelist_count")):
        report.progress(measured(before.free_pages - left, before.free_pages, "pages"))
        taken = handle.patiently(partial(_slice, handle, pages), item)
        longest, slices = max(longest, taken), slices + 1
        pages = _resized(pages, taken, aim)
        slept += max(_PAUSE, taken)
        handle.pause(max(_PAUSE, taken))
    checkpoint(handle, report)
    return Work(
        seconds=perf_counter() - started,
        stall_seconds=longest,
        before=before.values(),
        values={"slices": slices, "throttled_seconds": round(slept, 3)},
    )


def _slice(handle: Handle, pages: int) -> float:
    with handle.holding_lock() as held:
        handle.rows(f"PRAGMA incremental_vacuum({int(pages)})", stage="freeing pages")
    return held.stall


def _resized(pages: int, taken: float, aim: float) -> int:
    """The next slice by the speed of the last one, growing at most twofold."""
    wanted = pages * aim / max(taken, 1e-6)
    return max(_LEAST, int(min(2 * pages, wanted)))
