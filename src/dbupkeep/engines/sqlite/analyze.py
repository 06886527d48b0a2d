"""ANALYZE: fresh statistics for the tables whose own are missing or outgrown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from time import perf_counter

from msgspec import Struct
from msgspec.structs import replace

from dbupkeep.engine import Evidence, Report, Work
from dbupkeep.engines.sqlite import words
from dbupkeep.engines.sqlite.faults import told
from dbupkeep.engines.sqlite.handle import Handle
from dbupkeep.engines.sqlite.inquiry import Draft, Inquiry, decide
from dbupkeep.engines.sqlite.schema import entries
from dbupkeep.engines.sqlite.sizes import Sizes, measure
from dbupkeep.engines.sqlite.statistics import analyzed, quoted, staleness
from dbupkeep.facts import Notice
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem, Proposal
from dbupkeep.progress import measured

SUMMARY = "ANALYZE of tables whose sqlite_stat1 rows are missing or whose size moved tenfold, with an analysis_limit"

_HOLD = 0.1
"""Seconds after which the write lock is given up between two tables."""

_LIMITED_PART = 2
"""A limited ANALYZE reads about so much less than a full one: SQLite built with STAT4 first counts every index entry."""


def propose(q: Inquiry) -> list[Proposal]:
    """Decide by what SQLite's own rule calls stale. Pure."""
    tables = q.names("stale_tables")
    if not tables and not q.policy.force:
        return [q.skip(idle(q))]
    limit, notices = _limit(q)
    live = q.count("live_bytes")
    return [
        decide(
            q,
            Draft(
                reason=_forced(q) if q.policy.force else need(q),
                method=f"analysis_limit {limit}" if limit else "full",
                locks="the write lock is held for a few tables at a time: writers wait, readers go on",
                estimate=q.estimate(live // _LIMITED_PART if limit else live),
                options=q.options(analysis_limit=limit, tables=json.dumps([] if q.policy.force else tables)),
                evidence=q.evidence(stale=len(tables)),
                notices=notices,
                stalls=not limit,
            ),
        )
    ]


def run(handle: Handle, item: PlanItem, report: Report, tag: str) -> Work:
    """Analyse table by table. Raises `Busy` or `Interrupted`; what was analysed by then is kept."""
    before = measure(handle)
    tables = _tables(handle, item)
    limit = int(item.options.get("analysis_limit") or 0)
    handle.pragma("analysis_limit", limit)
    round_ = _Round(handle=handle, item=item, report=report, tables=tables)
    started = perf_counter()
    longest = 0.0
    while round_.left:
        longest = max(longest, handle.patiently(round_.turn, item))
        handle.pause(0)
    return Work(
        seconds=perf_counter() - started,
        stall_seconds=longest,
        before=before.values(),
        values={"tables": len(tables), "analysis_limit": limit},
    )


def verify(handle: Handle, item: PlanItem, work: Work) -> Evidence:
    """Look for the rows in sqlite_stat1."""
    tables = _tables(handle, item)
    with told(handle.path, stage="reading statistics"):
        known = analyzed(handle.connection) & set(tables)
        left = set(staleness(handle.connection).tables) & set(tables)
    good = not left
    reason = f"{words.count(len(known), 'table')} of {len(tables):,} with statistics now"
    if left:
        reason += f"; {words.listed(sorted(left))} still without"
    before = Sizes.of(work.before)
    part = _LIMITED_PART if item.options.get("analysis_limit") else 1
    return Evidence(
        effective=Effective.YES if good else Effective.NO,
        reason=reason,
        before=before.values(),
        after=measure(handle).values(),
        values=dict(work.values),
        work_bytes=before.live_bytes // part,
    )


class _Round(Struct, kw_only=True):
    """The tables of one item; a turn takes the write lock for some of them."""

    handle: Handle
    item: PlanItem
    report: Report
    tables: Sequence[str]
    done: int = 0

    @property
    def left(self) -> bool:
        return self.done < len(self.tables)

    def turn(self) -> float:
        with self.handle.holding_lock() as held:
            self.handle.rows("BEGIN IMMEDIATE", stage="taking the write lock")
            try:
                self._some()
                self.handle.rows("COMMIT", stage="writing statistics")
            finally:
                if self.handle.connection.in_transaction:
                    self.handle.rows("ROLLBACK")
        return held.stall

    def _some(self) -> None:
        until, done = perf_counter() + _HOLD, self.done
        while done < len(self.tables) and (done == self.done or perf_counter() < until):
            table = self.tables[done]
            self.handle.rows(f"ANALYZE main.{quoted(table)}", stage="analysing")
            done += 1
            progress = measured(done, len(self.tables), "tables")
            self.report.progress(replace(progress, stage=f"analysed {words.listed([table])}"))
        self.done = done


def _tables(handle: Handle, item: PlanItem) -> list[str]:
    """The planned tables that are still there; without a plan's list all that have an index."""
    found = entries(handle)
    planned = {str(name) for name in json.loads(str(item.options.get("tables") or "[]"))}
    indexed = {entry.table for entry in found if entry.kind == "index"}
    return sorted(e.name for e in found if e.kind == "table" and e.name in (planned or indexed))


def need(q: Inquiry) -> str:
    """Why statistics are due, with the numbers."""
    tables, missing, outgrown = q.names("stale_tables"), q.count("unanalyzed"), q.count("outgrown")
    why = [f"{missing:,} without any"] if missing else []
    why += [f"{outgrown:,} that changed tenfold in size"] if outgrown else []
    return f"{words.count(len(tables), 'table')} of {q.count('tables'):,} to analyse, {' and '.join(why)}: {words.listed(tables)}"


def _forced(q: Inquiry) -> str:
    return f"asked for by force: {need(q) if q.names('stale_tables') else idle(q)}"


def idle(q: Inquiry) -> str:
    """Why nothing is due."""
    tables = words.count(q.count("tables"), "table")
    if not q.count("indexes"):
        return f"no index on {tables}, so there is nothing to keep statistics on"
    return f"statistics are up to date ({tables}): none is missing, and no table changed tenfold in size since"


def _limit(q: Inquiry) -> tuple[int, tuple[Notice, ...]]:
    """A limited ANALYZE throws away sqlite_stat4 samples, so a database that has some is analysed in full."""
    samples = q.count("samples")
    set_by_user = "analysis_limit" in q.policy.thresholds.get(Operation.ANALYZE, {})
    limit = int(q.threshold("analysis_limit"))
    if not samples or not limit:
        return limit, ()
    if set_by_user:
        message = (
            f"analysis_limit {limit} removes the sqlite_stat4 samples of these tables ({samples:,} in the database)"
        )
        return limit, (Notice(code="stat4_lost", message=message, hint="set analysis_limit to 0 to keep them"),)
    message = f"{samples:,} sqlite_stat4 samples are there, which a limited ANALYZE would remove: this one has no limit"
    return 0, (Notice(code="stat4_kept", message=message, severity="info"),)
