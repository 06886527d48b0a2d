"""What VACUUM and ANALYZE have in common: one table, or many small ones in a few statements, with evidence for each."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from dbupkeep.engine import Evidence, Report, Work
from dbupkeep.engines.postgresql import needs, replicas, words
from dbupkeep.engines.postgresql.commits import together
from dbupkeep.engines.postgresql.faults import LOCK_NOT_AVAILABLE, PLAIN_WARNING, UNDEFINED_TABLE
from dbupkeep.engines.postgresql.handle import Said
from dbupkeep.engines.postgresql.names import identifier, split
from dbupkeep.engines.postgresql.watch import Limits, Read, Watch, watched
from dbupkeep.errors import Busy, Gone, Interrupted, Kind, Lost, NotPermitted, OperationError, Refused, UpkeepError
from dbupkeep.facts import Value
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem
from dbupkeep.progress import Progress, measured

if TYPE_CHECKING:
    from psycopg import sql

    from dbupkeep.engines.postgresql.handle import Handle

Row = Mapping[str, Any]
Build = Callable[[Sequence["sql.Composable"], bool], "sql.Composable"]
"""Makes the statement for some tables; the second argument: leave out what is locked."""

BATCH = 100
"""Small tables to a statement: enough to save most of the round trips, few enough to look at replicas between."""

_COUNTED: Mapping[Operation, tuple[str, tuple[str, ...]]] = {
    Operation.VACUUM: ("vacuums", ("dead", "inserted")),
    Operation.ANALYZE: ("analyzes", ("modified",)),
}
"""What the server counts of an operation, and the rows that are its work."""

_SETTLES = 2.0
"""Seconds for which the counters of a server before 15 may lag behind."""


class Manner(Struct, frozen=True, kw_only=True):
    """How an operation does it."""

    verb: str  # as a stage: `vacuuming`
    counter: str  # what the server counts: `vacuums`, `analyzes`
    view: str  # the named query of the progress
    read: Callable[[Mapping[int, Row]], Read]  # makes the reader of that view, knowing the state before
    build: Build
    commits: bool = False  # whether the disk is waited for after each table, as the server does where rows were written


class _Round(Struct, kw_only=True):
    """The tables of one item while they are worked on."""

    handle: Handle
    item: PlanItem
    manner: Manner
    report: Report
    before: Mapping[int, Row]
    names: Mapping[int, str]
    seen: dict[int, Row] = field(default_factory=dict)  # as they were after the work, when they were last looked at
    said: list[Said] = field(default_factory=list)
    faults: dict[int, UpkeepError] = field(default_factory=dict)  # by table


def run(handle: Handle, item: PlanItem, report: Report, manner: Manner) -> Work:
    """Do it. Raises `Busy` with what is in the way, `NotPermitted`, `Gone`, `Interrupted`, ...

    Of a group, the members that something was in the way of are put off, and the others done.
    """
    fit_to_work(handle, item)
    lagged = replicas.wait(handle, item, report)
    limits = Limits(deadline=_number(item, "deadline"), lock_wait=_number(item, "lock_wait"))
    closely = bool(item.options.get("truncate"))
    report.stage(manner.verb, item.object)
    with watched(handle, item, report, manner.view, _phase_alone, limits=limits, closely=closely) as watch:
        # Sizes are looked at under a lock, which may have to be waited for too.
        rows = handle.rows_by("state", {"oids": oids_of(item)}, lock_wait=_number(item, "lock_wait"))
        found = {row["oid"]: row for row in rows}
        names = _known(item, found)
        before = {oid: found[oid] for oid in names}
        work = _Round(handle=handle, item=item, manner=manner, report=report, before=before, names=names)
        if len(names) == 1:
            watch.reads(manner.read(before))
        started = perf_counter()
        _do(work, watch)
        seconds = perf_counter() - started
    put_off = _put_off(work)
    return Work(
        seconds=seconds,
        before=summed(row for oid, row in before.items() if names[oid] not in put_off),
        values={
            "tables": len(names) - len(put_off),
            "wal_bytes": _wal({**before, **work.seen}) - _wal(before),
            "lock_wait_seconds": round(watch.seen.lock_wait, 3),
            **lagged,
            **({"blocked": watch.seen.blocker} if watch.seen.blocker else {}),
            **watch.toll.values(),
            **({"members": json.dumps(_short(before, names))} if len(names) > 1 else {}),
        },
        messages=tuple(dict.fromkeys(said.text for said in work.said)),
        put_off=put_off,
    )


def found_after(handle: Handle, item: PlanItem, work: Work) -> dict[int, Row]:
    """What the server says of an item's tables after the work, but for those that were put off."""
    return states(handle, [oid for oid, name in names_of(item).items() if name not in work.put_off])


def recovered(handle: Handle, item: PlanItem) -> Evidence | None:
    """Whether a lost attempt had done it after all: each table was, and little is left of what there was to do."""
    counter, measures = _COUNTED[item.operation]
    found = states(handle, oids_of(item))
    times = sum(int(row[counter] or 0) for row in found.values()) - needs.number(item.evidence, counter)
    planned = sum(needs.number(item.evidence, name) for name in measures)
    left = sum(float(row[name] or 0) for row in found.values() for name in measures)
    if not found or times < len(found) or left > planned / 2 or item.options.get("stages"):
        return None
    after = summed(found.values())
    before = {**after, **{name: item.evidence.get(name) for name in (*measures, "bytes") if name in item.evidence}}
    return Evidence(
        effective=Effective.YES,
        reason=f"the attempt before had done it: of {planned:,.0f} rows to look after {left:,.0f} are left",
        before=before,
        after=after,
    )


def fit_to_work(handle: Handle, item: PlanItem, *, writes: bool = True) -> None:
    """Refuse another server or database than the plan's, and for work that writes one that takes no changes."""
    for name, now, what in (
        ("system", handle.identity.system, "server"),
        ("database_oid", handle.identity.database_oid, "database"),
    ):
        planned = item.evidence.get(name)
        if planned and now and planned != now:
            raise Refused(
                f"{handle.identity.key} is another {what} than at the time of the plan",
                why=f"its identifier was {planned} and is {now}",
                hint="plan again; nothing was done",
                kind=Kind.REPLACED,
            )
    if writes and handle.identity.standby:
        raise Refused(
            f"{handle.identity.key} is a standby", why="it takes no changes", hint="maintain its primary",
            kind=Kind.READ_ONLY,
        )  # fmt: skip


def states(handle: Handle, oids: Sequence[int]) -> dict[int, Row]:
    """What the server says of some tables now."""
    return {row["oid"]: row for row in handle.rows("state", {"oids": list(oids)})}


def summed(rows: Sequence[Row] | Any) -> dict[str, Value]:  # noqa: ANN401 - any collection of rows
    """The state of several tables as one; of ages the oldest."""
    listed = list(rows)
    total: dict[str, Value] = {
        name: sum(max(0, row[name] or 0) for row in listed)
        for name in ("bytes", "index_bytes", "rows", "pages", "dead", "inserted", "modified")
    }
    return {**total, "age": max((row["age"] or 0 for row in listed), default=0)}


def oids_of(item: PlanItem) -> list[int]:
    """The tables of an item, as the plan knew them."""
    found: list[int] = json.loads(str(item.evidence.get("oids") or "[]"))
    return found


def names_of(item: PlanItem) -> dict[int, str]:
    """Their names in the plan, by OID; empty for what is skipped."""
    oids = oids_of(item)
    return dict(zip(oids, item.members or (item.object,), strict=True)) if oids else {}


def _known(item: PlanItem, states: Mapping[int, Row]) -> dict[int, str]:
    """The tables by OID that still have a name of the plan; raises `Gone` where none of them does."""
    found = {oid: (row["schema"], row["name"]) for oid, row in states.items()}
    known = {oid: name for oid, name in names_of(item).items() if found.get(oid) == split(name)}
    if not known:
        raise Gone(
            f"{item.object} is gone", why="it was dropped, renamed or made anew since the plan", hint="plan again"
        )
    return known


def _wal(states: Mapping[int, Row]) -> int:
    """How much WAL the server had written when some tables were looked at."""
    return max((int(row["wal"] or 0) for row in states.values()), default=0)


def _do(work: _Round, watch: Watch) -> None:
    oids = list(work.names)
    if len(oids) == 1:
        work.handle.lock(oids[0], work.names[oids[0]])
        return _statement(work, watch, oids, skip_locked=bool(work.item.options.get("skip_locked")))
    if not work.manner.commits:
        return _batches(work, watch, oids)
    with together(work.handle) as commits:
        _batches(work, watch, oids[:-1])
        commits.last()
        _several(work, watch, oids[-1:])
    return None


def _batches(work: _Round, watch: Watch, oids: Sequence[int]) -> None:
    for first in range(0, len(oids), BATCH):
        if first:
            replicas.wait(work.handle, work.item, work.report)
        _several(work, watch, oids[first : first + BATCH])
        work.report.progress(measured(first + BATCH, len(work.names), "tables", stage=work.manner.verb))


def _several(work: _Round, watch: Watch, oids: Sequence[int]) -> None:
    """A batch: first all that can be had at once, then what was locked, or behind a fault, one by one."""
    taken = set(work.handle.try_lock(oids))
    work.faults |= {oid: Busy(f"{work.names[oid]} is being maintained already") for oid in taken}
    left = [oid for oid in oids if oid not in taken]
    if left:
        with _isolated(work):
            _statement(work, watch, left, skip_locked=True)
        left = _untouched(work, left)
    if not work.item.options.get("skip_locked"):
        for oid in left:
            with _isolated(work, oid):
                _statement(work, watch, [oid], skip_locked=False)


@contextmanager
def _isolated(work: _Round, oid: int = 0) -> Iterator[None]:
    """Keep a fault of one table from the others; a stop, a lost connection or a full disk ends them all."""
    try:
        yield
    except UpkeepError as error:
        ends_all = isinstance(error, (Interrupted, Lost, Refused)) or error.kind in (Kind.INTERRUPTED, Kind.SPACE)
        if ends_all or work.handle.stopping:
            raise
        if oid:
            work.faults[oid] = error


def _statement(work: _Round, watch: Watch, oids: Sequence[int], *, skip_locked: bool) -> None:
    statement = work.manner.build([identifier(work.names[oid]) for oid in oids], skip_locked)
    try:
        work.said += work.handle.perform(statement, lock_wait=_number(work.item, "lock_wait"))
    except Lost:
        if not watch.seen.lost_answer:
            raise
        work.handle.reconnect()
        if _untouched(work, oids):
            raise
    except Busy as error:
        if work.handle.stopping:  # others wait for it
            raise
        raise Busy(error.what, why=watch.seen.blocker or error.why, hint=error.hint) from error.__cause__


def _untouched(work: _Round, oids: Sequence[int]) -> list[int]:
    """Those of some tables that the server has not counted as done; before 15 its counters come with a delay."""
    pause, waited = threading.Event(), 0.0
    while True:
        now = states(work.handle, oids)
        work.seen.update(now)
        left = [oid for oid in oids if oid in now and not _counted(work, oid)]
        if not left or work.handle.identity.version.has(15) or waited >= _SETTLES:
            return left
        pause.wait(0.1)
        waited += 0.1


def _counted(work: _Round, oid: int) -> bool:
    """Whether a table was seen to be done."""
    counter, row = work.manner.counter, work.seen.get(oid)
    return row is not None and (row[counter] or 0) > (work.before[oid][counter] or 0)


def _put_off(work: _Round) -> dict[str, str]:
    """Which members of a group were locked, with the sentence why. Raises what kept tables from being worked on else.

    Told by codes, counters and rights, never by the words of a notice.
    """
    unseen = [oid for oid in work.names if not _counted(work, oid)]
    left = _untouched(work, unseen) if unseen else []
    unexplained = [oid for oid in left if oid not in work.faults]
    if unexplained:
        work.faults |= _silent_faults(work, unexplained, {said.code for said in work.said})
    faults = {oid: error for oid, error in work.faults.items() if oid in left or isinstance(error, Gone)}
    if not faults:
        return {}
    if len(work.names) == len(faults) or not all(isinstance(error, (Busy, Gone)) for error in faults.values()):
        raise summary(list(faults.values()), of=len(work.names), what="tables")
    return {work.names[oid]: error.message for oid, error in faults.items() if isinstance(error, Busy)}


def _silent_faults(work: _Round, left: Sequence[int], codes: set[str]) -> dict[int, UpkeepError]:
    """What the server skipped with a warning only, or could not be seen to do."""
    asked = {"oids": list(left)}
    denied = [row["oid"] for row in work.handle.rows("permitted", asked) if not row["permitted"]]
    if denied and PLAIN_WARNING in codes:
        fault = _denied(work.handle, [work.names[oid] for oid in denied])
        return dict.fromkeys(denied, fault)
    if LOCK_NOT_AVAILABLE in codes:
        why = "what is locked is left out, as asked for"
        return {oid: Busy(f"{work.names[oid]} was locked", why=why, hint="it comes back") for oid in left}
    if UNDEFINED_TABLE in codes:
        return {oid: Gone(f"{work.names[oid]} is gone", hint="plan again") for oid in left}
    return {}


def _denied(handle: Handle, names: list[str]) -> NotPermitted:
    listed, role = words.listed(names), handle.identity.role
    if handle.identity.version.has(17):
        hint = f"GRANT MAINTAIN ON {names[0]} TO {role}, or GRANT pg_maintain TO {role}"
    else:
        hint = f"before PostgreSQL 17 only the owner of a table may: GRANT its owner TO {role}"
    return NotPermitted(
        f"{role} may not maintain {listed}", why="the server skipped it with a warning and said success", hint=hint
    )


def summary(faults: Sequence[UpkeepError], *, of: int, what: str, done: int | None = None) -> UpkeepError:
    """One error for all that went wrong with some of so many `what`: of the gravest class, with how many are done."""
    if of == 1:
        return faults[0]
    worst = min(faults, key=lambda error: (isinstance(error, (Busy, Gone)), isinstance(error, Busy)))
    said = list(dict.fromkeys(error.message for error in faults))
    why = f"{of - len(faults) if done is None else done} of {of} {what} are done; " + "; ".join(said[:3])
    cls = type(worst) if isinstance(worst, (Busy, NotPermitted, Gone)) else OperationError
    error = cls(f"{len(faults)} of {of} small {what} were not done", why=why, hint=worst.hint)
    error.kind = worst.kind
    return error


def _short(before: Mapping[int, Row], names: Mapping[int, str]) -> dict[str, list[int]]:
    """Of each member: dead rows, changed rows, bytes and age, as they were."""
    return {name: member(before[oid]) for oid, name in names.items() if oid in before}


def _phase_alone(row: Row) -> Progress:
    """Of a group, the tables that are done are counted; how far one of them is, is no share of the whole."""
    return Progress(stage=str(row["phase"]))


def compared(item: PlanItem, work: Work, found: Mapping[int, Row]) -> dict[str, Value]:
    """Of each member of a group, its state before and after, as JSON; of a single table nothing more."""
    if "members" not in work.values:
        return {}
    before = json.loads(str(work.values["members"]))
    names = names_of(item)
    pairs = {names[oid]: [before.get(names[oid]), member(row)] for oid, row in found.items()}
    return {"members": json.dumps(pairs)}


def member(row: Row) -> list[int]:
    """A state in short: dead rows, rows changed since ANALYZE, bytes, age."""
    return [int(row[name] or 0) for name in ("dead", "modified", "bytes", "age")]


def _number(item: PlanItem, name: str) -> float:
    value = item.options.get(name)
    return float(value) if isinstance(value, (int, float)) else 0.0
