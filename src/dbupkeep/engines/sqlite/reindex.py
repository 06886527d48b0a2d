"""REINDEX, index by index, each followed up by a check of its table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from time import perf_counter

from msgspec import Struct
from msgspec.structs import replace

from dbupkeep.engine import Evidence, Report, Work
from dbupkeep.engines.sqlite import backup, space, words
from dbupkeep.engines.sqlite.check import damaged, known_damage, roomy_cache
from dbupkeep.engines.sqlite.faults import told
from dbupkeep.engines.sqlite.handle import HANDLER_OPS, Handle
from dbupkeep.engines.sqlite.in_place import checkpoint
from dbupkeep.engines.sqlite.inquiry import Draft, Inquiry, decide
from dbupkeep.engines.sqlite.progress import followed
from dbupkeep.engines.sqlite.schema import Entry, entries
from dbupkeep.engines.sqlite.sizes import Sizes, measure
from dbupkeep.engines.sqlite.statistics import quoted, row_counts
from dbupkeep.errors import Kind, Refused
from dbupkeep.jobs import Effective
from dbupkeep.plans import PlanItem, Proposal
from dbupkeep.progress import Progress, measured

SUMMARY = "REINDEX of indexes that a check found damaged, one at a time, then integrity_check of their tables"

_STEPS_A_ROW = 9
"""SQLite's steps for one row of an index that is rebuilt."""

_SORTED = 0.9
"""The final write of an index is silent: until then no more than this much of it is claimed."""


def propose(q: Inquiry) -> list[Proposal]:
    """Rebuild what is known to be damaged, or everything by force. Pure."""
    present = {entry.name: entry.table for entry in q.facts.objects if entry.kind == "index"}
    if q.policy.force:
        return (
            [_proposal(q, "", f"asked for by force: {words.count(len(present), 'index')}")] if present else [_idle(q)]
        )
    broken = [name for name in known_damage(q) if name in present]
    return [_proposal(q, name, f"the last check found it damaged (on table {present[name]})") for name in broken] or [
        _idle(q)
    ]


def run(handle: Handle, item: PlanItem, report: Report, tag: str) -> Work:
    """Rebuild each index in a transaction of its own. Raises `Busy`, `Interrupted`, `Refused` or `Damaged`."""
    before = measure(handle)
    wanted = _wanted(handle, item)
    folder = _folder(handle, item, wanted, before)
    copy = backup.kept(handle, item, report, tag) if item.options.get("backup") else nullcontext()
    started = perf_counter()
    tour = _Tour(handle=handle, weights=_weights(handle, wanted))
    longest = 0.0
    with copy as kept, space.temp_folder(handle, folder), followed(report, tour.sample):
        for index in wanted:
            report.stage(f"rebuilding {words.listed([index.name])}")
            longest = max(longest, handle.patiently(tour.rebuilding(index), item))
    checkpoint(handle, report)
    return Work(
        seconds=perf_counter() - started,
        stall_seconds=longest,
        before=before.values(),
        values={"indexes": len(wanted), "tables": _tables(wanted), "backup": str(kept) if kept else None},
    )


def verify(handle: Handle, item: PlanItem, work: Work) -> Evidence:
    """Compare each rebuilt index with its table. Raises `Damaged` for any fault in those tables."""
    tables = json.loads(str(work.values.get("tables") or "[]"))
    faults: list[str] = []
    with roomy_cache(handle):
        for table in tables:
            found = handle.rows(f"PRAGMA integrity_check({quoted(table)})", stage="checking the table")
            faults += [str(row[0]) for row in found if row[0] != "ok"]
    if faults:
        raise damaged(handle, faults)
    backup.settle(handle, work)
    before = Sizes.of(work.before)
    count = int(work.values.get("indexes") or 0)
    return Evidence(
        effective=Effective.YES,
        reason=f"{words.count(count, 'index')} rebuilt, and integrity_check found no fault in {words.listed(tables)}",
        before=before.values(),
        after=measure(handle).values(),
        values=dict(work.values),
        work_bytes=before.live_bytes // (max(1, int(item.options.get("of_indexes") or 1)) if item.object else 1),
    )


class _Tour(Struct, kw_only=True):
    """Progress over several indexes, weighted by their rows."""

    handle: Handle
    weights: dict[str, int]
    done: int = 0
    current: str = ""

    def rebuilding(self, index: Entry) -> Callable[[], float]:
        """The work on one index; gives the seconds that writers were kept out."""

        def rebuild() -> float:
            self.handle.callbacks, self.current = 0, index.name
            with self.handle.holding_lock() as held:
                self.handle.rows(f"REINDEX main.{quoted(index.name)}", stage="rebuilding the index")
            self.done += self.weights[index.name]
            self.current = ""
            return held.stall

        return rebuild

    def sample(self) -> Progress:
        weight = self.weights.get(self.current, 0)
        part = min(_SORTED, self.handle.callbacks * HANDLER_OPS / (_STEPS_A_ROW * weight)) if weight else 0.0
        stage = f"rebuilding {words.listed([self.current])}" if self.current else ""
        return replace(measured(self.done + part * weight, sum(self.weights.values()), "rows"), stage=stage)


def _wanted(handle: Handle, item: PlanItem) -> list[Entry]:
    """Re-read by the catalogue: the planned name is only looked up, and what is not there is not touched."""
    found = [entry for entry in entries(handle) if entry.kind == "index"]
    if not item.object:
        return found
    chosen = [entry for entry in found if entry.name == item.object]
    if not chosen:
        raise Refused(
            f"there is no index {item.object!r} in {handle.path}",
            why="it was there at the time of the plan",
            hint="plan again",
            kind=Kind.DRIFT,
        )
    return chosen


def _weights(handle: Handle, wanted: Sequence[Entry]) -> dict[str, int]:
    with told(handle.path, stage="estimating rows"):
        rows = row_counts(handle.connection, {index.table for index in wanted})
    return {index.name: max(1, rows.get(index.table, 0)) for index in wanted}


def _tables(wanted: Sequence[Entry]) -> str:
    return json.dumps(sorted({index.table for index in wanted}))


def _folder(handle: Handle, item: PlanItem, wanted: Sequence[Entry], before: Sizes) -> str:
    """No index is bigger than all live pages; where there is no room for that much, they are measured."""
    factor = float(item.options.get("space_factor") or 1)
    try:
        return space.choose(handle.path, temp=before.live_bytes, journal=before.live_bytes, factor=factor)
    except Refused:
        with_sizes: dict[str, int] = dict(
            handle.rows("SELECT name, sum(pgsize) FROM dbstat WHERE aggregate = 1 GROUP BY name")
        )
        biggest = max((int(with_sizes.get(index.name) or 0) for index in wanted), default=0)
        return space.choose(handle.path, temp=biggest, journal=biggest, factor=factor)


def _proposal(q: Inquiry, name: str, reason: str) -> Proposal:
    count = max(1, q.count("indexes"))
    work = q.count("live_bytes") // (count if name else 1)
    estimate = q.estimate(work, object=name)
    if not name and estimate.seconds is not None:
        estimate = replace(estimate, stall_seconds=min(estimate.seconds, 2 * estimate.seconds / count))
    return decide(
        q,
        Draft(
            object=name,
            reason=reason,
            method="one by one",
            locks="the write lock is held for each index: writers wait, readers "
            + ("go on" if q.wal else "wait while it is written"),
            estimate=estimate,
            space=q.space(temp=work, journal=work),
            options=q.options(of_indexes=count),
            evidence=q.evidence(index=name),
        ),
    )


def _idle(q: Inquiry) -> Proposal:
    if not q.count("indexes"):
        return q.skip("there is no index")
    return q.skip(
        f"no damage is known ({words.count(q.count('indexes'), 'index')}); VACUUM packs indexes, and --force rebuilds them"
    )
