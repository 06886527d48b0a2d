"""Which of the tables that are due get an item of their own, and which share one; and in what order. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from dbupkeep.engines.postgresql import words
from dbupkeep.engines.postgresql.inquiry import Inquiry, group_of, hold_of
from dbupkeep.engines.postgresql.needs import Need
from dbupkeep.facts import ObjectFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A table with what it needs."""

    table: ObjectFacts
    need: Need
    benefit: float = 0.0

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.table.bytes or 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Tables that make one item."""

    object: str
    hold: str
    dues: tuple[Due, ...]

    @property
    def tables(self) -> list[ObjectFacts]:
        """Its tables."""
        return [due.table for due in self.dues]

    @property
    def bytes(self) -> int:
        """Of all of them."""
        return sum(due.bytes for due in self.dues)

    @property
    def reason(self) -> str:
        """Why; of a group the most pressing one, and how many there are."""
        first = self.dues[0]
        if len(self.dues) == 1:
            return first.need.reason
        names = words.listed([due.table.name for due in self.dues])
        return f"{len(self.dues)} small tables ({names}), first of all {first.table.name}: {first.need.reason}"


def shares(q: Inquiry, dues: Sequence[Due]) -> list[Share]:
    """Freezing first, by age and size; then by benefit. Small tables share items, once there are enough of them."""
    ordered = sorted(dues, key=_order)
    limit, enough = q.threshold("group_bytes"), q.threshold("group_from")
    small = [due for due in ordered if due.bytes <= limit and due.table.kind != "partitioned table"]
    if len(small) < max(2, enough):
        small = []
    grouped = {id(due) for due in small}
    groups: dict[str, list[Due]] = defaultdict(list)
    for due in small:
        groups[group_of(due.table)].append(due)
    alone = [of_one(due) for due in ordered if id(due) not in grouped]
    together = [
        Share(object=name, hold=name, dues=tuple(group)) if len(group) > 1 else of_one(group[0])
        for name, group in groups.items()
    ]
    return sorted([*alone, *together], key=lambda share: _order(share.dues[0])[:1])


def of_one(due: Due) -> Share:
    """One table as an item of its own."""
    return Share(object=due.table.name, hold=hold_of(due.table), dues=(due,))


def _order(due: Due) -> tuple[bool, float, int, str]:
    weight = due.need.score if due.need.freeze else due.benefit
    return (not due.need.freeze, -weight, -due.bytes, due.table.name)
