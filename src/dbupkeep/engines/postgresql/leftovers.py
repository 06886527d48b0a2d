"""What cut-off operations leave behind, and what is done before an attempt after a lost one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from dbupkeep.engine import Evidence, Leftover
from dbupkeep.engines.postgresql import commits, maintain, needs, orphans, rebuild, rebuilt, remains, rewrite
from dbupkeep.engines.postgresql.due_indexes import DROP
from dbupkeep.engines.postgresql.names import told
from dbupkeep.errors import Busy, Refused
from dbupkeep.jobs import Effective
from dbupkeep.operations import CATALOGUE, Operation
from dbupkeep.plans import PlanItem

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

_WAIT = 10.0


def find(handle: Handle) -> list[Leftover]:
    """Everything that lies about, ours and others'. Changes nothing."""
    return [*_copies(handle), *_of_repack(handle)]


def _of_repack(handle: Handle) -> list[Leftover]:
    """What pg_repack made and did not remove: ours is removed by the attempt that made it, or the one after."""
    return [
        Leftover(
            name=f"repack.{row['name']}" if row["kind"] != "trigger" else f"{row['name']} on {row['table_name']}",
            bytes=row["bytes"],
            ours=False,
            explanation="made by pg_repack, which is at work or was cut off; the trigger goes first, then the rest",
        )
        for row in handle.rows("repack_objects", {"oid": None})
    ]


def _copies(handle: Handle) -> list[Leftover]:
    return [
        Leftover(
            name=told(row["schema"], row["name"]),
            bytes=row["bytes"],
            ours=remains.is_marked(row),
            explanation=_explanation(row["name"], ready=row["ready"]),
        )
        for row in remains.invalid(handle)
        if row["builder"] is None and (remains.is_marked(row) or remains.label_of(row["name"]))
    ]


def clean(handle: Handle, leftover: Leftover) -> None:
    """Remove one. Raises `Refused` for what is not proved ours, and `Busy` where its table is in use."""
    found = [row for row in remains.invalid(handle) if told(row["schema"], row["name"]) == leftover.name]
    if not found or not remains.is_marked(found[0]):
        raise Refused(f"{leftover.name} is not removed", why="it is not known to be ours", hint="remove it by hand")
    if not remains.drop(handle, found[0], lock_wait=_WAIT):
        raise Busy(f"{leftover.name} could not be dropped", why="its table is in use", hint="try again later")


def recover(handle: Handle, item: PlanItem, tag: str, notes: Sequence[str] = ()) -> Evidence | None:
    """Before an attempt after a lost one: end its session, drop what it left, and look whether it was done after all."""
    maintain.fit_to_work(handle, item, writes=CATALOGUE[item.operation].writes)
    orphans.settle(handle, item, tag)
    done = _done(handle, item, notes)
    if done is not None and item.members:  # their commits need not have waited for the disk
        commits.settled(handle)
    return done


def _done(handle: Handle, item: PlanItem, notes: Sequence[str]) -> Evidence | None:
    if item.operation is Operation.REINDEX:
        return _recover_rebuild(handle, item, notes)
    if item.operation in (Operation.VACUUM, Operation.ANALYZE):
        return maintain.recovered(handle, item)
    if item.operation is Operation.OPTIMIZE:
        return rewrite.recover(handle, item, notes)
    return None


def _recover_rebuild(handle: Handle, item: PlanItem, notes: Sequence[str]) -> Evidence | None:
    if item.members:
        return rebuilt.recover(handle, item, notes)
    found = remains.intents(notes, item.object)
    if not found or item.method == DROP:
        return None
    handle.lock(int(needs.number(item.evidence, "table_oid")), item.object)
    try:
        done = [rebuild.settle(handle, intent, seen=0, lock_wait=_option_wait(item))[0] for intent in found]
        if not any(done):
            return None
        return _evidence(handle, item, found[-1])
    finally:
        handle.unlock_all()


def _evidence(handle: Handle, item: PlanItem, intent: remains.Intent) -> Evidence:
    work = rebuild.as_noted(item, intent)
    evidence = rebuild.verify(handle, item, work)
    effective = Effective.YES if evidence.after.get("valid") else Effective.NO
    return replace(evidence, effective=effective, reason=f"the attempt before had done it: {evidence.reason}")


def _option_wait(item: PlanItem) -> float:
    return needs.number(item.options, "cleanup_wait") or _WAIT


def _explanation(name: str, *, ready: bool) -> str:
    cost = "; every write pays for it" if ready else ""
    if remains.label_of(name) == "ccold":
        return f"the old index after a REINDEX CONCURRENTLY that succeeded{cost}: it is only to be dropped"
    return f"an unfinished copy that a REINDEX CONCURRENTLY left{cost}: it is to be dropped"
