"""What is kept of a follower, and its work on that: events taken in, messages delivered in order, at least once.

One document holds its place in the events, its memory and the messages that still have to be delivered. It is written
over its version: who was overtaken by another service finds out before a message leaves, and begins again.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct, field

from dbupkeep.clock import Clock
from dbupkeep.codec import from_json, rfc3339, to_json
from dbupkeep.errors import LedgerError
from dbupkeep.events import Recorded
from dbupkeep.follower import Follower, Memory, Message, Undelivered
from dbupkeep.ledger import Reader
from dbupkeep.lifecycle import Lifecycle, Turn

log = logging.getLogger(__name__)

KIND = "follower"
"""The kind of document that has a follower's place, memory and messages."""

TICK = 10.0
"""Seconds after which a follower is asked for news that are no events: a time that passed."""

KEEP, LAZILY = 2.0, 30.0
"""Seconds for which what was only counted may be unsaved, and a place from which nothing was told: it would be done again."""

BATCH = 500
"""Events taken in at a time."""

ROOM = 100
"""Undelivered messages with which a follower takes in nothing more: the events are kept anyway."""

FIRST_WAIT, LONGEST_WAIT = 1.0, 900.0
"""Seconds before a message is tried again; doubled each time."""

PATIENCE = timedelta(days=3)
"""How long a message is tried; what is older when it comes up is no news any more."""

REFUSALS = 3
"""Tries of a message that its receiver refuses."""


class State(Struct, kw_only=True):
    """What is kept of a follower."""

    version: int = 0
    after: int = 0  # the number of the last event that was taken in
    memory: Memory = field(default_factory=dict)
    outbox: list[Message] = field(default_factory=list)
    tries: int = 0  # of the first message
    failing_since: datetime | None = None
    reason: str = ""
    failures: int = 0  # tries that failed, ever
    delivered: int = 0
    given_up: int = 0

    def document(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "version": self.version, "after": self.after, "memory": self.memory, "outbox": to_json(self.outbox),
            "tries": self.tries, "failing_since": rfc3339(self.failing_since) if self.failing_since else None,
            "reason": self.reason, "failures": self.failures, "delivered": self.delivered, "given_up": self.given_up,
        }  # fmt: skip


def state_of(reader: Reader, name: str) -> State | None:
    """What is kept of a follower; None when it never was at work."""
    document = reader.get(KIND, name)
    if document is None:
        return None
    since = document.get("failing_since")
    return State(
        **{name: document[name] for name in ("version", "after", "memory", "tries", "reason", "failures", "delivered", "given_up")},
        outbox=[from_json(Message, each) for each in document["outbox"]],
        failing_since=datetime.fromisoformat(since) if since else None,
    )  # fmt: skip


class Post:
    """One follower at work on what is kept of it."""

    def __init__(self, follower: Follower, *, reader: Reader, lifecycle: Lifecycle, clock: Clock) -> None:
        """Begin with what is kept, or where a new follower begins."""
        self.follower = follower
        self._reader = reader
        self._lifecycle = lifecycle
        self._clock = clock
        self._state: State | None = None
        self._keep_for = KEEP if follower.from_start else LAZILY
        self._unsaved = False
        self._saved_at = self._ticked_at = clock.monotonic()
        self._retry_at = 0.0

    def step(self, newest: int, holding: Callable[[], bool]) -> bool:
        """Take in some events and deliver what is due, as long as the turn is held; whether there are more at once."""
        state = self._begun()
        more = self._take_in(state, newest)
        while state.outbox and self._clock.monotonic() >= self._retry_at and holding():
            if not self._try(state):
                break
        return more and len(state.outbox) < ROOM

    def has_news(self, newest: int) -> bool:
        """Whether there are events to take in."""
        return self._state is None or (newest > self._state.after and len(self._state.outbox) < ROOM)

    def rest(self) -> float:
        """Seconds until there is something to do that is no event."""
        now = self._clock.monotonic()
        waits = [self._ticked_at + TICK - now]
        if self._state and self._state.outbox:
            waits.append(self._retry_at - now)
        if self._unsaved:
            waits.append(self._saved_at + self._keep_for - now)
        return max(0.0, min(waits))

    def save(self) -> None:
        """Keep what is not kept yet. Raises `Overtaken`."""
        state = self._state
        if state is None or not self._unsaved:
            return
        document = {**state.document(), "version": state.version + 1}
        turn = Turn(kind=KIND, key=self.follower.name, version=state.version, document=document)
        if not self._lifecycle.keep_all((), turn):
            raise Overtaken
        state.version += 1
        self._unsaved, self._saved_at = False, self._clock.monotonic()

    def forget(self) -> None:
        """Begin again with what is kept."""
        self._state, self._unsaved = None, False

    def _begun(self) -> State:
        """What is known, or was kept; the place of a new follower is kept at once, so that it misses nothing from there."""
        if self._state is None:
            self._state = state_of(self._reader, self.follower.name)
        if self._state is None:
            self._state = State(after=0 if self.follower.from_start else self._reader.newest())
            self._keep()
        return self._state

    def _take_in(self, state: State, newest: int) -> bool:
        now, at = self._clock.now(), self._clock.monotonic()
        room = len(state.outbox) < ROOM
        events = self._reader.events(state.after, limit=BATCH) if room and newest > state.after else ()
        if room and newest > state.after and not events:  # they were pruned
            state.after = newest
        if events or at >= self._ticked_at + TICK:
            self._ticked_at = at
            self._fold(state, events, now)
        if self._unsaved and at >= self._saved_at + self._keep_for:
            self.save()
        return len(events) == BATCH

    def _fold(self, state: State, events: Sequence[Recorded], now: datetime) -> None:
        before = None if events else deepcopy(state.memory)  # time alone changes little, and nothing is written for it
        messages = self.follower.fold(state.memory, events, now)
        state.outbox += [message for message in messages if now - message.at <= PATIENCE]
        state.after = events[-1].seq if events else state.after
        self._unsaved |= bool(events) or state.memory != before
        if messages:
            self._keep()

    def _try(self, state: State) -> bool:
        """Try the first message; whether it is out of the way."""
        message = state.outbox[0]
        fields = {"follower": self.follower.name, "message_id": message.id}
        failed = self._failed(message)
        if failed is None:
            log.debug("a message was delivered", extra=fields)
            state.delivered += 1
            state.failing_since, state.reason = None, ""
        elif self._goes_on(state, message, failed):
            log.warning("a message could not be delivered", extra={**fields, "reason": failed.reason})
            self._keep()
            return False
        else:
            log.error("a message is given up", extra={**fields, "reason": failed.reason})
            state.given_up += 1
        state.outbox, state.tries, self._retry_at = state.outbox[1:], 0, 0.0
        self._keep()
        return True

    def _failed(self, message: Message) -> Undelivered | None:
        try:
            self.follower.deliver(message)
        except Undelivered as error:
            return error
        except LedgerError:
            raise
        except Exception as error:  # a fault of its own: tried again and told like others, and given up in the end
            log.exception("a follower has failed", extra={"follower": self.follower.name})
            return Undelivered(f"a fault of the follower itself: {type(error).__name__}")
        return None

    def _goes_on(self, state: State, message: Message, failed: Undelivered) -> bool:
        """Count a try that failed, and say whether there will be another one."""
        state.tries += 1
        state.failures += 1
        state.failing_since, state.reason = state.failing_since or self._clock.now(), failed.reason
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(state.tries - 1, 20))
        self._retry_at = self._clock.monotonic() + wait * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        refused = failed.refused and state.tries >= REFUSALS
        return not refused and self._clock.now() - message.at <= PATIENCE

    def _keep(self) -> None:
        self._unsaved = True
        self.save()


class Overtaken(Exception):
    """Another service has written what is kept of a follower: this one begins again with that."""
