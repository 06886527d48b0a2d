"""REINDEX: invalid and outdated indexes first, then those that a rebuild makes much smaller; one at a time in a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbupkeep.engines.postgresql import bloat, blockers, needs, remains, room, words
from dbupkeep.engines.postgresql.indexes import KIND
from dbupkeep.engines.postgresql.inquiry import CONSENT_DROP, CONSENT_LOCK, Draft, Inquiry, group_of, hold_of
from dbupkeep.engines.postgresql.inquiry import propose as propose_draft
from dbupkeep.engines.postgresql.rebuild import BLOCKING, CONCURRENTLY, DROP, run, verify
from dbupkeep.facts import Notice, ObjectFacts
from dbupkeep.operations import Operation
from dbupkeep.plans import Proposal, Source, SpaceNeed

if TYPE_CHECKING:
    from dbupkeep.estimates import Measurement

__all__ = ["propose", "run", "verify"]

_LOCKS = "SHARE UPDATE EXCLUSIVE on the table: readers and writers go on; it waits for older transactions to end"
_LOCKS_BLOCKING = "SHARE on the table and ACCESS EXCLUSIVE on the index: writers wait until it is done"
_LOCKS_DROP = "SHARE UPDATE EXCLUSIVE on the table; it waits for those who use it to end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """An index with why it is rebuilt; `rank` says what goes first."""

    index: ObjectFacts
    rank: int
    reason: str
    gain: float | None = None
    source: Source = Source.UNKNOWN
    method: str = CONCURRENTLY

    @property
    def gain_bytes(self) -> int | None:
        """What it gives back."""
        return None if self.gain is None else int(self.gain * (self.index.bytes or 0))


def propose(q: Inquiry) -> list[Proposal]:
    """Decide by validity, damage, collations and bloat. Pure."""
    indexes = q.tables(KIND)
    dues = sorted((due for index in indexes if (due := _due(q, index)) is not None), key=_order)
    found = [_proposal(q, due, table_of(due.index)) for due in dues]
    idle = max(len(indexes), int(q.facts.number("indexes"))) - len(dues)
    return [*found, _idle(q, indexes, idle)] if idle or not found else found


def _order(due: Due) -> tuple[int, int, int, str]:
    """What is wrong first; then by gain, and the big before the small, which fit in beside them."""
    return (due.rank, -(due.gain_bytes or 0), -(due.index.bytes or 0), due.index.name)


def table_of(index: ObjectFacts) -> ObjectFacts:
    """The table of an index, as far as a rebuild must know it."""
    values = {"oid": index.values["table_oid"], "toast_oid": index.values["toast_oid"]}
    size = int(needs.number(index.values, "table_bytes"))
    return ObjectFacts(name=index.table, kind="table", bytes=size, values=values)


def _due(q: Inquiry, index: ObjectFacts) -> Due | None:
    values = index.values
    if not values.get("valid"):
        return _invalid(index)
    if _damaged(q, index):
        return Due(index=index, rank=2, reason="the last check found it damaged, and it was not rebuilt since")
    if values.get("collation") and not _rebuilt_for(q, index):
        reason = (
            f"the collation {values['collation']} was version {values['recorded']} when it was made and is"
            f" {values['actual']} now: its order may be wrong"
        )
        return Due(index=index, rank=3, reason=reason)
    due = _bloated(q, index)
    if due is None and q.policy.force and not (values.get("toast") and (index.bytes or 0) <= bloat.PAGE):
        return Due(index=index, rank=5, reason=f"asked for by force: {words.size(index.bytes or 0)}")
    return due


def _invalid(index: ObjectFacts) -> Due:
    size = words.size(index.bytes or 0)
    if remains.is_marked(index.values):
        reason = f"an unfinished copy of {size} that an earlier run of ours left"
        return Due(index=index, rank=0, reason=reason, method=DROP)
    if index.values.get("copy"):
        reason = f"an unfinished copy of {size} that a REINDEX CONCURRENTLY left; it may cost every write"
        return Due(index=index, rank=0, reason=reason, method=DROP)
    return Due(index=index, rank=1, reason="it is invalid: no query uses it, and it may cost every write")


def _damaged(q: Inquiry, index: ObjectFacts) -> bool:
    checks = (q.history.last(Operation.CHECK, name) for name in (index.table, group_of(table_of(index))))
    last = max((check for check in checks if check), key=lambda check: check.at, default=None)
    if last is None or index.name not in json.loads(str(last.values.get("damaged") or "[]")):
        return False
    rebuilt = q.history.last(Operation.REINDEX, index.name)
    return rebuilt is None or rebuilt.at <= last.at


def _rebuilt_for(q: Inquiry, index: ObjectFacts) -> bool:
    """Whether we have rebuilt it for that version of its collation; the catalogue goes on saying the old one."""
    last = q.history.last(Operation.REINDEX, index.name)
    return last is not None and last.values.get("collation") == index.values["actual"]


def _bloated(q: Inquiry, index: ObjectFacts) -> Due | None:
    size = index.bytes or 0
    guess = predicted(q, index)
    gain = guess.gain(size)
    if gain is None or size < q.threshold("min_bytes") or gain < q.threshold("gain_share"):
        return None
    if not q.policy.force and q.history.cooling_off(q.operation, q.scope.now, q.policy.cool_off, object=index.name):
        return None
    reason = f"a rebuild would take {words.share(gain)} of {words.size(size)} off it ({guess.how})"
    return Due(index=index, rank=4, reason=reason, gain=gain, source=guess.source)


def predicted(q: Inquiry, index: ObjectFacts) -> bloat.Predicted:
    """What a rebuild would make of it. Its pages tell best; then its own past, then statistics."""
    values = index.values
    guess = bloat.unknown("it is small, or no B-tree, and has no history of ours")
    if values.get("how"):
        guess = bloat.Predicted(
            least=_number(values.get("least")), most=_number(values.get("most")),
            source=Source(str(values.get("source"))), how=str(values["how"]),
        )  # fmt: skip
    if guess.source is Source.MEASURED and guess.gain(index.bytes or 0) is not None:
        return guess
    last = q.history.last(Operation.REINDEX, index.name)
    own = _by_history(last, needs.number(values, "rows", -1.0)) if last else None
    return own or guess


def _by_history(last: Measurement, rows: float) -> bloat.Predicted | None:
    return bloat.by_history(rows, bytes_then=last.bytes_after, rows_then=needs.number(last.values, "entries"))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _proposal(q: Inquiry, due: Due, table: ObjectFacts) -> Proposal:
    space = _space(q, due)
    refusal = _refusal(q, due) or room.undeclared(q, space)
    if refusal:
        return q.skip(f"{due.index.name}: {due.reason}; but {refusal}", index=due.index.name)
    size = due.index.bytes or 0
    method = BLOCKING if due.method == CONCURRENTLY and _not_concurrently(q, due.index) else due.method
    return propose_draft(
        q,
        Draft(
            tables=[due.index],
            object=due.index.name,
            hold=hold_of(table),
            reason=due.reason,
            method=method,
            locks={CONCURRENTLY: _LOCKS, BLOCKING: _LOCKS_BLOCKING}.get(method, _LOCKS_DROP),
            strong=method == BLOCKING,
            work_bytes=(table.bytes or 0) + size if method != DROP else 0,
            gain=size if method == DROP else due.gain_bytes,
            options={
                "deadline": q.threshold("deadline"),
                "blocker_age": q.threshold("blocker_age"),
                "max_wait": q.threshold("max_wait"),
                "lock_wait": q.threshold("lock_wait"),
                "lock_tries": int(q.threshold("lock_tries")),
                "cleanup_wait": q.threshold("cleanup_wait"),
                "space_factor": q.policy.space_factor,
                **{name: q.threshold(name) for name in room.OPTIONS},
            },
            evidence={
                "version_number": q.version.number,
                "bytes": size,
                "rows": due.index.values.get("rows"),
                "table": table.name,
                "table_oid": table.values.get("oid"),
                "valid": bool(due.index.values.get("valid")),
                "collation": due.index.values.get("actual"),
                "tablespace": due.index.values.get("tablespace"),
                "share": None if due.gain is None else round(due.gain, 3),
            },
            space=space,
            notices=_notices(q, due.index),
            defer=room.in_the_way(q, space, int(needs.number(due.index.values, "tablespace")))
            or (_in_the_way(q, table) if method != BLOCKING else ""),
        ),
    )


def _not_concurrently(q: Inquiry, index: ObjectFacts) -> str:
    """Why an index cannot be rebuilt without holding up writers; empty when it can."""
    if index.values.get("exclusion"):
        return "it belongs to an exclusion constraint, which cannot be rebuilt CONCURRENTLY"
    if q.version.broken_concurrently:
        return f"PostgreSQL {q.version} misses rows when it builds CONCURRENTLY (mended in 14.4)"
    return ""


def _refusal(q: Inquiry, due: Due) -> str:
    """Why it is not done at all; empty when it is."""
    if due.method == DROP:
        if remains.is_marked(due.index.values) or CONSENT_DROP in q.policy.consents:
            return ""
        return f"it is not known to be ours: give the consent {CONSENT_DROP}, or DROP INDEX CONCURRENTLY it yourself"
    if due.index.values.get("toast") and not due.index.values.get("valid"):
        return "an invalid index of a TOAST table cannot be rebuilt CONCURRENTLY: drop it"
    reason = _not_concurrently(q, due.index)
    if reason and CONSENT_LOCK not in q.policy.consents:
        return f"{reason}; with the consent {CONSENT_LOCK} it is rebuilt while writers wait"
    return ""


def _in_the_way(q: Inquiry, table: ObjectFacts) -> str:
    oid = str(table.values.get("oid"))
    at_work: Mapping[str, str] = json.loads(str(q.facts.values.get("at_work") or "{}"))
    if "wraparound" in at_work.get(oid, ""):
        return f"{at_work[oid]} is on it, and must not be disturbed"
    relations = [int(needs.number(table.values, name)) for name in ("oid", "toast_oid")]
    found = blockers.planned(q.facts.values.get("long_transactions"), relations, q.threshold("blocker_age"))
    return f"it would wait for {found}" if found else ""


def _space(q: Inquiry, due: Due) -> tuple[SpaceNeed, ...]:
    if due.method == DROP:
        return ()
    size = (due.index.bytes or 0) - (due.gain_bytes or 0)
    return room.wanted(q, "the new copy", size, int(needs.number(due.index.values, "tablespace")))


def _notices(q: Inquiry, index: ObjectFacts) -> tuple[Notice, ...]:
    if index.values.get("owned"):
        return ()
    return (
        Notice(
            code="cannot_clean_up",
            message=f"{q.facts.values.get('role')} may rebuild {index.name}, but not drop an unfinished copy of it",
            hint="only a member of the table's owner may; an interrupted rebuild stays until its owner drops the copy",
        ),
    )


def _idle(q: Inquiry, indexes: Sequence[ObjectFacts], idle: int) -> Proposal:
    least = q.threshold("min_bytes")
    big = [index for index in indexes if (index.bytes or 0) >= least and index.values.get("valid")]
    known = max(len(indexes), int(q.facts.number("indexes")))
    unknown = [index.name for index in big if predicted(q, index).gain(index.bytes or 0) is None]
    said = f"; of {len(unknown)} it is not known ({words.listed(unknown)})" if unknown else ""
    return q.skip(
        f"{idle:,} of {known:,} indexes need none: due when invalid, or from {words.share(q.threshold('gain_share'))}"
        f" of predicted gain and {words.size(least)} on{said}",
        indexes=known,
        idle=idle,
        unknown=len(unknown),
    )
