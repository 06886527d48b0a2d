"""REINDEX: invalid and outdated indexes first, then those that a rebuild makes much smaller; one at a time in a table."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dbupkeep.engines.postgresql import blockers, needs, rebuild, rebuilds, rebuilt, remains, room, words
from dbupkeep.engines.postgresql.due_indexes import (
    BLOCKING,
    CONCURRENTLY,
    DROP,
    Due,
    gain_of,
    indexes_due,
    predicted,
    shares,
)
from dbupkeep.engines.postgresql.grouping import Share
from dbupkeep.engines.postgresql.indexes import KIND
from dbupkeep.engines.postgresql.inquiry import CONSENT_DROP, CONSENT_LOCK, Draft, Inquiry
from dbupkeep.engines.postgresql.inquiry import propose as propose_draft
from dbupkeep.facts import Notice, ObjectFacts, Value
from dbupkeep.plans import PlanItem, Proposal, SpaceNeed

if TYPE_CHECKING:
    from dbupkeep.engine import Evidence, Report, Work
    from dbupkeep.engines.postgresql.handle import Handle

_LOCKS = "SHARE UPDATE EXCLUSIVE on the table: readers and writers go on; it waits for older transactions to end"
_LOCKS_BLOCKING = "SHARE on the table and ACCESS EXCLUSIVE on the index: writers wait until it is done"
_LOCKS_DROP = "SHARE UPDATE EXCLUSIVE on the table; it waits for those who use it to end"


def propose(q: Inquiry) -> list[Proposal]:
    """Decide by validity, damage, collations and bloat. Pure."""
    indexes = q.tables(KIND)
    dues = indexes_due(q, indexes)
    found = [_proposal(q, share) for share in shares(q, dues, lambda due: _has_its_own_way(q, due))]
    idle = max(len(indexes), int(q.facts.number("indexes"))) - len(dues)
    return [*found, _idle(q, indexes, idle)] if idle or not found else found


def run(handle: Handle, item: PlanItem, report: Report) -> Work:
    """Do it; see `rebuild.run` and `rebuilds.run` for what it raises."""
    return rebuilds.run(handle, item, report) if item.members else rebuild.run(handle, item, report)


def verify(handle: Handle, item: PlanItem, work: Work) -> Evidence:
    """Look what became of it."""
    return rebuilt.verify(handle, item, work) if item.members else rebuild.verify(handle, item, work)


def _has_its_own_way(q: Inquiry, due: Due) -> bool:
    """Whether something sets an index apart: it is not just rebuilt, may not be, or not now."""
    return bool(
        due.method != CONCURRENTLY
        or not due.index.values.get("permitted")
        or _not_concurrently(q, due.index)
        or _refusal(q, due)
        or _in_the_way(q, [due.table])
    )


def _proposal(q: Inquiry, share: Share[Due]) -> Proposal:
    first = share.dues[0]
    spaces = _needs(q, share.dues)
    space = _space(q, share, spaces)
    refusal = (_refusal(q, first) if len(share.dues) == 1 else "") or room.undeclared(q, space)
    if refusal:
        return q.skip(f"{share.object}: {share.reason}; but {refusal}", index=share.object)
    blocking = first.method == CONCURRENTLY and _not_concurrently(q, first.index)
    method = BLOCKING if blocking else first.method
    return propose_draft(
        q,
        Draft(
            tables=share.objects,
            object=share.object,
            hold=share.hold,
            reason=share.reason,
            method=method,
            locks={CONCURRENTLY: _LOCKS, BLOCKING: _LOCKS_BLOCKING}.get(method, _LOCKS_DROP),
            strong=method == BLOCKING,
            work_bytes=_read_and_written(share) if method != DROP else 0,
            gain=share.bytes if method == DROP else gain_of(share),
            options=_options(q),
            evidence={"version_number": q.version.number, "bytes": share.bytes, **_evidence(share)},
            space=space,
            notices=_notices(q, share),
            defer=_no_room(q, spaces) or (_in_the_way(q, share.tables) if method != BLOCKING else ""),
        ),
    )


def _read_and_written(share: Share[Due]) -> int:
    """Bytes of the indexes, and of the table of each."""
    return share.bytes + sum(due.table.bytes or 0 for due in share.dues)


def _options(q: Inquiry) -> dict[str, Value]:
    return {
        "deadline": q.threshold("deadline"),
        "blocker_age": q.threshold("blocker_age"),
        "max_wait": q.threshold("max_wait"),
        "lock_wait": q.threshold("lock_wait"),
        "lock_tries": int(q.threshold("lock_tries")),
        "cleanup_wait": q.threshold("cleanup_wait"),
        "space_factor": q.policy.space_factor,
        **{name: q.threshold(name) for name in room.OPTIONS},
    }


def _evidence(share: Share[Due]) -> dict[str, Value]:
    """What the work and its verification need to know of an index; of a group as JSON of all of them."""
    if len(share.dues) > 1:
        return {**_of_group(share), "share": _gain(share)}
    (due,) = share.dues
    return {
        "rows": due.index.values.get("rows"),
        "table": due.index.table,
        "table_oid": due.index.values.get("table_oid"),
        "valid": bool(due.index.values.get("valid")),
        "collation": due.index.values.get("actual"),
        "tablespace": due.index.values.get("tablespace"),
        "share": None if due.gain is None else round(due.gain, 3),
    }


def _of_group(share: Share[Due]) -> dict[str, Value]:
    indexes = share.objects
    collations = {index.name: actual for index in indexes if (actual := index.values.get("actual"))}
    gains = {due.index.name: gain for due in share.dues if (gain := due.gain_bytes) is not None}
    biggest = max(indexes, key=lambda index: index.bytes or 0)
    return {
        "tables": json.dumps([int(needs.number(index.values, "table_oid")) for index in indexes]),
        "valid": all(index.values.get("valid") for index in indexes),
        "tablespace": biggest.values.get("tablespace"),
        **({"collations": json.dumps(collations)} if collations else {}),
        **({"gains": json.dumps(gains)} if gains else {}),
    }


def _gain(share: Share[Due]) -> float | None:
    """The share of all that is to be given back; nothing where some of it is rebuilt for another reason."""
    gains = [due.gain_bytes for due in share.dues]
    if None in gains or not share.bytes:
        return None
    return round((gain_of(share) or 0) / share.bytes, 3)


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


def _in_the_way(q: Inquiry, tables: Sequence[ObjectFacts]) -> str:
    at_work: Mapping[str, str] = json.loads(str(q.facts.values.get("at_work") or "{}"))
    for table in tables:
        worker = at_work.get(str(table.values.get("oid")), "")
        if "wraparound" in worker:
            return f"{worker} is on it, and must not be disturbed"
    relations = [int(needs.number(table.values, name)) for table in tables for name in ("oid", "toast_oid")]
    found = blockers.planned(q.facts.values.get("long_transactions"), relations, q.threshold("blocker_age"))
    return f"it would wait for {found}" if found else ""


Spaces = Mapping[int, tuple[SpaceNeed, ...]]
"""What new indexes need, by tablespace: room for the files, and for their WAL."""


def _needs(q: Inquiry, dues: Sequence[Due]) -> Spaces:
    sizes: dict[int, int] = defaultdict(int)
    for due in dues:
        if due.method != DROP:
            sizes[_tablespace(due)] += (due.index.bytes or 0) - (due.gain_bytes or 0)
    what = "the new copy" if len(dues) == 1 else "the new copies"
    return {tablespace: room.wanted(q, what, size, tablespace) for tablespace, size in sizes.items()}


def _space(q: Inquiry, share: Share[Due], spaces: Spaces) -> tuple[SpaceNeed, ...]:
    """The same in one list; WAL is on one volume, whatever it is for."""
    if len(spaces) == 1:
        (needed,) = spaces.values()
        return needed
    whole = sum((due.index.bytes or 0) - (due.gain_bytes or 0) for due in share.dues)
    wal = room.wanted(q, "", whole, 0)[1:] if spaces else ()
    return (*(needed[0] for needed in spaces.values()), *wal)


def _no_room(q: Inquiry, spaces: Spaces) -> str:
    return next((text for tablespace, needed in spaces.items() if (text := room.in_the_way(q, needed, tablespace))), "")


def _tablespace(due: Due) -> int:
    return int(needs.number(due.index.values, "tablespace"))


def _notices(q: Inquiry, share: Share[Due]) -> tuple[Notice, ...]:
    foreign = [index.name for index in share.objects if not index.values.get("owned")]
    if not foreign:
        return ()
    role, it = q.facts.values.get("role"), "it" if len(foreign) == 1 else "one of them"
    return (
        Notice(
            code="cannot_clean_up",
            message=f"{role} may rebuild {words.listed(foreign)}, but not drop an unfinished copy of {it}",
            hint="only a member of the table's owner may; an interrupted rebuild stays until its owner drops the copy",
        ),
    )


def _idle(q: Inquiry, indexes: Sequence[ObjectFacts], idle: int) -> Proposal:
    least = q.threshold("min_bytes")
    big = [index for index in indexes if (index.bytes or 0) >= least and index.values.get("valid")]
    known = max(len(indexes), int(q.facts.number("indexes")))
    if not known:
        return q.skip("none of the tables that were looked at has an index", indexes=0, idle=0, unknown=0)
    unknown = [index.name for index in big if predicted(q, index).gain(index.bytes or 0) is None]
    said = f"; of {len(unknown)} it is not known ({words.listed(unknown)})" if unknown else ""
    return q.skip(
        f"{idle:,} of {known:,} indexes need none: due when invalid, or from {words.share(q.threshold('gain_share'))}"
        f" of predicted gain and {words.size(least)} on{said}",
        indexes=known,
        idle=idle,
        unknown=len(unknown),
    )
