"""Has followers take in the ledger's events and deliver their messages: in order, at least once, each on its own.

Each follower has a thread, so that a receiver that is down holds up its own messages alone; workers are other processes
and never wait for one. Several services may stand on one ledger: one of them has the turn and delivers, the others look
whether it still shows signs of life. Its silence is measured by the one who waits, on its own clock.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from dbupkeep.clock import Clock, is_gone, new_id, process_mark
from dbupkeep.errors import LedgerError
from dbupkeep.follower import Follower
from dbupkeep.ledger import Reader
from dbupkeep.lifecycle import Lifecycle, Turn
from dbupkeep.outbox import TICK, Overtaken, Post

log = logging.getLogger(__name__)

TURN = ("followers", "turn")

LOOK = 1.0
"""Seconds between looks for new events."""

BEAT, LEASE = 10.0, 30.0
"""Seconds between signs of life of who has the turn, and of silence after which another one takes it."""

PAUSE = 5.0
"""Seconds after a fault of a follower or of the ledger."""

FAREWELL = 8.0
"""Seconds that followers get at the end for what has just happened."""


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
        self._guarded(self._give_up)

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

    def _give_up(self) -> None:
        """Leave the turn to others at once, unless one of them has it already."""
        document = self._reader.get(*TURN) or {}
        if document.get("by") == self._id:
            self._write(by="", version=int(document["version"]))

    def _write(self, *, by: str, version: int) -> None:
        document = {"version": version + 1, "by": by, "process": self._process}
        at = self._clock.monotonic()
        taken = self._lifecycle.keep_all((), Turn(kind=TURN[0], key=TURN[1], version=version, document=document))
        self._written_at = at if taken and by else None


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
            rest = self._work(leaving=leaving) if self._following.holding() else self._stand_by()
            if leaving:
                return
            with self._following.news:
                self._following.news.wait_for(self._is_called, timeout=rest)

    def _stand_by(self) -> float:
        """Whoever has the turn writes what is kept: it is read anew when the turn comes back."""
        self._post.forget()
        return TICK

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
