"""Sessions that wait a moment for the next job on their target: opening one can take longer than the job itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from dbupkeep.definitions import Target
from dbupkeep.engine import Engine, LastingSession, Session
from dbupkeep.errors import Unreachable

PATIENCE = 1.0
"""Seconds that a session is kept without a job; a run's next one comes within milliseconds."""


class KeptSessions:
    """Lends sessions for one job at a time; keeps those of engines with `LASTING` for a while. For any thread."""

    def __init__(self, patience: float = PATIENCE) -> None:
        """`patience` is in seconds."""
        self._patience = patience
        self._guard = threading.Lock()
        self._idle: dict[str, list[tuple[LastingSession, threading.Timer]]] = {}  # by URL, never an empty list

    @contextmanager
    def lent(
        self, engine: Engine, target: Target, *, tag: str, wait: Callable[[Unreachable], bool] = lambda _: False
    ) -> Iterator[Session]:
        """A session under a mark of its own: one that is kept, else a new one. Raises a `TargetError`.

        `wait` says of a target that does not answer whether it is tried again. One whose job raised is closed: what went wrong in a session must not meet another job.
        """
        session = self._renewed(target, tag) or _connected(engine, target, tag, wait)
        try:
            yield session
        except BaseException:
            session.close()
            raise
        if getattr(engine, "LASTING", False):
            self._keep(target, cast("LastingSession", session))
        else:
            session.close()

    def close(self) -> None:
        """Close what is kept; safe to repeat."""
        with self._guard:
            idle = [each for kept in self._idle.values() for each in kept]
            self._idle.clear()
        for session, timer in idle:
            timer.cancel()
            session.close()

    def _renewed(self, target: Target, tag: str) -> LastingSession | None:
        while (kept := self._kept(target)) is not None:
            if kept.renew(tag):
                return kept
            kept.close()
        return None

    def _kept(self, target: Target) -> LastingSession | None:
        with self._guard:
            if target.url not in self._idle:
                return None
            session, timer = self._idle[target.url][-1]
            self._drop(target.url, session)
        timer.cancel()
        return session

    def _keep(self, target: Target, session: LastingSession) -> None:
        timer = threading.Timer(self._patience, self._expire, (target, session))
        timer.daemon = True
        with self._guard:
            self._idle.setdefault(target.url, []).append((session, timer))
        timer.start()

    def _expire(self, target: Target, session: LastingSession) -> None:
        with self._guard:
            waits = self._drop(target.url, session)
        if waits:
            session.close()

    def _drop(self, url: str, session: LastingSession) -> bool:
        """Let go of a session; whether it was still there."""
        kept = self._idle.pop(url, [])
        left = [each for each in kept if each[0] is not session]
        if left:
            self._idle[url] = left
        return len(left) < len(kept)


def _connected(engine: Engine, target: Target, tag: str, wait: Callable[[Unreachable], bool]) -> Session:
    while True:
        try:
            return engine.connect(target, tag=tag)
        except Unreachable as error:
            if not wait(error):
                raise
