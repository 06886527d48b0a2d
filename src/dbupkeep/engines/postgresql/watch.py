"""Looks on from a second connection while a statement runs: how far it is, who blocks it, and whether it still is there.

It has a thread of its own, so that a network path that froze holds up nobody. It sets in after a moment: short
statements, which are most, cost no second connection.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from dbupkeep import logs
from dbupkeep.engine import Report
from dbupkeep.engines.postgresql import blocking
from dbupkeep.engines.postgresql.blocking import CLOSELY, Toll
from dbupkeep.engines.postgresql.progress import waiting
from dbupkeep.errors import Busy, Kind, OperationError, UpkeepError
from dbupkeep.logs import printable
from dbupkeep.plans import PlanItem
from dbupkeep.progress import Progress

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

Read = Callable[[Mapping[str, Any]], Progress]

SETS_IN = 0.4
PERIOD = 0.5
"""Seconds until the first look, and between looks."""

GONE = 1.5
"""Seconds for which a session was seen idle that mean that its answer got lost on the way."""

LOOK_PATIENCE = 5.0
"""Seconds after which a look that hangs is cut off, to be made anew over another connection."""

_GRACE = 5.0
"""Seconds that a cancelled statement gets to end before the connection is cut."""


class Limits(Struct, frozen=True, kw_only=True):
    """When the work is stopped, in seconds; 0 for never."""

    deadline: float = 0.0  # for all of it, or since it was begun anew
    patience: float = 0.0  # for its waits
    lock_wait: float = 0.0  # for each lock, by the server itself: the first look comes before that is over

    @property
    def sets_in(self) -> float:
        """Seconds until the first look, which is to see who is in the way."""
        return min(SETS_IN, self.lock_wait / 3) if self.lock_wait else SETS_IN


class Seen(Struct, frozen=True, kw_only=True):
    """What was seen by the end."""

    lock_wait: float = 0.0  # seconds that the statement waited for locks, as far as was seen
    blocker: str = ""  # the last one
    lost_answer: bool = False  # the server was done, and the answer did not arrive
    gave_up: bool = False  # it waited for locks for longer than was allowed, and was stopped
    looks: int = 0


class Watch:
    """The looking on at one statement, or at several in a row."""

    def __init__(
        self, handle: Handle, item: PlanItem, report: Report, view: str, read: Read, *, limits: Limits, closely: bool
    ) -> None:
        """`view` is the named query of the progress; `closely` looks often, at what could hold many up."""
        self._handle = handle
        self._item = item
        self._report = report
        self._view = view
        self._read = read
        self._limits = limits
        self._sets_in, self._period = (CLOSELY, CLOSELY) if closely else (limits.sets_in, PERIOD)
        self._started = perf_counter()
        self._ended = threading.Event()
        self._other: Handle | None = None
        self._progress: Progress | None = None
        self._look_began: float | None = None
        self._idle_since: float | None = None
        self._blocked_since: float | None = None
        self._late_since: float | None = None
        self._waited_before = 0.0  # for locks, by statements before this one
        self._resting = False
        self._clock = threading.Lock()
        self.seen = Seen()
        self.toll = Toll()

    def reads(self, read: Read) -> None:
        """Read the view of the progress in this way from now on."""
        self._read = read

    @property
    def late(self) -> bool:
        """Whether the statement was stopped because its time, or that of its waits, was over."""
        return self._late_since is not None

    def rest(self) -> None:
        """No statement is at work now: the clock stands."""
        with self._clock:
            self._resting = True

    def anew(self) -> None:
        """Another statement begins: its time and its waits count from now, and a stop of the one before for these is over."""
        with self._clock:
            if self.late:
                self._handle.go_on()
            now = perf_counter()
            if self._blocked_since is not None:
                self.seen = replace(self.seen, lock_wait=self.seen.lock_wait + now - self._blocked_since)
            self._started, self._waited_before, self._resting = now, self.seen.lock_wait, False
            self._late_since = self._idle_since = self._blocked_since = None

    def sample(self) -> Progress | None:
        """The last word; never waits. Cuts off a look that hangs: it is called by another thread, now and then."""
        began, other = self._look_began, self._other
        if began is not None and other is not None and perf_counter() - began > LOOK_PATIENCE:
            self._look_began = None
            other.hang_up()
        return self._progress

    def start(self) -> threading.Thread:
        """Begin to look."""
        thread = threading.Thread(target=logs.carry(self._go_on), name="dbupkeep-watch", daemon=True)
        thread.start()
        return thread

    def end(self, thread: threading.Thread) -> None:
        """End it; a connection that hangs is cut. Who waited at the last look waited until now."""
        self._ended.set()
        now = perf_counter()
        thread.join(timeout=0.2)
        if thread.is_alive() and self._other is not None:
            self._other.hang_up()
            thread.join(timeout=1.0)
        if self.toll.end(now):  # not before the last look is over, which counts too
            self._report.blocking(self.toll.seconds)

    def named(self, error: Busy) -> Busy:
        """The same error, with who was in the way as far as was seen, and for how long that was waited for."""
        wanted = self.seen.blocker and self.seen.blocker not in error.why and not self._handle.stopping
        why = "; ".join(filter(None, (self.seen.blocker, error.why)))
        named = Busy(error.what, why=why, hint=error.hint) if wanted else error
        since = self._blocked_since  # what was waited for at the last look was waited for until now
        named.waited = self.seen.lock_wait + (perf_counter() - since if since is not None else 0.0)
        return named

    def _go_on(self) -> None:
        try:
            if self._ended.wait(self._sets_in):
                return
            while not self._ended.is_set():
                self._watch_the_clock()
                self._look()
                self._ended.wait(self._period)
        finally:
            if self._other is not None:
                self._other.close()

    def _look(self) -> None:
        """One look. One that fails says nothing: the work itself will say what is wrong."""
        try:
            if self._other is None:
                self._other = self._handle.second()
            asked = {"pid": self._handle.identity.pid}
            self._look_began = perf_counter()
            state = self._other.rows("looking_on", asked)
            found = self._other.rows(self._view, asked)
            held_up = self.toll.look(self._other, self._handle.identity.pid, self._handle.tag)
        except UpkeepError:
            self._other = None
            return
        finally:
            self._look_began = None
        with self._clock:
            self.seen = replace(self.seen, looks=self.seen.looks + 1)
            self._note_lost_answer(state)
            sentence = self._note_lock(state)
        progress = self._read(found[0]) if found else None
        if sentence:
            progress = replace(progress or Progress(), stage=sentence)
        self._progress = progress or self._progress
        if held_up:
            self._keep_to_the_budget()

    def _keep_to_the_budget(self) -> None:
        """Where those who wait have cost the run's budget, what runs is stopped."""
        fault = blocking.over(self._item, self._report, self.toll.seconds)
        if fault is not None:
            self._handle.interrupt(fault)

    def _note_lock(self, state: list[dict[str, Any]]) -> str:
        now = perf_counter()
        blocked = bool(state) and state[0]["wait_event_type"] == "Lock"
        if self._blocked_since is not None:
            self.seen = replace(self.seen, lock_wait=self.seen.lock_wait + now - self._blocked_since)
        first = self._blocked_since is None
        self._blocked_since = now if blocked else None
        if not blocked:
            return ""
        if first and self.seen.looks == 1:
            self.seen = replace(self.seen, lock_wait=now - self._started)
        sentence = printable(waiting(state[0], self.seen.lock_wait))
        self.seen = replace(self.seen, blocker=sentence)
        return sentence

    def _note_lost_answer(self, state: list[dict[str, Any]]) -> None:
        at_work = self._handle.at_work
        idle = at_work and (not state or state[0]["state"] == "idle")
        now = perf_counter()
        self._idle_since = (self._idle_since or now) if idle else None
        if self._idle_since is not None and now - self._idle_since >= GONE:
            self.seen = replace(self.seen, lost_answer=True)
            self._handle.hang_up()

    def _watch_the_clock(self) -> None:
        with self._clock:  # whoever begins anew waits: what is stopped here is the statement whose time is over
            if not self._resting:
                self._stop_what_is_late(perf_counter())

    def _stop_what_is_late(self, now: float) -> None:
        deadline, patience = self._limits.deadline, self._limits.patience
        waited_enough = bool(patience) and self.seen.lock_wait - self._waited_before >= patience
        if not waited_enough and (not deadline or now - self._started < deadline):
            return
        self.seen = replace(self.seen, gave_up=waited_enough)
        if self._late_since is None:
            self._late_since = now
        self._handle.interrupt(_too_late())
        if now - self._late_since > _GRACE:
            self._handle.hang_up()


def _too_late() -> OperationError:
    return OperationError(
        "the work took longer than its deadline and was stopped",
        hint="raise the setting `deadline` of the operation, or run it alone",
        kind=Kind.INTERRUPTED,
    )


@contextmanager
def watched(
    handle: Handle, item: PlanItem, report: Report, view: str, read: Read, *, limits: Limits | None = None,
    closely: bool = False,
) -> Iterator[Watch]:  # fmt: skip
    """Have the statements inside looked at: how far they are, who blocks them, and whom they block."""
    watch = Watch(handle, item, report, view, read, limits=limits or Limits(), closely=closely)
    thread = watch.start()
    report.follow(watch.sample)
    fault: Busy | None = None
    try:
        yield watch
    except Busy as error:
        fault = error
    finally:
        report.follow(None)
        watch.end(thread)
    if fault is not None:
        raise watch.named(fault) from fault.__cause__
