"""Rebuilds one index, watches it, and clears up whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from dbupkeep.engine import Evidence, Report, Work
from dbupkeep.engines.postgresql import blockers, blocking, maintain, needs, remains, replicas, room, words
from dbupkeep.engines.postgresql.due_indexes import BLOCKING, DROP
from dbupkeep.engines.postgresql.extensions import PGSTATINDEX
from dbupkeep.engines.postgresql.indexes import pages_of
from dbupkeep.engines.postgresql.names import identifier, split, told
from dbupkeep.engines.postgresql.progress import of_reindex
from dbupkeep.engines.postgresql.remains import Intent
from dbupkeep.engines.postgresql.versions import Version
from dbupkeep.engines.postgresql.watch import Limits, watched
from dbupkeep.errors import Busy, Gone, Kind, Lost, Refused, UpkeepError
from dbupkeep.facts import Value
from dbupkeep.jobs import Effective
from dbupkeep.plans import PlanItem
from dbupkeep.progress import Progress

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle, Said

Row = Mapping[str, Any]

_READ_FOR_EVIDENCE = 1 << 30
"""Bytes up to which an index is read for its density, before and after."""

_PAUSE = 1.0
"""Seconds between tries for an exclusive lock."""

HALF = 0.5
"""The part of what was expected from which on it was worth it."""


class Tracker(Struct, kw_only=True):
    """Reads the progress of a rebuild, and keeps which index it makes."""

    intent: Intent
    seen: int = 0
    phases: list[str] = field(default_factory=list)

    def begin(self, intent: Intent) -> None:
        """Another one is made."""
        self.intent, self.seen = intent, 0

    def read(self, row: Row) -> Progress:
        """One look; called from the watching thread."""
        made = int(row["index_oid"] or 0)
        if int(row["relid"]) == self.intent.relation and made and made != self.intent.index:
            self.seen = made
        if row["phase"] not in self.phases:
            self.phases.append(str(row["phase"]))
        return of_reindex(row)


def run(handle: Handle, item: PlanItem, report: Report) -> Work:
    """Do it. Raises `Busy` with who is in the way, `Gone`, `Refused`, `NotPermitted`, `Interrupted`, ..."""
    maintain.fit_to_work(handle, item)
    state = resolved(handle, item)
    handle.lock(state["table_oid"], item.object)
    lagged: Mapping[str, Value] = {}
    if item.method != DROP:
        lagged = replicas.wait(handle, item, report)
        room.check(handle, item, state["bytes"] * (1 - needs.number(item.evidence, "share")))
    before = _before(handle, item, state)
    started = perf_counter()
    values = _drop(handle, item, state, report) if item.method == DROP else _rebuild(handle, item, state, report)
    return Work(
        seconds=perf_counter() - started,
        before={"bytes": before["bytes"], "valid": state["valid"]},
        values={
            "wal_bytes": handle.row("wal")["bytes"] - state["wal"],
            **({"density_before": before["density"]} if before["density"] is not None else {}),
            **lagged,
            **values,
        },
    )


def resolved(handle: Handle, item: PlanItem) -> dict[str, Any]:
    """The index of an item, as it is now. Raises `Gone` where it is another one, or none."""
    found = state_of(handle, item.object)
    if not found or found["oid"] not in maintain.oids_of(item):
        raise Gone(
            f"{item.object} is gone",
            why="it was dropped, renamed or rebuilt by others since the plan",
            hint="plan again",
        )
    return found


def states(handle: Handle, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the server says of some indexes now, by name; of those that are there."""
    wanted = [split(name) for name in names]
    asked = {"schemas": [schema for schema, _ in wanted], "names": [name for _, name in wanted]}
    return {told(row["schema"], row["name"]): row for row in handle.rows("index_states", asked)}


def state_of(handle: Handle, name: str) -> dict[str, Any] | None:
    """The same of one index."""
    return states(handle, [name]).get(name)


def verify(handle: Handle, item: PlanItem, work: Work) -> Evidence:
    """Look whether a valid new index is there, and what it gave back."""
    now = state_of(handle, item.object)
    if item.method == DROP:
        return _verified_drop(work, gone=now is None)
    if now is None:
        raise Gone(f"{item.object} is gone", why="it was dropped by somebody else meanwhile", hint="plan again")
    after: dict[str, Value] = {"bytes": now["bytes"], "valid": now["valid"]}
    density = _density(handle, now)
    effective, reason = _judge(item, work.before, after)
    return Evidence(
        effective=effective,
        reason=reason,
        before=work.before,
        after=after,
        values={
            "entries": now["entries"] if now["method"] == "btree" else item.evidence.get("rows"),
            **({"density_after": density} if density is not None else {}),
            **({"collation": item.evidence["collation"]} if item.evidence.get("collation") else {}),
        },
        work_bytes=max(now["bytes"], int(needs.number(work.before, "bytes"))),
    )


def settle(handle: Handle, intent: Intent, *, seen: int, lock_wait: float) -> tuple[bool, list[Row]]:
    """After a rebuild that did not end well: drop what it left.

    Returns whether the new index is in place all the same, and what could not be dropped.
    """
    left = remains.clear(
        handle, remains.ours(remains.invalid(handle, [intent.relation]), intent, seen), lock_wait=lock_wait
    )
    now = state_of(handle, intent.name)
    return now is not None and is_new(now, intent.index), left


def is_new(state: Row, index: int) -> bool:
    """Whether a valid index has taken the place of another one."""
    return bool(state["oid"] != index and state["valid"])


def as_noted(item: PlanItem, intent: Intent) -> Work:
    """What a lost attempt would have said of its work, as far as it is known."""
    valid = bool(item.evidence.get("valid", True))
    return Work(seconds=0.0, before={"bytes": intent.bytes, "valid": valid})


def _rebuild(handle: Handle, item: PlanItem, state: Row, report: Report) -> dict[str, Value]:
    if item.method == BLOCKING:
        return _blocking(handle, item, report)
    refuse_broken(handle.identity.version)
    _yield_to_autovacuum(handle, state, item)
    blockers.preflight(
        handle, [state["relation"], state["table_oid"]], _option(item, "blocker_age"), f"the rebuild of {item.object}"
    )
    there = remains.invalid(handle, [state["relation"]])
    remains.clear(handle, [row for row in there if remains.is_marked(row)], lock_wait=_option(item, "cleanup_wait"))
    intent = Intent(
        index=state["oid"], relation=state["relation"], name=item.object, invalid=tuple(row["oid"] for row in there),
        bytes=state["bytes"],
    )  # fmt: skip
    report.note(intent.text())
    report.stage("rebuilding", item.object)
    return _concurrently(handle, item, report, intent)


def _concurrently(handle: Handle, item: PlanItem, report: Report, intent: Intent) -> dict[str, Value]:
    tracker = Tracker(intent=intent)
    fault: UpkeepError | None = None
    limits = Limits(deadline=_option(item, "deadline"), patience=_option(item, "max_wait"))
    with watched(handle, item, report, "progress_reindex", tracker.read, limits=limits) as watch:
        try:
            handle.perform(statement(item.object, concurrently=True), lock_wait=0)
        except UpkeepError as error:
            fault = error
    values: dict[str, Value] = {"lock_wait_seconds": round(watch.seen.lock_wait, 3), **watch.toll.values()}
    if watch.seen.blocker:
        values["blocked"] = watch.seen.blocker
    if fault is None:
        return values
    if isinstance(fault, Lost):
        _come_back(handle, item, fault, lost_answer=watch.seen.lost_answer)
    report.stage("clearing up", item.object)
    done, left = settle(handle, intent, seen=tracker.seen, lock_wait=_option(item, "cleanup_wait"))
    if done:
        return {**values, "copies_left": len(left)}
    if not handle.stopping or watch.seen.gave_up:
        fault = waited(fault, item.object, watch.seen.blocker if watch.seen.gave_up else "")
    raise with_left(fault, left) from fault.__cause__


def _come_back(handle: Handle, item: PlanItem, fault: Lost, *, lost_answer: bool) -> None:
    """Where the answer alone was lost, look from a new session; else the next attempt does. Raises `Lost`."""
    if not lost_answer:
        raise fault
    old = handle.identity.pid
    handle.reconnect()
    if not end_session(handle, old, handle.tag):
        raise fault
    handle.lock(int(str(item.evidence["table_oid"])), item.object)


def end_session(handle: Handle, pid: int, tag: str, *, patience: float = 10.0) -> bool:
    """End a session of ours that nobody listens to any more, and wait until it is gone; whether it is."""
    pause, waited = threading.Event(), 0.0
    while [row for row in handle.rows("orphans", {"tags": [tag]}) if row["pid"] == pid]:
        if waited >= patience:
            return False
        handle.rows("SELECT pg_terminate_backend(%(pid)s)", {"pid": pid})
        pause.wait(0.1)
        waited += 0.1
    return True


def waited(fault: UpkeepError, name: str, blocker: str) -> UpkeepError:
    """The error with what it means here: that it waited for too long."""
    if not blocker and fault.kind is not Kind.BUSY:
        return fault
    return Busy(
        f"the rebuild of {name} was stopped: it waited too long",
        why=blocker or fault.why,
        hint="nothing is changed, and it comes back with the next run; `max_wait` says how long it may wait",
    )


def with_left(fault: UpkeepError, left: Sequence[Row]) -> UpkeepError:
    """The error with what could not be cleared up."""
    if left:
        names = words.listed([f"{row['schema']}.{row['name']}" for row in left])
        fault.hint = f"{names} could not be dropped yet, is marked as ours, and goes with the next run; {fault.hint}"
    return fault


def _blocking(handle: Handle, item: PlanItem, report: Report) -> dict[str, Value]:
    blocking.admit(item, report, f"the rebuild of {item.object}")
    report.stage("rebuilding while writers wait", item.object)
    limits = Limits(deadline=_option(item, "deadline"))
    with watched(handle, item, report, "progress_reindex", of_reindex, limits=limits, closely=True) as watch:
        with_tries(handle, item, statement(item.object, concurrently=False))
    return {"lock_wait_seconds": round(watch.seen.lock_wait, 3), **watch.toll.values()}


def with_tries(handle: Handle, item: PlanItem, statement: Any) -> list[Said]:  # noqa: ANN401 - psycopg's Composable
    """Execute what needs an exclusive lock: each try waits for it shortly, because others queue up behind it."""
    tries, pause = max(1, int(_option(item, "lock_tries"))), threading.Event()
    for number in range(1, tries + 1):
        try:
            return handle.perform(statement, lock_wait=_option(item, "lock_wait"))
        except Busy as error:
            if handle.stopping:  # others wait for it
                raise
            if number == tries:
                raise Busy(
                    f"the lock on {item.object} could not be had", why=f"{tries} tries of {_option(item, 'lock_wait')} s"
                    " each; longer ones would hold up everybody else", hint=error.hint,
                ) from error.__cause__  # fmt: skip
            pause.wait(_PAUSE)
    raise AssertionError


def _drop(handle: Handle, item: PlanItem, state: Row, report: Report) -> dict[str, Value]:
    if state["valid"]:
        raise Refused(f"{item.object} is not dropped", why="it is valid now", hint="plan again", kind=Kind.DRIFT)
    row = next(row for row in remains.invalid(handle, [state["relation"]]) if row["oid"] == state["oid"])
    if row["builder"]:
        raise Busy(f"{item.object} is being built", why=f"pid {row['builder']} is at it", hint="it comes back")
    report.stage("dropping", item.object)
    if not remains.drop(handle, row, lock_wait=_option(item, "max_wait")):
        raise Busy(f"{item.object} could not be dropped", why="the table is in use", hint="it comes back")
    return {}


def _verified_drop(work: Work, *, gone: bool) -> Evidence:
    bytes_before = int(needs.number(work.before, "bytes"))
    return Evidence(
        effective=Effective.YES if gone else Effective.NO,
        reason=f"the unfinished copy of {words.size(bytes_before)} is gone" if gone else "it is still there",
        before=work.before,
        after={"bytes": 0 if gone else bytes_before, "valid": False},
        work_bytes=0,
    )


def _judge(item: PlanItem, before: Mapping[str, Value], after: Mapping[str, Value]) -> tuple[Effective, str]:
    was, now = needs.number(before, "bytes"), needs.number(after, "bytes")
    share = 1 - now / was if was else 0.0
    text = f"{words.size(was)} became {words.size(now)} ({words.share(share)} less)"
    if not after["valid"]:
        return Effective.NO, f"{text}, and it is invalid"
    if not before["valid"]:
        return Effective.YES, f"it is valid now; {text}"
    planned = needs.number(item.evidence, "share")
    if planned and share < HALF * planned:
        return Effective.NO, f"{text}, where {words.share(planned)} were expected"
    return Effective.YES, text


def refuse_broken(version: Version) -> None:
    """Raise `Refused` for a version that misses rows."""
    if version.broken_concurrently:
        raise Refused(
            f"PostgreSQL {version} does not build indexes CONCURRENTLY safely",
            why="until 14.4 it can miss rows that change meanwhile",
            hint="upgrade to 14.4 or later",
            kind=Kind.CAPABILITY,
        )


def _yield_to_autovacuum(handle: Handle, state: Row, item: PlanItem) -> None:
    for row in handle.rows("at_work"):
        if row["oid"] in (state["table_oid"], state["relation"]) and row["wraparound"]:
            raise kept_by_autovacuum(item.object, row)


def kept_by_autovacuum(name: str, row: Row) -> Busy:
    """Why an index is left alone whose table is vacuumed against wraparound."""
    return Busy(
        f"the rebuild of {name} is not begun",
        why=f"autovacuum prevents wraparound there (pid {row['pid']}), and must not be disturbed",
        hint="it comes back with the next run",
    )


def statement(name: str, *, concurrently: bool) -> Any:  # noqa: ANN401 - psycopg's Composable
    """What rebuilds an index."""
    from psycopg import sql

    kind = sql.SQL("CONCURRENTLY ") if concurrently else sql.SQL("")
    return sql.SQL("REINDEX INDEX {}{}").format(kind, identifier(name))


def _before(handle: Handle, item: PlanItem, state: Row) -> dict[str, Any]:
    return {"bytes": state["bytes"], "density": None if item.method == DROP else _density(handle, state)}


def _density(handle: Handle, state: Row) -> float | None:
    """How full the leaves of a B-tree are, where that can be read in reasonable time."""
    if state["method"] != "btree" or not state["valid"] or state["bytes"] > _READ_FOR_EVIDENCE:
        return None
    function = PGSTATINDEX.callable(handle)
    pages = pages_of(handle, function, state["oid"]) if function else None
    return round(pages.density, 3) if pages else None


def _option(item: PlanItem, name: str) -> float:
    return needs.number(item.options, name)
