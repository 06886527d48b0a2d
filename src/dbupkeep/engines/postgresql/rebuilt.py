"""What became of a group of small indexes: verified after the work, and looked up after an attempt that was lost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from dbupkeep.engine import Evidence, Work
from dbupkeep.engines.postgresql import maintain, needs, rebuild, remains, words
from dbupkeep.engines.postgresql.bloat import TRUSTED
from dbupkeep.engines.postgresql.remains import Intent
from dbupkeep.errors import Busy
from dbupkeep.facts import Value
from dbupkeep.jobs import Effective
from dbupkeep.plans import PlanItem

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

Row = Mapping[str, Any]


def verify(handle: Handle, item: PlanItem, work: Work) -> Evidence:
    """Look whether a valid new index is in the place of each, and what all of them gave back."""
    before: dict[str, list[int]] = json.loads(str(work.values.get("members") or "{}"))
    anew: list[str] = json.loads(str(work.values.get("rebuilt_before") or "[]"))
    planned = {name: oid for oid, name in maintain.names_of(item).items()}
    now = rebuild.states(handle, [*before, *anew])
    found = {name: now[name] for name in item.members if name in now}
    new = {name: row for name, row in found.items() if rebuild.is_new(row, planned[name])}
    there = [name for name in before if name in found]  # what was dropped meanwhile is nobody's fault
    total_before, total = sum(before[name][0] for name in there), sum(found[name]["bytes"] for name in there)
    effective, reason = _judge(item, total_before, total, stale=[name for name in there if name not in new])
    said = [f"{_counted(len(there))}: {reason}"] if there else []
    said += [f"{_counted(len(anew))} had been rebuilt since the plan already"] if anew else []
    return Evidence(
        effective=effective,
        reason="; ".join(said),
        before={"bytes": total_before, "valid": all(before[name][1] for name in there)},
        after={"bytes": total, "valid": all(found[name]["valid"] for name in there)},
        values={"members": json.dumps({name: [before.get(name), short(row)] for name, row in found.items()})},
        work_bytes=sum(max(before[name][0], found[name]["bytes"]) for name in there),
        members=_kept(item, before, new),
    )


def recover(handle: Handle, item: PlanItem, notes: Sequence[str]) -> Evidence | None:
    """Drop what lost attempts left, and look whether all members are rebuilt. Raises `Busy` where one is worked on."""
    attempts = [intents for intents in remains.attempts(notes) if intents]
    if not attempts:
        return None
    if handle.try_lock(sorted(set(_tables(item).values()))):
        raise Busy(f"tables of {item.object} are being maintained already", hint="it comes back with the next run")
    try:
        relations = {intent.relation for intents in attempts for intent in intents}
        rows = remains.invalid(handle, sorted(relations))
        for intents in attempts:
            remains.clear(
                handle, remains.of_one_at_work(rows, intents), lock_wait=needs.number(item.options, "cleanup_wait")
            )
        return _done_after_all(handle, item, attempts)
    finally:
        handle.unlock_all()


def _done_after_all(handle: Handle, item: PlanItem, attempts: Sequence[Sequence[Intent]]) -> Evidence | None:
    """Evidence where each member is rebuilt; the attempt that comes now does the rest else."""
    first = {intent.name: intent for intents in reversed(attempts) for intent in intents}
    found = rebuild.states(handle, first)
    planned = {name: oid for oid, name in maintain.names_of(item).items()}
    if first.keys() != planned.keys() or not all(
        name in found and rebuild.is_new(found[name], oid) for name, oid in planned.items()
    ):
        return None
    valid = int(bool(item.evidence.get("valid", True)))
    noted = {"members": json.dumps({name: [intent.bytes, valid] for name, intent in first.items()})}
    evidence = verify(handle, item, Work(seconds=0.0, values=noted))
    return replace(evidence, effective=Effective.YES, reason=f"the attempt before had done it: {evidence.reason}")


def _judge(item: PlanItem, before: int, after: int, *, stale: Sequence[str]) -> tuple[Effective, str]:
    share = 1 - after / before if before else 0.0
    text = f"{words.size(before)} became {words.size(after)} ({words.share(share)} less)"
    if stale:
        verb = "is" if len(stale) == 1 else "are"
        return Effective.NO, f"{text}, and {words.listed(list(stale))} {verb} not rebuilt, or not valid"
    planned = needs.number(item.evidence, "share")
    if planned and before and share < rebuild.HALF * planned:
        return Effective.NO, f"{text}, where {words.share(planned)} were expected"
    return Effective.YES, text


def _counted(number: int) -> str:
    return "1 index" if number == 1 else f"{number} indexes"


def _kept(item: PlanItem, before: Mapping[str, Sequence[int]], new: Mapping[str, Row]) -> dict[str, dict[str, Value]]:
    """What the next plan must know of each member: its collation's version, its sizes where these tell, what was expected."""
    collations, gains = (_by_name(item, name) for name in ("collations", "gains"))
    return {
        name: {
            **({"bytes": row["bytes"], "entries": row["entries"]} if _tells(row) else {}),
            **({"collation": collations[name]} if name in collations else {}),
            **(
                {"bytes": row["bytes"], "before": before[name][0], "predicted": gains[name]}
                if name in gains and name in before
                else {}
            ),
        }
        for name, row in new.items()
    }


def _tells(row: Row) -> bool:
    """Whether the size of a new index is a measure for the next time."""
    return bool(row["bytes"] >= TRUSTED and row["method"] == "btree")


def _by_name(item: PlanItem, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(str(item.evidence.get(name) or "{}"))
    return found


def short(row: Row) -> list[int]:
    """A state in short: bytes, and whether it is valid."""
    return [row["bytes"], int(row["valid"])]


def _tables(item: PlanItem) -> dict[str, int]:
    """The OID of the table of each member, as planned."""
    return dict(zip(item.members, json.loads(str(item.evidence.get("tables") or "[]")), strict=True))
