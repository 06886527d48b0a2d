"""Carrying out one run in this process, and what Ctrl-C means while it goes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from msgspec import Struct, field

from dbupkeep.errors import LedgerError
from dbupkeep.jobs import Job
from dbupkeep.views.cli.account import user
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.cli.waiting import Standstill
from dbupkeep.views.plain import View
from dbupkeep.views.watching import Watch

if TYPE_CHECKING:
    from dbupkeep.app import App

TICK = 0.1
"""Seconds between looks at most; longer where a look itself takes long, so that looking stays a tenth of the work."""

PATIENCE = 10.0
"""Looks are at least so many times apart as one takes."""


class Asked(Struct):
    """How often the user asked to stop. Signals only count here; the main loop acts."""

    times: int = 0
    by: list[str] = field(default_factory=list)

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal."""
        self.times += 1
        self.by.append(signal.Signals(number).name)
        if self.times > 2:  # noqa: PLR2004 - the third time is a demand
            os._exit(Exit.INTERRUPTED)


@contextmanager
def listening() -> Iterator[Asked]:
    """Count SIGINT and SIGTERM instead of ending at once."""
    asked = Asked()
    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Ending(Struct, kw_only=True):
    """How carrying out a run ended."""

    root: Job
    paused: bool = False
    interrupted: bool = False  # cancelled from the keyboard


def carry_out(app: App, root: Job, view: View, watch: Watch, *, slots: int) -> Ending:
    """Execute the run's lane in this process until the run has ended, or until what runs has after a Ctrl-C."""
    service = Service(app, slots)
    with listening() as asked:
        service.take(root.lane)
        try:
            return _until_ended(app, view, watch, asked, service)
        finally:
            service.stop.set()
            service.join()


class Service:
    """The threads that serve lanes in this process."""

    def __init__(self, app: App, slots: int) -> None:
        """`slots` operations of each lane at a time."""
        self._app = app
        self._slots = slots
        self._threads: list[threading.Thread] = []
        self.stop = threading.Event()

    def take(self, lane: str) -> None:
        """Serve a lane from now on."""
        serve = {"lanes": (lane,), "slots": self._slots, "stop": self.stop}
        thread = threading.Thread(target=self._app.processor.serve, kwargs=serve, name=f"dbupkeep-serve-{lane}")
        self._threads.append(thread)
        thread.start()

    @property
    def working(self) -> bool:
        """Whether a lane is still served."""
        return any(thread.is_alive() for thread in self._threads)

    def rest(self, least: float) -> None:
        """Wait for the next look: at least so long, then until nothing runs here any more, which may be the end."""
        self.join(least)
        if least < TICK:
            self._app.processor.idle.wait(TICK - least)

    def join(self, seconds: float | None = None) -> None:
        """Wait for the end, or for so long."""
        for thread in self._threads:
            thread.join(None if seconds is None else seconds / len(self._threads))


def _until_ended(app: App, view: View, watch: Watch, asked: Asked, service: Service) -> Ending:
    standstill = Standstill(app=app, say=view.say, take_over=service.take)
    taken = 0
    while True:
        began = app.clock.monotonic()
        app.processor.idle.clear()
        look = watch.look()
        view.show(look)
        if look.root.status.ended:
            return Ending(root=look.root, interrupted=taken > 1)
        while taken < asked.times:
            taken += 1
            _act(app, look.root, view, taken)
            service.stop.set()
        if app.processor.trouble is not None and not taken:  # hoping any longer would only keep the terminal
            service.stop.set()
        if not service.working:
            if not taken:
                raise LedgerError(
                    "the work ended before the run did",
                    why="the ledger could not be used; the log above says why",
                    hint=f"once it can, go on with `dbupkeep run --resume {look.root.id}`",
                )
            return _stopped(app, watch, view, cancelled=taken > 1)
        if not taken:
            standstill.see(look)
        service.rest(PATIENCE * (app.clock.monotonic() - began))


def _act(app: App, root: Job, view: View, times: int) -> None:
    if times == 1:
        app.lifecycle.pause(root.id, by=user())
        view.say("Stopping after what runs now. Ctrl-C again cancels that too (nothing is left half done).")
    else:
        app.lifecycle.cancel(root.id, by=user())
        view.say("Cancelling what runs. A third Ctrl-C leaves at once.")


def _stopped(app: App, watch: Watch, view: View, *, cancelled: bool) -> Ending:
    """What ran has ended. It may have been the last of the run, which then has an end of its own."""
    app.orchestrator.sweep()
    look = watch.look()
    view.show(look)
    return Ending(root=look.root, paused=not look.root.status.ended, interrupted=cancelled)
