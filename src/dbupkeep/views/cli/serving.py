"""Carrying out one run in this process, and what Ctrl-C means while it goes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

from dbupkeep.jobs import Job
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.cli.requests import user
from dbupkeep.views.plain import View
from dbupkeep.views.watching import Watch

if TYPE_CHECKING:
    from dbupkeep.app import App

TICK = 0.1
"""Seconds between looks; longer where a look itself takes long, so that looking stays a tenth of the work."""

PATIENCE = 10.0
"""Looks are at least so many times apart as one takes."""


@dataclass(slots=True)
class Asked:
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


@dataclass(slots=True, kw_only=True)
class Ending:
    """How carrying out a run ended."""

    root: Job
    paused: bool = False
    interrupted: bool = False  # cancelled from the keyboard


def carry_out(app: App, root: Job, view: View, watch: Watch, *, slots: int) -> Ending:
    """Execute the run's lane in this process until the run has ended, or until what runs has after a Ctrl-C."""
    stop = threading.Event()
    serving = threading.Thread(
        target=app.processor.serve, kwargs={"lanes": (root.lane,), "slots": slots, "stop": stop}, name="dbupkeep-serve"
    )
    with listening() as asked:
        serving.start()
        try:
            return _until_ended(app, view, watch, asked, serving, stop)
        finally:
            stop.set()
            serving.join()


def _until_ended(
    app: App, view: View, watch: Watch, asked: Asked, serving: threading.Thread, stop: threading.Event
) -> Ending:
    taken = 0
    while True:
        began = app.clock.monotonic()
        look = watch.look()
        view.show(look)
        if look.root.status.ended:
            return Ending(root=look.root, interrupted=taken > 1)
        while taken < asked.times:
            taken += 1
            _act(app, look.root, view, taken)
            if taken == 1:
                stop.set()
        if taken and not serving.is_alive():
            return _stopped(app, watch, view, cancelled=taken > 1)
        if not serving.is_alive():
            raise RuntimeError("the processor ended before its run did")
        serving.join(max(TICK, PATIENCE * (app.clock.monotonic() - began)))


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
