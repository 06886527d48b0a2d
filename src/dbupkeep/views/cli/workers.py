"""The worker processes of a service: started, started again when they die, told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

from msgspec import Struct

from dbupkeep.views import words

PATIENCE = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before a worker process is started again: longer each time that it dies young."""

GROWN_UP = 60.0
"""Seconds after which a worker process that dies is no longer one that cannot start."""


class _Seat(Struct):
    """The place of one worker process."""

    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    deaths: int = 0  # in a row, each before it was grown up
    next_at: float = 0.0


class Workers:
    """So many processes of `dbupkeep worker`, each in a session of its own, so that Ctrl-C reaches the service alone."""

    def __init__(
        self, *, arguments: Sequence[str], count: int, now: Callable[[], float], say: Callable[[str], None]
    ) -> None:
        """`now` gives seconds of a clock that only goes on."""
        self.arguments = arguments
        self.now = now
        self.say = say
        self._seats = [_Seat() for _ in range(count)]

    def mend(self) -> None:
        """Start whoever is not there, unless it died too often lately."""
        for seat in self._seats:
            if seat.process is not None and seat.process.poll() is not None:
                self._bury(seat, seat.process.returncode)
            if seat.process is None and self.now() >= seat.next_at:
                seat.process = self._start()
                seat.started_at = self.now()

    @property
    def pids(self) -> list[int]:
        """Those who are there."""
        return [seat.process.pid for seat in self._seats if seat.process is not None and seat.process.poll() is None]

    def send(self, number: signal.Signals) -> None:
        """Send all a signal."""
        for seat in self._seats:
            if seat.process is not None:
                seat.process.send_signal(number)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dbupkeep", "worker", "--parent", str(os.getpid()), *self.arguments]
        environ = {name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, env=environ
        )

    def _bury(self, seat: _Seat, code: int) -> None:
        young = self.now() - seat.started_at < GROWN_UP
        seat.deaths = seat.deaths + 1 if young else 0
        wait = PATIENCE[min(seat.deaths, len(PATIENCE) - 1)]
        seat.next_at = self.now() + wait
        seat.process = None
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        again = f"in {words.duration(wait)}" if wait else "now"
        self.say(f"A worker process {how}; another is started {again}. What it was at is taken over.")
