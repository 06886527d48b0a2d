"""OPTIMIZE: write a table anew without its empty room: online where that can be had, else only with consent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from dbupkeep.engine import Evidence, Report, Work
from dbupkeep.engines.postgresql import blockers, blocking, maintain, needs, repack, replicas, room, words
from dbupkeep.engines.postgresql.choice import nothing_left
from dbupkeep.engines.postgresql.extensions import READY
from dbupkeep.engines.postgresql.heap import KIND
from dbupkeep.engines.postgresql.inquiry import Draft, Inquiry, hold_of
from dbupkeep.engines.postgresql.inquiry import propose as propose_draft
from dbupkeep.engines.postgresql.names import identifier, split
from dbupkeep.engines.postgresql.progress import of_rewrite
from dbupkeep.engines.postgresql.rebuild import with_tries
from dbupkeep.engines.postgresql.watch import Limits, watched
from dbupkeep.errors import Gone
from dbupkeep.facts import ObjectFacts, Value
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem, Proposal, Source, SpaceNeed

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

CONSENT = "exclusive_lock"
CONCURRENTLY = "REPACK (CONCURRENTLY)"
PG_REPACK = "pg_repack"
FULL = "VACUUM FULL"

_LOCKS: Mapping[str, str] = {
    CONCURRENTLY: "ACCESS EXCLUSIVE for a moment at the end, tried for shortly",
    PG_REPACK: "ACCESS EXCLUSIVE for a moment at the beginning and at the end, tried for shortly; it cancels nobody",
    FULL: "ACCESS EXCLUSIVE from beginning to end: nobody reads or writes the table meanwhile",
}
_REWRITTEN = "the table is written anew, with all of its indexes"
_HALF = 0.5


class Way(Struct, frozen=True, kw_only=True):
    """How a table is rewritten; or why it is not."""

    method: str = ""
    why_not: str = ""


def propose(q: Inquiry) -> list[Proposal]:
    """Decide by the share that a rewrite gives back. Pure."""
    heaps = q.tables(KIND)
    due = sorted((heap for heap in heaps if _is_due(q, heap)), key=lambda heap: -_gain_bytes(heap))
    found = [_proposal(q, heap) for heap in due]
    idle = max(len(heaps), int(q.facts.number("tables"))) - len(due)
    return [*found, _idle(q, heaps, idle)] if idle or not found else found


def way(q: Inquiry, heap: ObjectFacts) -> Way:
    """The gentlest way that this server has for a table. Pure."""
    values, lacks = heap.values, []
    if q.version.has(19):
        if values.get("relation_kind") == "r" and values.get("persistence") == "p" and values.get("identity"):
            return Way(method=CONCURRENTLY)
        lacks.append("REPACK (CONCURRENTLY) wants a logged table with a primary key or replica identity")
    state = str(q.facts.values.get("pg_repack") or "pg_repack is not known to be there")
    lack = _repack_lacks(values) if state == READY else state
    if not lack:
        return Way(method=PG_REPACK)
    lacks.append(lack)
    if CONSENT in q.policy.consents:
        return Way(method=FULL)
    return Way(why_not=f"{'; '.join(lacks)}; with the consent {CONSENT}, VACUUM FULL does it while everybody waits")


def _repack_lacks(values: Mapping[str, Value]) -> str:
    if values.get("relation_kind") != "r":
        return "pg_repack takes tables alone"
    if values.get("backslash"):
        return "pg_repack does not understand a column with a backslash in its name"
    return "" if values.get("keyed") else "pg_repack wants a primary key, or a unique key without nulls"


def run(handle: Handle, item: PlanItem, report: Report) -> Work:
    """Do it. Raises `Busy`, `Gone`, `Refused`, `NotPermitted`, `Interrupted`, ..."""
    maintain.fit_to_work(handle, item)
    state = resolved(handle, item)
    handle.lock(state["oid"], item.object)
    lagged = replicas.wait(handle, item, report)
    room.check(handle, item, state["bytes"] + state["index_bytes"])
    blocking.admit(item, report, f"the rewrite of {item.object}")
    started_wal, started = handle.row("wal")["bytes"], perf_counter()
    before = sizes(state)
    values: Mapping[str, Value]
    if item.method == PG_REPACK:
        values = repack.run(handle, item, report, state)
    else:
        values = _statement(handle, item, report, state)
    seconds = perf_counter() - started
    return Work(
        seconds=seconds,
        stall_seconds=seconds if item.method == FULL else None,
        before=before,
        values={
            "wal_bytes": handle.row("wal")["bytes"] - started_wal, "filenode": state["filenode"], **lagged, **values,
        },
    )  # fmt: skip


def verify(handle: Handle, item: PlanItem, work: Work) -> Evidence:
    """Look whether the table has another file, and what that gave back."""
    now = resolved(handle, item)
    after = sizes(now)
    was, left = (needs.number(part, "bytes") for part in (work.before, after))
    share = 1 - left / was if was else 0.0
    text = f"{words.size(was)} with indexes became {words.size(left)} ({words.share(share)} less)"
    planned = needs.number(item.evidence, "share")
    effective, reason = Effective.YES, text
    if now["filenode"] == work.values.get("filenode"):
        effective, reason = Effective.NO, f"the table was not written anew; {text}"
    elif planned and share < _HALF * planned:
        effective, reason = Effective.NO, f"{text}, where {words.share(planned)} of the table were expected"
    return Evidence(effective=effective, reason=reason, before=work.before, after=after, work_bytes=int(was))


def recover(handle: Handle, item: PlanItem, notes: Sequence[str]) -> Evidence | None:
    """Remove what a lost attempt's pg_repack left; evidence where the table was written anew after all."""
    noted = repack.noted(notes)
    if noted is None:
        return None
    state = resolved(handle, item)
    handle.lock(state["oid"], item.object)
    try:
        repack.clear(handle, state["oid"], lock_wait=needs.number(item.options, "lock_wait"))
    finally:
        handle.unlock_all()
    if state["filenode"] == noted["filenode"]:
        return None
    before: dict[str, Value] = {"bytes": noted["bytes"] + noted["index_bytes"], "index_bytes": noted["index_bytes"]}
    return verify(handle, item, Work(seconds=0.0, before=before, values={"filenode": noted["filenode"]}))


def resolved(handle: Handle, item: PlanItem) -> dict[str, Any]:
    """The table of an item, as it is now. Raises `Gone` where it is another one, or none."""
    schema, name = split(item.object)
    found = handle.rows("heap_state", {"schema": schema, "name": name})
    if not found or found[0]["oid"] not in maintain.oids_of(item):
        raise Gone(f"{item.object} is gone", why="it was dropped or made anew since the plan", hint="plan again")
    return found[0]


def sizes(state: Mapping[str, Any]) -> dict[str, Value]:
    """A table's sizes, as evidence."""
    return {"bytes": state["bytes"] + state["index_bytes"], "index_bytes": state["index_bytes"]}


def _statement(handle: Handle, item: PlanItem, report: Report, state: Mapping[str, Any]) -> dict[str, Value]:
    from psycopg import sql

    if item.method == CONCURRENTLY:
        blockers.preflight(
            handle, [state["oid"]], needs.number(item.options, "blocker_age"), f"the rewrite of {item.object}"
        )
    report.note(repack.note(state))
    report.stage(f"rewriting ({item.method})", item.object)
    limits = Limits(deadline=needs.number(item.options, "lock_budget" if item.method == FULL else "deadline"))
    view, name = ("progress_rewrite", identifier(item.object))
    statement = sql.SQL("VACUUM (FULL) {}" if item.method == FULL else "REPACK (CONCURRENTLY) {}").format(name)
    with watched(handle, item, report, view, of_rewrite, limits=limits, closely=True) as watch:
        with_tries(handle, item, statement)
    return {"lock_wait_seconds": round(watch.seen.lock_wait, 3), **watch.toll.values()}


def _is_due(q: Inquiry, heap: ObjectFacts) -> bool:
    if q.policy.force:
        return True
    gain = heap.values.get("gain")
    if not isinstance(gain, float) or gain < q.threshold("gain_share") or (heap.bytes or 0) < q.threshold("min_bytes"):
        return False
    return not q.history.cooling_off(q.operation, q.scope.now, q.policy.cool_off, object=heap.name)


def _gain_bytes(heap: ObjectFacts) -> int:
    return int(needs.number(heap.values, "gain") * needs.number(heap.values, "main_bytes"))


def _proposal(q: Inquiry, heap: ObjectFacts) -> Proposal:
    size = (heap.bytes or 0) + int(needs.number(heap.values, "index_bytes"))
    space = room.wanted(q, "the new table and its indexes", size, int(needs.number(heap.values, "tablespace")))
    chosen, reason = way(q, heap), _reason(heap)
    why_not = chosen.why_not or room.undeclared(q, space)
    if why_not:
        return q.skip(f"{heap.name}: {reason}; but {why_not}", table=heap.name)
    hold = hold_of(heap)
    covered = {Operation.VACUUM: _REWRITTEN, Operation.REINDEX: _REWRITTEN} if hold == heap.name else {}
    return propose_draft(
        q,
        Draft(
            tables=[heap],
            object=heap.name,
            hold=hold,
            reason=reason,
            method=chosen.method,
            locks=_LOCKS[chosen.method],
            strong=True,
            work_bytes=size,
            gain=_gain_bytes(heap) if heap.values.get("gain") is not None else None,
            options={
                name: q.threshold(name)
                for name in ("deadline", "blocker_age", "max_wait", "lock_wait", "lock_tries", "lock_budget",
                             "cleanup_wait", *room.OPTIONS)
            } | {"space_factor": q.policy.space_factor},
            evidence={
                "version_number": q.version.number,
                "bytes": heap.bytes,
                "tablespace": heap.values.get("tablespace"),
                "share": _share_of_all(heap, size),
            },
            covers=covered,
            space=space,
            defer=_in_the_way(q, heap, chosen, space),
        ),
    )  # fmt: skip


def _reason(heap: ObjectFacts) -> str:
    gain = heap.values.get("gain")
    if not isinstance(gain, float):
        return f"asked for by force: {words.size(heap.bytes or 0)}, its bloat is not known ({heap.values.get('how')})"
    return (
        f"a rewrite would take {words.share(gain)} of {words.size(heap.bytes or 0)} off it ({heap.values.get('how')})"
    )


def _share_of_all(heap: ObjectFacts, size: int) -> float | None:
    return round(_gain_bytes(heap) / size, 3) if size and heap.values.get("gain") is not None else None


def _in_the_way(q: Inquiry, heap: ObjectFacts, chosen: Way, space: tuple[SpaceNeed, ...]) -> str:
    if lacking := room.in_the_way(q, space, int(needs.number(heap.values, "tablespace"))):
        return lacking
    for name, what in (("age", "transactions"), ("multixact_age", "multixacts")):
        if (age := needs.number(heap.values, name)) >= needs.WARN_AGE:
            return f"its oldest rows are {age:,.0f} {what} old: VACUUM freezes them first"
    at_work: Mapping[str, str] = json.loads(str(q.facts.values.get("at_work") or "{}"))
    worker = at_work.get(str(heap.values.get("oid")), "")
    if "wraparound" in worker:
        return f"{worker} is on it, and must not be disturbed"
    if chosen.method == FULL:
        return ""
    relations = [int(needs.number(heap.values, name)) for name in ("oid", "toast_oid")]
    found = blockers.planned(q.facts.values.get("long_transactions"), relations, q.threshold("blocker_age"))
    return f"it would wait for {found}" if found else ""


def _idle(q: Inquiry, heaps: list[ObjectFacts], idle: int) -> Proposal:
    if not idle:
        return q.skip(nothing_left(q.scope.config), idle=0, unknown=0)
    least = q.threshold("min_bytes")
    unknown = [
        heap.name for heap in heaps if (heap.bytes or 0) >= least and heap.values.get("source") == Source.UNKNOWN
    ]
    said = f"; of {len(unknown)} it is not known ({words.listed(unknown)})" if unknown else ""
    return q.skip(
        f"{idle:,} tables need none: due from {words.share(q.threshold('gain_share'))} of predicted gain and"
        f" {words.size(least)} on{said}",
        idle=idle,
        unknown=len(unknown),
    )
