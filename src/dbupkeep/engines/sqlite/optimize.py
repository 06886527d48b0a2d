"""PRAGMA optimize: SQLite's own tune-up, told before it is done."""

from __future__ import annotations

from time import perf_counter

from dbupkeep.engine import Evidence, Report, Work
from dbupkeep.engines.sqlite import analyze, words
from dbupkeep.engines.sqlite.faults import told
from dbupkeep.engines.sqlite.handle import Handle
from dbupkeep.engines.sqlite.inquiry import Draft, Inquiry, decide
from dbupkeep.engines.sqlite.progress import counted, followed
from dbupkeep.engines.sqlite.sizes import Sizes, measure
from dbupkeep.engines.sqlite.statistics import DRY_RUN, staleness
from dbupkeep.facts import Notice
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem, Proposal

SUMMARY = "PRAGMA optimize over all tables, limited to 2,000 rows of each index; what it analysed is kept"

_PART = 2


def propose(q: Inquiry) -> list[Proposal]:
    """Decide by its own rule. Pure."""
    tables = q.names("stale_tables")
    if not tables and not q.policy.force:
        return [q.skip(f"PRAGMA optimize has nothing to do: {analyze.idle(q)}")]
    lost = Notice(
        code="stat4_lost",
        message=f"the limit removes the sqlite_stat4 samples of these tables ({q.count('samples'):,} in the database)",
        hint="ask for analyze instead: it keeps them",
    )
    listed = f"it would analyse {words.listed(tables)}" if tables else analyze.idle(q)
    return [
        decide(
            q,
            Draft(
                reason=f"asked for by force: {listed}" if q.policy.force else f"{analyze.need(q)}; {listed}",
                method=f"PRAGMA optimize({int(q.threshold('mask')):#x})",
                locks="the write lock is held while it analyses: writers wait for moments, readers go on",
                estimate=q.estimate(q.count("live_bytes") // _PART),
                options=q.options(mask=int(q.threshold("mask"))),
                evidence=q.evidence(stale=len(tables)),
                covers=_covers(q),
                notices=(lost,) if q.count("samples") and tables else (),
                stalls=False,
            ),
        )
    ]


def run(handle: Handle, item: PlanItem, report: Report, tag: str) -> Work:
    """Have SQLite do it; what its dry run said is kept as its own words."""
    before = measure(handle)
    wanted = [str(row[0]) for row in handle.patiently(lambda: handle.rows(DRY_RUN, stage="asking what to do"), item)]
    report.stage("optimising", "; ".join(wanted[:20]))
    sql = f"PRAGMA optimize({int(item.options.get('mask') or 0x10012)})"
    started = perf_counter()
    with followed(report, counted(lambda: handle.callbacks, 0, "steps", "optimising")), handle.holding_lock() as held:
        handle.patiently(lambda: handle.rows(sql, stage="optimising"), item)
    return Work(
        seconds=perf_counter() - started,
        stall_seconds=held.stall,
        before=before.values(),
        values={"statements": len(wanted)},
        messages=tuple(wanted),
    )


def verify(handle: Handle, item: PlanItem, work: Work) -> Evidence:
    """No table may need statistics any more."""
    with told(handle.path, stage="reading statistics"):
        left = staleness(handle.connection).tables
    before = Sizes.of(work.before)
    return Evidence(
        effective=Effective.NO if left else Effective.YES,
        reason=f"{words.count(len(work.messages), 'table')} analysed"
        + (f"; {words.listed(left)} still without statistics" if left else ", and none is without statistics now"),
        before=before.values(),
        after=measure(handle).values(),
        values=dict(work.values),
        work_bytes=before.live_bytes // _PART,
    )


def _covers(q: Inquiry) -> dict[Operation, str]:
    """Both go by the same rule; only a forced ANALYZE, or one that keeps samples, is more."""
    if q.policy.force or q.count("samples") or Operation.ANALYZE in q.policy.thresholds:
        return {}
    return {Operation.ANALYZE: "PRAGMA optimize analyses the same tables"}
