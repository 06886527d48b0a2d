"""Rebuilds the small indexes of a group, one after another, in one session; what is in the way of one does not keep the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from dbupkeep.engine import Report, Work
from dbupkeep.engines.postgresql import blockers, maintain, needs, rebuild, rebuilt, remains, replicas, room
from dbupkeep.engines.postgresql.commits import together
from dbupkeep.engines.postgresql.remains import Intent
from dbupkeep.engines.postgresql.watch import Limits, Watch, watched
from dbupkeep.errors import Busy, Gone, Interrupted, Kind, Lost, Refused, UpkeepError
from dbupkeep.facts import Value
from dbupkeep.plans import PlanItem
from dbupkeep.progress import Progress, measured

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

Row = Mapping[str, Any]

LOOKS = 1.0
"""Seconds between looks at replicas, while small indexes are rebuilt: each alone takes some milliseconds."""


class _Round(Struct, kw_only=True):
    """The members of one item while they are rebuilt; all by name."""

    handle: Handle
    item: PlanItem
    report: Report
    before: dict[str, Row]  # those that are there as planned
    anew: list[str]  # those that were rebuilt since the plan: by an attempt that was lost, or by others
    done: dict[str, Row] = field(default_factory=dict)  # as they were before
    faults: dict[str, UpkeepError] = field(default_factory=dict)
    copies_left: int = 0

    @property
    def left(self) -> dict[str, Row]:
        """Those whose turn is still to come."""
        return {name: row for name, row in self.before.items() if name not in self.faults and name not in self.done}


def run(handle: Handle, item: PlanItem, report: Report) -> Work:
    """Do it. Raises what ends it for all: a stop, a lost connection, a full disk; and what kept each member from being done.

    Where some are done, those that something was in the way of are put off, and what went wrong with others is the fault.
    """
    maintain.fit_to_work(handle, item)
    rebuild.refuse_broken(handle.identity.version)
    lagged = replicas.wait(handle, item, report)
    work = _admitted(handle, item, report)
    wal = handle.row("wal")["bytes"]
    started = perf_counter()
    seen = _done_one_by_one(work) if work.left else {}
    seconds = perf_counter() - started
    put_off, fault = _outcome(work)
    done = work.done
    return Work(
        seconds=seconds,
        before={
            "bytes": sum(row["bytes"] for row in done.values()),
            "valid": all(row["valid"] for row in done.values()),
        },
        values={
            "indexes": len(done) + len(work.anew),
            "wal_bytes": handle.row("wal")["bytes"] - wal,
            **lagged,
            **seen,
            **({"copies_left": work.copies_left} if work.copies_left else {}),
            "members": json.dumps({name: rebuilt.short(row) for name, row in done.items()}),
            **({"rebuilt_before": json.dumps(work.anew)} if work.anew else {}),
        },
        put_off=put_off,
        fault=fault,
    )


# --- what is in the way ---


def _admitted(handle: Handle, item: PlanItem, report: Report) -> _Round:
    """The members that can be worked on now, their tables locked for others of ours; with why the rest cannot."""
    found = rebuild.states(handle, item.members)
    work = _Round(handle=handle, item=item, report=report, before={}, anew=[])
    for oid, name in maintain.names_of(item).items():
        state = found.get(name)
        if state is not None and state["oid"] == oid:
            work.before[name] = state
        elif state is not None and state["valid"]:
            work.anew.append(name)
        else:
            work.faults[name] = Gone(
                f"{name} is gone", why="it was dropped or renamed since the plan", hint="plan again"
            )
    for barred in (_locked, _under_autovacuum, _waiting_for_others):
        work.faults |= barred(work)
    if work.left:
        size = sum(row["bytes"] for row in work.left.values())
        room.check(handle, item, size * (1 - needs.number(item.evidence, "share")))
    return work


def _locked(work: _Round) -> dict[str, UpkeepError]:
    """Those of tables that another session of ours is on; all others are ours now."""
    taken = set(work.handle.try_lock(sorted({row["table_oid"] for row in work.left.values()})))
    return {
        name: Busy(f"the table of {name} is being maintained already", hint="it comes back with the next run")
        for name, row in work.left.items()
        if row["table_oid"] in taken
    }


def _under_autovacuum(work: _Round) -> dict[str, UpkeepError]:
    rows = {row["oid"]: row for row in work.handle.rows("at_work") if row["wraparound"]}
    return {
        name: rebuild.kept_by_autovacuum(name, rows[oid])
        for name, state in work.left.items()
        for oid in (state["table_oid"], state["relation"])
        if oid in rows
    }


def _waiting_for_others(work: _Round, *, waited: float = 0.0) -> dict[str, UpkeepError]:
    """Those that would wait for a transaction that is open for long, or for as long as was `waited` for one in vain."""
    age = _number(work.item, "blocker_age")
    if age <= 0 or not work.left:
        return {}
    relations = [oid for state in work.left.values() for oid in (state["relation"], state["table_oid"])]
    rows = blockers.waited_for(work.handle, relations, min(age, waited or age))
    return {
        name: fault
        for name, state in work.left.items()
        if (fault := blockers.barred(rows, [state["relation"], state["table_oid"]], f"the rebuild of {name}"))
    }


# --- the work ---


def _done_one_by_one(work: _Round) -> dict[str, Value]:
    """Rebuild what is left to do; returns what was seen meanwhile, as evidence."""
    intents = _noted(work)
    tracker = rebuild.Tracker(intent=intents[0])
    limits = Limits(deadline=_number(work.item, "deadline"), patience=_number(work.item, "max_wait"))
    work.report.stage("rebuilding", work.item.object)
    with (
        watched(work.handle, work.item, work.report, "progress_reindex", _phase_alone(tracker), limits=limits) as watch,
        together(work.handle) as commits,
    ):
        for number, intent in _paced(work, watch, intents):
            if number + 1 == len(intents):
                commits.last()
            tracker.begin(intent)
            _one(work, watch, tracker)
            work.report.progress(measured(number + 1, len(intents), "indexes", stage="rebuilding"))
    return {
        "lock_wait_seconds": round(watch.seen.lock_wait, 3),
        **watch.toll.values(),
        **({"blocked": watch.seen.blocker} if watch.seen.blocker else {}),
    }


def _noted(work: _Round) -> list[Intent]:
    """Drop what earlier runs of ours left, and keep what is about to be done, for whoever comes after a lost attempt."""
    relations = sorted({row["relation"] for row in work.left.values()})
    there = remains.invalid(work.handle, relations)
    marked = [row for row in there if remains.is_marked(row)]
    remains.clear(work.handle, marked, lock_wait=_number(work.item, "cleanup_wait"))
    intents = [
        Intent(
            index=state["oid"], relation=state["relation"], name=name, bytes=state["bytes"],
            invalid=tuple(row["oid"] for row in there if row["relation"] == state["relation"]),
        )
        for name, state in work.left.items()
    ]  # fmt: skip
    work.report.note(remains.text_of(intents))
    return intents


def _paced(work: _Round, watch: Watch, intents: Sequence[Intent]) -> Iterator[tuple[int, Intent]]:
    """The members that nothing is in the way of when it is their turn, each with the clock set anew."""
    looked = perf_counter()
    for number, intent in enumerate(intents):
        if perf_counter() - looked >= LOOKS:
            watch.rest()
            try:
                replicas.wait(work.handle, work.item, work.report)
            except Busy as error:
                if work.handle.stopping:
                    raise
                work.faults |= dict.fromkeys(work.left, error)
                return
            looked = perf_counter()
        if intent.name not in work.faults:
            watch.anew()
            yield number, intent


def _one(work: _Round, watch: Watch, tracker: rebuild.Tracker) -> None:
    """Rebuild one. A fault of its own is kept; raises what ends the work on all."""
    name = tracker.intent.name
    try:
        work.handle.perform(rebuild.statement(name, concurrently=True), lock_wait=0)
    except Lost:
        raise  # the next attempt looks what became of it
    except UpkeepError as error:
        watch.rest()
        fault = _settled(work, watch, tracker, error)
        if fault is not None:
            _keep(work, watch, name, fault)
            return
    work.done[name] = work.before[name]


def _keep(work: _Round, watch: Watch, name: str, fault: UpkeepError) -> None:
    """Go on without one; raises its fault where that ends the work on all."""
    if not watch.late and (work.handle.stopping or _ends_all(fault)):
        raise fault from fault.__cause__
    if not isinstance(fault, (Busy, Gone)):
        fault.what = f"{name}: {fault.what}"
    work.faults[name] = fault
    if watch.late:  # whoever it waited for may be in the way of others too
        work.faults |= _waiting_for_others(work, waited=_number(work.item, "max_wait"))


def _settled(work: _Round, watch: Watch, tracker: rebuild.Tracker, error: UpkeepError) -> UpkeepError | None:
    """Clear up after a rebuild that did not end well; the fault that stays of it, nothing where the index is in place."""
    name, waited = tracker.intent.name, watch.seen.blocker if watch.late and watch.seen.gave_up else ""
    patience = _number(work.item, "cleanup_wait")
    done, left = rebuild.settle(work.handle, tracker.intent, seen=tracker.seen, lock_wait=patience)
    work.copies_left += len(left)
    if done:
        return None
    if watch.late and not waited:
        error = Busy(f"the rebuild of {name} was stopped", why=error.what, hint=error.hint)
    elif not work.handle.stopping or waited:
        error = rebuild.waited(error, name, waited)
    return rebuild.with_left(error.at(object=name), left)


def _ends_all(fault: UpkeepError) -> bool:
    return isinstance(fault, (Interrupted, Lost, Refused)) or fault.kind in (Kind.INTERRUPTED, Kind.SPACE)


def _phase_alone(tracker: rebuild.Tracker) -> Callable[[Row], Progress]:
    """The members that are done are counted; how far one of them is, is no share of the whole."""
    return lambda row: Progress(stage=tracker.read(row).stage)


# --- what became of it ---


def _outcome(work: _Round) -> tuple[dict[str, str], UpkeepError | None]:
    """Who is put off and why, and what went wrong with others. Raises that where nothing at all is done."""
    wrong = [error for error in work.faults.values() if not isinstance(error, (Busy, Gone))]
    put_off = {name: error.message for name, error in work.faults.items() if isinstance(error, Busy)}
    if not work.done and not work.anew:
        busy = [error for error in work.faults.values() if isinstance(error, Busy)]
        raise maintain.summary(
            wrong or busy or list(work.faults.values()), of=len(work.item.members), what="indexes", done=0
        )
    if not wrong:
        return put_off, None
    done = len(work.done) + len(work.anew)
    return put_off, maintain.summary(wrong, of=len(work.item.members), what="indexes", done=done)


def _number(item: PlanItem, name: str) -> float:
    return needs.number(item.options, name)
