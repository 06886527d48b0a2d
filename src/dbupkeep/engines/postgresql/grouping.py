"""Which of the tables and indexes that are due get an item of their own, and which share one; and in what order. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from dbupkeep.engines.postgresql import words
from dbupkeep.engines.postgresql.inquiry import Inquiry, group_of, hold_of
from dbupkeep.engines.postgresql.needs import Need
from dbupkeep.facts import ObjectFacts
from dbupkeep.operations import Operation

MOST, LEAST = 400, 100
"""Members of an item of a group that is cut into parts: each has half of what is left, so that sessions that work on
several groups end at about the same time."""


class Piece(Protocol):
    """A table or an index with why something is done to it."""

    @property
    def facts(self) -> ObjectFacts:
        """Of what it is done to."""
        ...

    @property
    def table(self) -> ObjectFacts:
        """Of the table, whose hold that takes."""
        ...

    @property
    def reason(self) -> str:
        """Why, in words."""
        ...


P = TypeVar("P", bound=Piece)


class Due(Struct, frozen=True, kw_only=True):
    """A table with what it needs."""

    table: ObjectFacts
    need: Need
    benefit: float = 0.0

    @property
    def facts(self) -> ObjectFacts:
        """Of the table."""
        return self.table

    @property
    def reason(self) -> str:
        """Of the need."""
        return self.need.reason


class Share(Struct, Generic[P], frozen=True, kw_only=True):
    """What makes one item, the most pressing first."""

    object: str
    hold: str
    dues: tuple[P, ...]

    @property
    def objects(self) -> list[ObjectFacts]:
        """Of what is worked on, in its order."""
        return [due.facts for due in self.dues]

    @property
    def tables(self) -> list[ObjectFacts]:
        """Of its tables, each once."""
        return list({due.table.name: due.table for due in self.dues}.values())

    @property
    def bytes(self) -> int:
        """Of all that is worked on."""
        return sum(each.bytes or 0 for each in self.objects)

    @property
    def reason(self) -> str:
        """Why; of a group the most pressing one, and how many there are."""
        first = self.dues[0]
        if len(self.dues) == 1:
            return first.reason
        kind = "indexes" if first.facts.kind == "index" else "tables"
        names = words.listed([each.name for each in self.objects])
        return f"{len(self.dues)} small {kind} ({names}), first of all {first.facts.name}: {first.reason}"


def shares(q: Inquiry, dues: Sequence[Due]) -> list[Share[Due]]:
    """Freezing first, by age and size; then by benefit, what is big before what is in groups."""
    found = gathered(q, sorted(dues, key=_order), lambda _: True)
    return sorted(found, key=lambda share: _order(share.dues[0])[:1])


def gathered(q: Inquiry, dues: Sequence[P], may: Callable[[P], bool]) -> list[Share[P]]:
    """In their order, groups last: what is small, and may, shares an item with others of its hold, if there is enough of it."""
    limit = q.threshold("group_bytes")
    small = [due for due in dues if (due.facts.bytes or 0) <= limit and _is_small(due.table) and may(due)]
    groups: dict[str, list[P]] = defaultdict(list)
    for due in small if len(small) >= max(2, q.threshold("group_from")) else []:
        groups[group_of(due.table)].append(due)
    several = {name: group for name, group in groups.items() if len(group) > 1}
    grouped = {id(due) for group in several.values() for due in group}
    alone = [of_one(due) for due in dues if id(due) not in grouped]
    if q.operation is Operation.CHECK:  # which is looked up by its group
        return [*alone, *(Share(object=name, hold=name, dues=tuple(group)) for name, group in several.items())]
    return [*alone, *(share for name, group in several.items() for share in _parts(name, group))]


def _parts(name: str, group: Sequence[P]) -> Iterator[Share[P]]:
    """A group, or parts of a bigger one, ever smaller; one at a time, for they have one hold."""
    first = number = 0
    while first < len(group):
        half = -(-(len(group) - first) // (2 * LEAST)) * LEAST
        size, number = min(half, MOST), number + 1
        called = name if number == 1 else f"{name}, part {number}"
        part = tuple(group[first : first + size])
        yield Share(object=called, hold=name, dues=part) if len(part) > 1 else of_one(part[0])
        first += size


def of_one(due: P) -> Share[P]:
    """One as an item of its own."""
    return Share(object=due.facts.name, hold=hold_of(due.table), dues=(due,))


def _is_small(table: ObjectFacts) -> bool:
    """Whether its hold is that of a group."""
    return hold_of(table) == group_of(table)


def _order(due: Due) -> tuple[bool, float, int, str]:
    weight = due.need.score if due.need.freeze else due.benefit
    return (not due.need.freeze, -weight, -(due.table.bytes or 0), due.table.name)
