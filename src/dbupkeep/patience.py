"""Waits for targets that do not answer: servers are restarted, and standbys take over, in the middle of a run."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dbupkeep.clock import Clock
from dbupkeep.errors import Interrupted, Unreachable
from dbupkeep.progress import Progress
from dbupkeep.worker import Context

REACH = 60.0
"""Seconds for which a target is waited for: the plan was made there, so it was reached a while ago."""

GIVEN_UP = 300.0
"""Seconds for which nobody waits again for a target that did not come back: a run may have thousands of operations."""

_PAUSE = 0.5


class Patience:
    """For how long targets are waited for; for all jobs of a worker process, from any thread."""

    def __init__(self, clock: Clock, *, reach: float = REACH) -> None:
        """`reach` is in seconds."""
        self._clock = clock
        self._reach = reach
        self._given_up: dict[str, float] = {}  # by url of the target, when

    def waiting(self, url: str, context: Context) -> Callable[[Unreachable], bool]:
        """What one job asks each time that its target did not answer: whether to try again.

        It waits a moment itself. Raises `Interrupted` when the job is to end.
        """
        pause, waited = threading.Event(), 0.0

        def wait(error: Unreachable) -> bool:
            nonlocal waited
            now = self._clock.monotonic()
            if now - self._given_up.get(url, float("-inf")) < GIVEN_UP:
                return False
            if waited >= self._reach:
                self._given_up[url] = now
                return False
            if context.stopping:
                raise Interrupted("the work was not started", why=f"it was to end, while {error.what}") from error
            context.report.progress(Progress(stage=f"waiting for the server: {error.why or error.what}"))
            pause.wait(_PAUSE)
            waited += _PAUSE
            return True

        return wait

    def reached(self, url: str) -> None:
        """It answers: it is waited for again the next time."""
        self._given_up.pop(url, None)
