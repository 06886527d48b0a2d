"""Room on the server: for what is written anew beside the old, and for the WAL of it, which slots and settings keep.

Whoever writes a table or an index anew writes about as much WAL. A slot whose consumer is away keeps all of it: until the
volume is full, which ends the server, or until `max_slot_wal_keep_size`, which loses the slot and with it the replica.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from dbupkeep.engines.postgresql import needs, volumes, words
from dbupkeep.engines.postgresql.inquiry import Inquiry
from dbupkeep.errors import Busy, Kind, Refused
from dbupkeep.facts import Value
from dbupkeep.logs import printable
from dbupkeep.plans import PlanItem, SpaceNeed

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

OPTIONS = ("space_declared", "undeclared_bytes", "max_lag_bytes")
"""Settings that an item needs to look again right before the work."""

WAL = "pg_wal"

LITTLE = 256 * 1024
"""Bytes for which nobody looks again: to look would take as long as the work."""


class Slot(Struct, frozen=True, kw_only=True):
    """A replication slot that keeps WAL."""

    name: str
    active: bool
    bytes: int  # of WAL that it keeps
    safe: int | None  # that may still be written before it is lost; None: without limit


class Kept(Struct, frozen=True, kw_only=True):
    """Why WAL stays after it was written."""

    most: int = 0  # max_wal_size: what lies about in any case
    keep: int = 0  # wal_keep_size
    slots: tuple[Slot, ...] = ()

    @classmethod
    def of(cls, text: Value) -> Kept:
        """Read what the query `wal_kept` said; nothing where it was not asked."""
        found: Mapping[str, Any] = json.loads(str(text or "{}"))
        slots = tuple(Slot(**slot) for slot in found.get("slots") or ())
        return cls(most=int(found.get("most") or 0), keep=int(found.get("keep") or 0), slots=slots)

    def holding(self, lag: float) -> Slot | None:
        """The slot that keeps most and would keep what is written now: nobody reads from it, or far behind."""
        found = [slot for slot in self.slots if not slot.active or (lag and slot.bytes > lag)]
        return max(found, key=lambda slot: slot.bytes, default=None)

    def lost(self, wal: int, lag: float) -> str:
        """Which slot so many bytes of WAL would lose, as a phrase; empty for none."""
        for slot in self.slots:
            if slot.safe is not None and slot.safe < wal and (not slot.active or (lag and slot.bytes > lag)):
                state = "is behind" if slot.active else "has no consumer now"
                return (
                    f"the replication slot {printable(slot.name)} {state} and would be lost: it keeps"
                    f" {words.size(slot.bytes)} of WAL, max_slot_wal_keep_size allows {words.size(max(0, slot.safe))}"
                    f" more, and about {words.size(wal)} would be written"
                )
        return ""

    def need(self, wal: int, lag: float, available: int | None) -> SpaceNeed:
        """Room for so many bytes of WAL: all of it where a slot keeps it, else what the server lets lie about."""
        slot = self.holding(lag)
        if slot is None:
            stays = min(wal, max(self.most, self.keep))
            return SpaceNeed(purpose="WAL", folder=WAL, needed=stays, available=available)
        purpose = f"WAL, all kept by the slot {printable(slot.name)} beside {words.size(slot.bytes)}"
        return SpaceNeed(purpose=purpose, folder=WAL, needed=wal, available=available)


def wanted(q: Inquiry, purpose: str, size: float, tablespace: int) -> tuple[SpaceNeed, ...]:
    """What writing so many bytes anew needs: the new files, and their WAL. Pure."""
    free = q.facts.values.get("free_bytes")
    available = volumes.of_tablespace(free, tablespace)
    folder = f"tablespace {tablespace}" if tablespace else "data folder of the server"
    copy = SpaceNeed(
        purpose=purpose,
        folder=folder,
        needed=int(size * q.policy.space_factor),
        available=(int(q.threshold("space_declared")) or None) if available is None else available,
    )
    kept = Kept.of(q.facts.values.get("wal_kept"))
    return (copy, kept.need(int(size), q.threshold("max_lag_bytes"), volumes.of_wal(free)))


def undeclared(q: Inquiry, space: Sequence[SpaceNeed]) -> str:
    """Why so much is not written where nobody knows what is free; empty when that is known, or it is little. Pure."""
    copy = space[0] if space else None
    if copy is None or copy.available is not None or copy.needed <= q.threshold("undeclared_bytes"):
        return ""
    return _undeclared(copy.needed)


def in_the_way(q: Inquiry, space: Sequence[SpaceNeed], tablespace: int) -> str:
    """What there is too little room for, or which slot would be lost; empty for nothing. Pure."""
    for need in space:
        if not need.enough:
            return (
                f"it needs {need.needed:,} bytes for {need.purpose} in {need.folder}, and {need.available:,} are free"
            )
    if not space:
        return ""
    if volumes.together(q.facts.values.get("free_bytes"), tablespace) and not _both(space):
        needed = sum(need.needed for need in space)
        return f"it needs {needed:,} bytes on the volume of data and WAL, and {space[1].available:,} are free"
    wal = int(space[0].needed / q.policy.space_factor)
    return Kept.of(q.facts.values.get("wal_kept")).lost(wal, q.threshold("max_lag_bytes"))


def check(handle: Handle, item: PlanItem, size: float) -> None:
    """Look again right before the work. Raises `Refused` for lack of room, and `Busy` where slots are in the way."""
    if size <= LITTLE:
        return
    free, options = volumes.free(handle), item.options
    needed = int(size * needs.number(options, "space_factor", 1.2))
    available = volumes.of_tablespace(free, int(needs.number(item.evidence, "tablespace")))
    if available is None:
        available = int(needs.number(options, "space_declared")) or None
    if available is None and needed > needs.number(options, "undeclared_bytes", float("inf")):
        raise Refused(f"{item.object} is not written anew", why=_undeclared(needed), kind=Kind.SPACE)
    if available is not None and available < needed:
        raise Refused(
            f"there is not enough room to write {item.object} anew",
            why=f"{needed:,} bytes are needed beside it, and {available:,} are free",
            hint="free space on that volume, or on a bigger one give it another tablespace",
            kind=Kind.SPACE,
        )
    _check_wal(item, Kept.of(handle.row("wal_kept")["kept"]), int(size), volumes.of_wal(free))


def _check_wal(item: PlanItem, kept: Kept, wal: int, available: int | None) -> None:
    lag = needs.number(item.options, "max_lag_bytes")
    why = kept.lost(wal, lag)
    need = kept.need(wal, lag, available)
    if not why and not need.enough:
        why = f"{need.needed:,} bytes are needed for {need.purpose}, and {need.available:,} are free there"
    if why:
        raise Busy(
            f"{item.object} is not written anew now",
            why=why,
            hint="have the consumer of the slot catch up, or drop it when nobody needs it; it comes back with the next run",
        )


def _both(space: Sequence[SpaceNeed]) -> bool:
    free = space[1].available
    return free is None or free >= sum(need.needed for need in space)


def _undeclared(needed: int) -> str:
    return (
        f"it needs {words.size(needed)} on the server, where free space cannot be seen from here: declare it by the"
        " setting `space_declared` (bytes)"
    )
