"""The command `worker`."""

from __future__ import annotations

import os
import signal
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from dbupkeep.ledger import JobQuery
from dbupkeep.views import words
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.executing import default_slots
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.cli.requests import DurationType
from dbupkeep.views.cli.running import lease_option
from dbupkeep.views.cli.serving import listening

if TYPE_CHECKING:
    from dbupkeep.app import App

TICK = 0.1
IDLE = 2
"""Looks in a row that must find nothing to do before a draining worker ends."""


GRACE = "20m"
"""What a stop leaves to the operations that run; shorter than our systemd unit waits before it kills."""

grace_option = click.option(
    "--grace",
    type=DurationType(),
    metavar="TIME",
    envvar="DBUPKEEP_GRACE",
    default=GRACE,
    show_default=True,
    help="How long a stop waits for what runs; what runs then is stopped, and made again at the next start.  [DBUPKEEP_GRACE]",
)


@click.command()
@click.option("--drain", is_flag=True, help="End when nothing is left to do.")
@click.option(
    "--jobs",
    "slots",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Operations at a time; default: twice the processors, at most 4.",
)
@click.option(
    "--lane", "lanes", multiple=True, metavar="NAME", help="Only work of this lane; repeatable. Default: all."
)
@lease_option
@grace_option
@click.option("--parent", type=int, metavar="PID", help="End, as by SIGTERM, once that process is gone.")
@common
def worker(
    console: Console,
    *,
    drain: bool,
    slots: int | None,
    lanes: tuple[str, ...],
    lease: float | None,
    grace: timedelta,
    parent: int | None,
) -> int:
    """Execute jobs until told to stop: SIGTERM or Ctrl-C end it after what runs, a second one at once.

    What still runs after --grace is stopped, and made again by the next worker.
    """
    with console.app(lease=lease, isolate=True) as app:
        count = slots or default_slots()
        served = f"lanes {', '.join(words.name(lane) for lane in lanes)}" if lanes else "all lanes"
        if parent is None:
            console.say(f"Working on {served}, {words.counted(count, 'operation')} at a time.", "dim")
        signals = serve(console, app, lanes, count, drain=drain, parent=parent, grace=grace)
    if console.as_json:
        console.document({"lanes": list(lanes), "slots": count, "ended_by": signals[0] if signals else "drain"})
    return Exit.DONE


def serve(
    console: Console,
    app: App,
    lanes: tuple[str, ...],
    slots: int,
    *,
    drain: bool,
    grace: timedelta,
    parent: int | None = None,
) -> list[str]:
    """Serve until a signal, or until `parent` is gone, or with `drain` until nothing is left; returns the signals."""
    stop, over = threading.Event(), float("inf")
    serving = threading.Thread(
        target=app.processor.serve, kwargs={"lanes": lanes, "slots": slots, "stop": stop}, name="dbupkeep-serve"
    )
    with listening() as asked:
        serving.start()
        idle = 0
        while serving.is_alive():
            serving.join(TICK)
            if asked.times > 1:
                console.say("Leaving at once; what ran is taken over by another process.")
                os._exit(128 + int(signal.Signals[asked.by[-1]]))
            orphaned = parent is not None and os.getppid() != parent
            if (asked.times or orphaned) and not stop.is_set():
                if parent is None:
                    console.say(f"Ending after {words.counted(app.processor.busy, 'operation')} that run now.")
                stop.set()
                over = app.clock.monotonic() + grace.total_seconds()
            if app.clock.monotonic() >= over and app.processor.leave():
                console.say("Their time is over: what runs is stopped, and made again at the next start.")
            idle = idle + 1 if drain and not _left(app, lanes) else 0
            if drain and idle >= IDLE:
                stop.set()
        return asked.by


def _left(app: App, lanes: tuple[str, ...]) -> bool:
    """Whether there is something that runs or could."""
    page = app.reader.jobs(JobQuery(released=True), limit=1 if not lanes else 10_000)
    return any(not lanes or job.lane in lanes for job in page.jobs)
