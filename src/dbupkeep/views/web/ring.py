"""The newest events, ready to be sent. Values only: a new ring is made of an old one, so threads may share them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

from msgspec import Struct

SIZE = 2000
"""Events at hand."""

AT_ONCE = 200
"""Messages that a stream takes in one go."""


class Entry(Struct, frozen=True, kw_only=True):
    """An event as it is sent."""

    seq: int
    run: str  # the correlation id
    message: bytes


class Ring(Struct, frozen=True, kw_only=True):
    """All events whose number is above `floor`, up to `head`."""

    floor: int = 0
    head: int = 0
    entries: tuple[Entry, ...] = ()

    def plus(self, newer: Sequence[Entry], size: int = SIZE) -> Ring:
        """With newer events; the oldest are left out where there are more than `size`."""
        entries = (*self.entries, *newer)
        dropped = entries[:-size]
        return Ring(
            floor=dropped[-1].seq if dropped else self.floor,
            head=entries[-1].seq if entries else self.head,
            entries=entries[-size:],
        )

    def after(self, place: int, run: str = "") -> tuple[list[bytes], int] | None:
        """What comes next for a stream of a run (empty: of all), and its place then; None when that is not at hand."""
        if place < self.floor:
            return None
        first = bisect_right(self.entries, place, key=attrgetter("seq"))
        wanted = [entry for entry in self.entries[first:] if not run or entry.run == run]
        taken = wanted[:AT_ONCE]
        last = taken[-1].seq if len(taken) < len(wanted) else self.head
        return [entry.message for entry in taken], max(place, last)
