"""How things are, in one sentence. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct

from dbupkeep.views import words
from dbupkeep.views.page.tables import until


class State(Struct, frozen=True, kw_only=True):
    """What the sentence is made of."""

    databases: int  # that the ledger knows
    troubled: int  # of them, those whose last run left something undone
    failed: int  # of those, with a failure
    running: int  # runs that go on
    gained: int  # bytes given back in the last day
    due: datetime | None  # of the next run that starts by itself
    served: bool  # whether something starts it


class Headline(Struct, frozen=True, kw_only=True):
    """The sentence, and what it amounts to."""

    tone: str  # `good`, `warn`, `bad` or `quiet`
    mark: str
    first: str
    rest: str


def headline(state: State, now: datetime) -> Headline:
    """Say it."""
    tone, mark, first = _first(state)
    return Headline(tone=tone, mark=mark, first=first, rest=" ".join(_rest(state, now)))


def _first(state: State) -> tuple[str, str, str]:
    if not state.databases and not state.troubled:
        return "quiet", "·", "No database was maintained yet." if not state.running else "The first run goes on."
    if not state.troubled:
        healthy = (
            f"All {state.databases:,} databases are healthy." if state.databases > 1 else "The one database is healthy."
        )
        return "good", "✓", healthy
    known = max(state.databases, state.troubled)
    some = f"{state.troubled:,} of {words.counted(known, 'database')}" if known > 1 else "The one database"
    verb = "needs" if state.troubled == 1 else "need"
    return ("bad", "✗", f"{some} {verb} a look.") if state.failed else ("warn", "!", f"{some} {verb} another run.")


def _rest(state: State, now: datetime) -> Iterable[str]:
    if state.gained > 0:
        yield f"{words.size(state.gained)} given back in the last 24 hours."
    if state.running:
        yield f"{words.counted(state.running, 'run')} {'goes' if state.running == 1 else 'go'} on now."
    if state.due is None:
        return
    if not state.served:
        yield "Nothing starts by itself now: no service runs on this ledger."
    else:
        yield f"The next run starts {until(state.due, now)}."
