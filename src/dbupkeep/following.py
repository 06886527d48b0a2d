"""Has followers take in the ledger's events and deliver their messages: in order, at least once, each on its own.

Each follower has a thread, so that a receiver that is down holds up its own messages alone; workers are other processes
and never wait for one. Several services may stand on one ledger: one of them has the turn and delivers, the others look
whether it still shows signs of life. Its silence is measured by the one who waits, on its own clock.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from dbupkeep.clock import Clock, is_gone, new_id, process_mark
from dbupkeep.codec import from_json, rfc3339, to_json
from dbupkeep.errors import LedgerError
from dbupkeep.follower import Follower, Memory, Message, Undelivered
from dbupkeep.ledger import Reader
from dbupkeep.lifecycle import Lifecycle, Turn

log = logging.getLogger(__name__)

KIND = "follower"
"""The kind of document that has a follower's place, memory and messages."""

TURN = ("followers", "turn")

LOOK = 1.0
"""Seconds between looks for new events."""

TICK = 10.0
"""Seconds after which a follower is asked for news that are no events: a time that passed."""

BEAT, LEASE = 10.0, 30.0
"""Seconds between signs of life of who has the turn, and of silence after which another one takes it."""

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

PAUSE = 5.0
"""Seconds after a fault of a follower or of the ledger."""

FAREWELL = 8.0
"""Seconds that followers get at the end for what has just happened."""


@dataclass(slots=True, kw_only=True)
class State:
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
            messages = self.follower.fold(state.memory, events, now)
            state.outbox += [message for message in messages if now - message.at <= PATIENCE]
            state.after = events[-1].seq if events else state.after
            self._unsaved = True
            if messages:
                self.save()
        if self._unsaved and at >= self._saved_at + self._keep_for:
            self.save()
        return len(events) == BATCH

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


class Following:
    """All followers of a service, and the turn that lets one of several services have them."""

    def __init__(self, *, reader: Reader, lifecycle: Lifecycle, clock: Clock) -> None:
        """Begin with no followers; `use` gives them."""
        self._reader = reader
        self._lifecycle = lifecycle
        self._clock = clock
        self._id, self._process = new_id(), process_mark()
        self._news = threading.Condition()
        self._newest = 0
        self._written_at: float | None = None  # None: somebody else has the turn
        self._seen: tuple[int, float] | None = None  # a version of another's turn, and since when
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look_on, name="dbupkeep-followers", daemon=True)
        self._desks: dict[str, _Desk] = {}

    def use(self, followers: Sequence[Follower]) -> None:
        """Have these followers from now on, in place of those before."""
        before, self._desks = self._desks, {}
        for desk in before.values():
            desk.end(self._news)
        for follower in followers:
            post = Post(follower, reader=self._reader, lifecycle=self._lifecycle, clock=self._clock)
            old = before.get(follower.name)
            self._desks[follower.name] = _Desk(self, post, after=old)

    def start(self) -> None:
        """Look for the turn, and work as long as it is held."""
        self._watch.start()

    def close(self) -> None:
        """Take in what has happened until now, deliver what can be delivered within seconds, and give up the turn."""
        self._ended.set()
        if self._watch.ident is not None:
            self._watch.join()
        self._guarded(self._look)
        until = self._clock.monotonic() + FAREWELL
        for desk in self._desks.values():
            desk.end(self._news)
        for desk in self._desks.values():
            desk.join(max(0.0, until - self._clock.monotonic()))
        if self._written_at is not None:
            self._guarded(lambda: self._write(by=""))

    @property
    def newest(self) -> int:
        """The number of the newest event that is known of."""
        return self._newest

    @property
    def news(self) -> threading.Condition:
        """Notified when there may be something to do."""
        return self._news

    def holding(self) -> bool:
        """Whether this service has the turn, beyond the doubt of a ledger that cannot be written."""
        return self._written_at is not None and self._clock.monotonic() - self._written_at < LEASE * 2 / 3

    def _look_on(self) -> None:
        while not self._ended.is_set():
            self._guarded(self._look)
            self._ended.wait(LOOK)

    def _look(self) -> None:
        self._hold()
        newest = self._reader.newest()
        with self._news:
            self._newest = max(newest, self._newest)
            self._news.notify_all()

    def _guarded(self, look: Callable[[], object]) -> None:
        try:
            look()
        except LedgerError as error:
            log.warning("the ledger cannot be used; nothing is delivered", extra={"error": error.message})

    def _hold(self) -> None:
        """Keep the turn, or take it where nobody has it any more."""
        now = self._clock.monotonic()
        document = self._reader.get(*TURN) or {}
        version = int(document.get("version", 0))
        if document.get("by") == self._id:
            if self._written_at is None or now - self._written_at >= BEAT:
                self._write(by=self._id, version=version)
            return
        self._written_at = None
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, now)
        silent = now - self._seen[1] >= LEASE
        if not document.get("by") or silent or is_gone(str(document.get("process", ""))):
            self._write(by=self._id, version=version)

    def _write(self, *, by: str, version: int | None = None) -> bool:
        if version is None:
            version = int((self._reader.get(*TURN) or {}).get("version", 0))
        document = {"version": version + 1, "by": by, "process": self._process}
        at = self._clock.monotonic()
        taken = self._lifecycle.keep_all((), Turn(kind=TURN[0], key=TURN[1], version=version, document=document))
        self._written_at = at if taken and by else None
        return taken


class _Desk:
    """The thread of one follower."""

    def __init__(self, following: Following, post: Post, *, after: _Desk | None) -> None:
        self._following = following
        self._post = post
        self._after = after
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"dbupkeep-{post.follower.name}", daemon=True)
        self._thread.start()

    def end(self, news: threading.Condition) -> None:
        """Have it end after one more look."""
        self._ended.set()
        with news:
            news.notify_all()

    def join(self, seconds: float | None = None) -> None:
        """Wait for the end."""
        self._thread.join(seconds)

    def _serve(self) -> None:
        if self._after is not None:
            self._after.join()
            self._after = None
        while True:
            leaving = self._ended.is_set()
            rest = self._work(leaving=leaving) if self._following.holding() else TICK
            if leaving:
                return
            with self._following.news:
                self._following.news.wait_for(self._is_called, timeout=rest)

    def _is_called(self) -> bool:
        return self._ended.is_set() or (self._following.holding() and self._post.has_news(self._following.newest))

    def _work(self, *, leaving: bool) -> float:
        """Work until there is nothing to do; the seconds until there is something again."""
        post = self._post
        try:
            while post.step(self._following.newest, self._following.holding) and (leaving or not self._ended.is_set()):
                pass
            if leaving:
                post.save()
            return post.rest()
        except Overtaken:
            log.info("another service is at work on a follower", extra={"follower": post.follower.name})
        except LedgerError as error:
            log.warning("the ledger cannot be used; a follower waits", extra={"error": error.message})
        except Exception:  # a fault of one follower must not end it for good, nor the others
            log.exception("a follower has failed", extra={"follower": post.follower.name})
        post.forget()
        self._ended.wait(PAUSE)
        return 0.0
