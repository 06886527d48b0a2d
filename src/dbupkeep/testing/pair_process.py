"""A worker process of the pair suite: takes one delivery, holds it, and does what it is told through a pipe."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection

from dbupkeep.jobs import Delivery, Job
from dbupkeep.testing.pair_kit import PATIENCE, Handles, Opener, done, failed
from dbupkeep.worker import Ended


class Elsewhere:
    """The process, seen from the test."""

    def __init__(self, opener: Opener, *, lanes: Sequence[str], begins: bool) -> None:
        """Start it; with `begins`, it begins the attempt that it is handed."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(opener, tuple(lanes), begins, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def wait_for(self, word: str) -> str:
        """What it says with that word, once it says so."""
        assert self._pipe.poll(PATIENCE), f"the worker process never said: {word}"
        said, what = self._pipe.recv()
        assert said == word, f"{said} {what} instead of {word}"
        return str(what)

    def tell(self, word: str, what: str) -> None:
        """Have it do something with what it holds: `report`, `end` or `leave`."""
        self._pipe.send((word, what))

    def stall(self) -> None:
        """Stop it where it stands, as a suspended machine would."""
        os.kill(self._pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let a stalled one go on."""
        os.kill(self._pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it without a chance to tidy up; safe to repeat."""
        if self._process.is_alive():
            os.kill(self._pid, signal.SIGKILL)
        self._process.join(PATIENCE)
        self._pipe.close()

    @property
    def _pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid


def _serve(opener: Opener, lanes: tuple[str, ...], begins: bool, pipe: Connection) -> None:  # noqa: FBT001 - pickled by position
    handles, stop, left = Handles(opener), threading.Event(), threading.Event()

    def handle(delivery: Delivery, worker: str) -> None:
        job = handles.life.begin(delivery, worker) if begins else None
        if begins and job is None:
            return
        pipe.send(("begun", delivery.key))
        while not left.is_set():
            word, what = pipe.recv()
            _obey(handles, job, word, what, pipe)
            if word != "report":
                left.set()
                stop.set()

    handles.queue.serve(lanes, 1, handle, stop)
    if left.is_set():
        pipe.send(("left", ""))


def _obey(handles: Handles, job: Job | None, word: str, what: str, pipe: Connection) -> None:
    if word == "report" and job is not None:
        control = handles.ledger.report(job.id, job.attempt, None)
        pipe.send(("reported", "fenced" if control.fenced else ""))
    elif word == "end" and job is not None:
        event = failed() if what == failed().name else done()
        ended = handles.life.end(job, Ended(event=event))
        pipe.send(("ended", type(event).__name__ if ended else ""))
