"""The audit trail: what people, tokens and schedules asked for, each entry sealed with the hash of the one before.

What it shows: an entry that was changed, taken out, put in or moved, and an end that was cut off while the trail's own
note of its ends was left. What it cannot show: a trail that was rewritten as a whole from some entry on, by who can
write the ledger and makes all hashes anew. Against that, keep the newest seal somewhere else and compare.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from msgspec import Struct, field

START = "0" * 64
"""What the first entry follows."""

PRUNED = "audit_pruned"
"""What the trail says of itself when its oldest entries are forgotten."""

_actor: ContextVar[str] = ContextVar("dbupkeep_actor", default="")


class Act(Struct, frozen=True, kw_only=True):
    """What somebody asked for."""

    who: str  # an account of the machine, `token NAME`, or `schedule`
    what: str  # the verb: `run`, `cancel`, `token_create`
    on: str = ""  # the job, plan or token that it was asked of; a job's events and results hold the statements
    target: str = ""  # the databases
    outcome: str = "done"  # or why it was not
    detail: Mapping[str, Any] = field(default_factory=dict)


class Entry(Struct, frozen=True, kw_only=True):
    """An act as the trail keeps it; all text is exactly as it was sealed."""

    seq: int  # from 1, without gaps
    at: str  # RFC 3339, UTC
    who: str
    what: str
    on: str
    target: str
    outcome: str
    detail: str  # JSON
    previous: str  # the seal of the entry before
    seal: str


class Ends(Struct, frozen=True, kw_only=True):
    """Where the trail begins and ends, as it notes itself: `pruned` is the newest entry that was forgotten."""

    pruned: int = 0
    pruned_seal: str = START
    last: int = 0
    last_seal: str = START


def sealed(act: Act, *, seq: int, at: str, previous: str) -> Entry:
    """The entry of an act that follows another one."""
    said = {name: plain(getattr(act, name)) for name in ("who", "what", "on", "target", "outcome")}
    detail = plain(json.dumps(act.detail, sort_keys=True, separators=(",", ":"), default=str))
    seal = seal_of(seq=seq, at=at, **said, detail=detail, previous=previous)
    return Entry(seq=seq, at=at, **said, detail=detail, previous=previous, seal=seal)


def seal_of(**parts: object) -> str:
    """SHA-256 of an entry's parts in their order, as JSON, so that no two lists of parts read the same."""
    order = ("seq", "at", "who", "what", "on", "target", "outcome", "detail", "previous")
    text = json.dumps([parts[name] for name in order], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def plain(text: str) -> str:
    """The text as any ledger can keep it, and give it back the same."""
    return text.encode(errors="replace").decode().replace("\0", "?")


def faults(entries: Iterable[Entry], ends: Ends, *, known: tuple[int, str] | None = None) -> Iterator[str]:
    """What is wrong with a trail, from its beginning; nothing when it is whole.

    `known` is a number and seal that were noted somewhere else. Every fault is one sentence with the number of its entry.
    """
    seq, seal, vouched = ends.pruned, ends.pruned_seal, ends.pruned == 0
    for entry in entries:
        if entry.seq != seq + 1:
            yield f"{_range(seq + 1, entry.seq - 1)} missing"
        elif entry.previous != seal:
            yield f"entry {entry.seq} does not follow the one before: one of both was changed, put in or moved"
        if entry.seal != _seal(entry):
            yield f"entry {entry.seq} was changed"
        if known and entry.seq == known[0] and entry.seal != known[1]:
            yield f"entry {entry.seq} is not the one that was noted: the trail was rewritten"
        vouched = vouched or _vouches(entry, ends)
        seq, seal = entry.seq, entry.seal
    if (seq, seal) != (ends.last, ends.last_seal):
        lost = seq < ends.last
        yield f"{_range(seq + 1, ends.last)} missing at the end" if lost else "the end is not the one that was noted"
    if not vouched:
        yield f"nothing in the trail says that its entries up to {ends.pruned} were pruned: its beginning was cut off"
    if known and known[0] > seq:
        yield f"entry {known[0]}, which was noted, is missing: the end was cut off"


def everything(acts_after: Callable[[int], Sequence[Entry]]) -> Iterator[Entry]:
    """All entries in order, also such as stand where the trail was pruned, and nothing may be."""
    seq = -1
    while found := acts_after(seq):
        yield from found
        seq = found[-1].seq


def actor() -> str:
    """Who acts in this thread now; empty when nobody does."""
    return _actor.get()


@contextmanager
def acting(who: str) -> Iterator[None]:
    """Have what is done until the block ends count as asked for by this one, where nobody else is named."""
    token = _actor.set(who)
    try:
        yield
    finally:
        _actor.reset(token)


def _seal(entry: Entry) -> str:
    return seal_of(
        seq=entry.seq, at=entry.at, who=entry.who, what=entry.what, on=entry.on, target=entry.target,
        outcome=entry.outcome, detail=entry.detail, previous=entry.previous,
    )  # fmt: skip


def _vouches(entry: Entry, ends: Ends) -> bool:
    """Whether an entry says of itself that the trail was pruned exactly as far as it begins now."""
    if entry.what != PRUNED:
        return False
    try:
        said = json.loads(entry.detail)
    except ValueError:
        return False
    return isinstance(said, dict) and (said.get("through"), said.get("seal")) == (ends.pruned, ends.pruned_seal)


def _range(first: int, last: int) -> str:
    if last < first:
        return f"what comes before entry {first} is"
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"
