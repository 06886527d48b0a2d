"""CHECK: quick_check or integrity_check; it only reads."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import apsw

from dbupkeep.engine import Evidence, Report, Work
from dbupkeep.engines.sqlite import words
from dbupkeep.engines.sqlite.handle import HANDLER_OPS, Handle
from dbupkeep.engines.sqlite.inquiry import Draft, Inquiry, decide
from dbupkeep.engines.sqlite.progress import followed
from dbupkeep.engines.sqlite.schema import entries
from dbupkeep.engines.sqlite.sizes import Sizes, measure
from dbupkeep.engines.sqlite.statistics import row_counts
from dbupkeep.errors import Damaged, UsageError
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem, Proposal, Source
from dbupkeep.progress import Progress, measured

SUMMARY = "quick_check, or integrity_check, which also compares every index with its table"

METHODS = ("quick_check", "integrity_check")

_CACHE_KIB = 32_000
"""SQLite's page cache for the time of a check. Every entry of an index is looked up in its table: with room for the
table's inner pages, and leaves of a table of some 100 MB, a check takes a quarter to a third less CPU than with the
default of 2,000; twice as much gains nothing."""

_STEPS_A_ROW = 7
_STEPS_AN_ENTRY = 5
"""SQLite's steps for a row, and for its entry in an index, counted on tables of a few columns."""

_OF_INDEX = re.compile(
    r"(?:missing from|entries in|entry in|values differ from|end-of-record for row \d+ of) index (?P<name>.+)$",
    re.DOTALL,
)


def propose(q: Inquiry) -> list[Proposal]:
    """A check is always due when it is asked for. Pure."""
    method = str(q.setting("method"))
    if method not in METHODS:
        raise UsageError(f"no check is called {method}", hint=f"set check.method to {' or '.join(METHODS)}")
    last = q.history.last(Operation.CHECK)
    ago = f"the last one was on {last.at:%Y-%m-%d}" if last else "no earlier one is on record"
    return [
        decide(
            q,
            Draft(
                reason=f"asked for; {ago}; {words.size(q.count('live_bytes'))} to read",
                method=method,
                locks="it only reads: nobody waits"
                if q.wal
                else "it only reads, but in a rollback journal mode writers cannot commit until it is done",
                estimate=q.estimate(q.count("live_bytes")),
                options=q.options(max_faults=int(q.threshold("max_faults"))),
                evidence=q.evidence(),
                stalls=not q.wal,
            ),
        )
    ]


def run(handle: Handle, item: PlanItem, report: Report, tag: str) -> Work:
    """Read it all. Raises `Busy`, `Interrupted`, or `Damaged` where it cannot even be read."""
    before = measure(handle)
    method = item.method if item.method in METHODS else METHODS[0]
    total = _steps(handle, method) / HANDLER_OPS
    report.stage(method.replace("_", " "))
    handle.callbacks = 0
    follow = followed(report, lambda: _progress(handle.callbacks, total))
    with follow, roomy_cache(handle), handle.holding_lock() as held:
        sql = f"PRAGMA {method}({int(item.options.get('max_faults') or 100)})"
        found = handle.patiently(lambda: handle.rows(sql, stage="checking"), item)
    faults = [fault for row in found if row[0] != "ok" for fault in _separate(str(row[0]))]
    return Work(
        seconds=held.seconds,
        stall_seconds=0.0 if handle.header.wal else held.stall,
        before=before.values(),
        values={"faults": len(faults)},
        messages=tuple(faults),
    )


def verify(handle: Handle, item: PlanItem, work: Work) -> Evidence:
    """Sound, or `Damaged` with the faults and what repairs them."""
    if work.messages:
        raise damaged(handle, work.messages)
    before = Sizes.of(work.before)
    return Evidence(
        effective=Effective.YES,
        reason=f"{item.method.replace('_', ' ')} found no fault in {words.size(before.live_bytes)}",
        before=before.values(),
        after=measure(handle).values(),
        values=dict(work.values),
        work_bytes=before.live_bytes,
    )


@contextmanager
def roomy_cache(handle: Handle) -> Iterator[None]:
    """Let SQLite keep more pages in memory for the time of a check."""
    usual = int(handle.pragma("cache_size"))
    handle.pragma("cache_size", -_CACHE_KIB)
    try:
        yield
    finally:
        handle.pragma("cache_size", usual)


def damaged(handle: Handle, faults: Sequence[str]) -> Damaged:
    """The error for what a check found; damage in indexes alone can be repaired by REINDEX."""
    indexes = {match["name"] for fault in faults if (match := _OF_INDEX.search(fault))}
    only_indexes = all(_OF_INDEX.search(fault) for fault in faults)
    repair = (
        f"the rows are sound, only indexes are not: `dbupkeep run {shlex.quote(str(handle.path))} --operations reindex`"
        " rebuilds them"
        if only_indexes
        else "stop writing to it, keep a copy of the file with its -wal or -journal, and restore a backup"
    )
    shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")  # noqa: PLR2004
    return Damaged(f"{handle.path} is corrupt", why=shown, hint=repair, objects=tuple(sorted(indexes)))


def _separate(row: str) -> list[str]:
    """What SQLite says of pages comes in one row, below a headline; names in other rows may have line ends of their own."""
    return row.split("\n")[1:] if row.startswith("*** in database ") else [row]


def known_damage(q: Inquiry) -> list[str]:
    """The indexes that the last check found damaged, and that no REINDEX has rebuilt since. Pure."""
    last = q.history.last(Operation.CHECK)
    if last is None:
        return []
    names = [str(name) for name in json.loads(str(last.values.get("damaged") or "[]"))]
    whole = q.history.last(Operation.REINDEX)
    if whole and whole.at > last.at:
        return []
    rebuilt = ((name, q.history.last(Operation.REINDEX, name)) for name in names)
    return [name for name, run in rebuilt if run is None or run.at <= last.at]


def _progress(callbacks: int, total: float) -> Progress:
    """Counted steps over an estimate of all: so an estimate."""
    progress = measured(callbacks, total, "steps")
    known = progress.fraction is not None
    return Progress(
        current=progress.current,
        total=progress.total,
        unit="steps",
        fraction=progress.fraction,
        source=Source.ESTIMATED if known else Source.UNKNOWN,
    )


def _steps(handle: Handle, method: str) -> float:
    found = entries(handle)
    tables = [e.name for e in found if e.kind == "table" and not e.virtual]
    try:
        rows = row_counts(handle.connection, tables)
    except apsw.Error:
        return 0.0  # its damage is what the check is about to find
    indexes = [rows.get(e.table, 0) for e in found if e.kind == "index"] if method == "integrity_check" else []
    return _STEPS_A_ROW * sum(rows.values()) + _STEPS_AN_ENTRY * sum(indexes)
