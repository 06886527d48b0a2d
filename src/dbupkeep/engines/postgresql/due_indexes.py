"""Which indexes are to be rebuilt, and why; which of them share an item, and in what order. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from dbupkeep.engines.postgresql import bloat, needs, remains, words
from dbupkeep.engines.postgresql.grouping import Share, gathered
from dbupkeep.engines.postgresql.inquiry import Inquiry, group_of
from dbupkeep.facts import ObjectFacts
from dbupkeep.operations import Operation
from dbupkeep.plans import Source

if TYPE_CHECKING:
    from dbupkeep.estimates import Measurement

CONCURRENTLY = "concurrently"
BLOCKING = "blocking"
DROP = "drop what was left"
"""The methods."""


class Due(Struct, frozen=True, kw_only=True):
    """An index with why it is rebuilt; `rank` says what goes first."""

    index: ObjectFacts
    table: ObjectFacts  # as far as a rebuild must know it
    rank: int
    reason: str
    gain: float | None = None
    source: Source = Source.UNKNOWN
    method: str = CONCURRENTLY

    @property
    def facts(self) -> ObjectFacts:
        """Of the index."""
        return self.index

    @property
    def gain_bytes(self) -> int | None:
        """What it gives back."""
        return None if self.gain is None else int(self.gain * (self.index.bytes or 0))


def indexes_due(q: Inquiry, indexes: Iterable[ObjectFacts]) -> list[Due]:
    """Those that are to be rebuilt, what presses most first."""
    return sorted((due for index in indexes if (due := _due(q, index)) is not None), key=_order)


def shares(q: Inquiry, dues: Sequence[Due], alone: Callable[[Due], bool]) -> list[Share[Due]]:
    """In their order; small indexes of small tables share items, but for those `alone`."""
    found = gathered(q, dues, lambda due: not alone(due))
    return sorted(found, key=lambda share: _order(share.dues[0]))


def gain_of(share: Share[Due]) -> int | None:
    """What it gives back, as far as that is known."""
    known = [gain for due in share.dues if (gain := due.gain_bytes) is not None]
    return sum(known) if known else None


def _order(due: Due) -> tuple[int, int, int, str]:
    """What is wrong first; then by gain, and the big before the small, which fit in beside them."""
    return (due.rank, -(due.gain_bytes or 0), -(due.index.bytes or 0), due.index.name)


def _table_of(index: ObjectFacts) -> ObjectFacts:
    values = {"oid": index.values["table_oid"], "toast_oid": index.values["toast_oid"]}
    size = int(needs.number(index.values, "table_bytes"))
    return ObjectFacts(name=index.table, kind="table", bytes=size, values=values)


def _due(q: Inquiry, index: ObjectFacts) -> Due | None:
    values = index.values
    if not values.get("valid"):
        return _invalid(index)
    if _damaged(q, index):
        return _of(index, rank=2, reason="the last check found it damaged, and it was not rebuilt since")
    if values.get("collation") and not _rebuilt_for(q, index):
        reason = (
            f"the collation {values['collation']} was version {values['recorded']} when it was made and is"
            f" {values['actual']} now: its order may be wrong"
        )
        return _of(index, rank=3, reason=reason)
    due = _bloated(q, index)
    if due is None and q.policy.force and not (values.get("toast") and (index.bytes or 0) <= bloat.PAGE):
        return _of(index, rank=5, reason=f"asked for by force: {words.size(index.bytes or 0)}")
    return due


def _of(
    index: ObjectFacts, *, rank: int, reason: str, gain: float | None = None, source: Source = Source.UNKNOWN,
    method: str = CONCURRENTLY,
) -> Due:  # fmt: skip
    return Due(index=index, table=_table_of(index), rank=rank, reason=reason, gain=gain, source=source, method=method)


def _invalid(index: ObjectFacts) -> Due:
    size = words.size(index.bytes or 0)
    if remains.is_marked(index.values):
        reason = f"an unfinished copy of {size} that an earlier run of ours left"
        return _of(index, rank=0, reason=reason, method=DROP)
    if index.values.get("copy"):
        reason = f"an unfinished copy of {size} that a REINDEX CONCURRENTLY left; it may cost every write"
        return _of(index, rank=0, reason=reason, method=DROP)
    return _of(index, rank=1, reason="it is invalid: no query uses it, and it may cost every write")


def _damaged(q: Inquiry, index: ObjectFacts) -> bool:
    if not q.history.own:  # as of most plans, and it is asked of thousands
        return False
    checks = (q.history.last(Operation.CHECK, name) for name in (index.table, group_of(_table_of(index))))
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
    return _of(index, rank=4, reason=reason, gain=gain, source=guess.source)


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
