"""Says of work that waits for a lock that it waits, and for whom, whatever else it would tell of itself."""

from __future__ import annotations

from collections.abc import Callable

from dbupkeep.engine import Report
from dbupkeep.engines.sqlite.handle import Handle
from dbupkeep.engines.sqlite.openers import holders_of
from dbupkeep.progress import Progress


class Waits:
    """The `Report` of an item: passes all on, but while a lock is waited for the sample is that.

    Who holds the lock is looked up by the thread that samples, so that the work itself pays nothing for it.
    """

    def __init__(self, report: Report, handle: Handle) -> None:
        """Tell `report`, by what `handle` waits for."""
        self._report = report
        self._handle = handle
        self._inner: Callable[[], Progress | None] | None = None
        self._last = Progress()  # what the work itself said last
        self._hid_it = False
        report.follow(self._sample)

    def progress(self, progress: Progress) -> None:
        """Pass it on."""
        self._last = progress
        self._report.progress(progress)

    def stage(self, name: str, message: str = "") -> None:
        """Pass it on."""
        self._last = Progress(stage=name)
        self._report.stage(name, message)

    def note(self, text: str) -> None:
        """Pass it on."""
        self._report.note(text)

    def blocking(self, seconds: float) -> float:
        """Pass it on."""
        return self._report.blocking(seconds)

    def follow(self, sample: Callable[[], Progress | None] | None) -> None:
        """Have `sample` called while nothing is waited for."""
        self._inner = sample

    def _sample(self) -> Progress | None:
        if self._handle.waiting:
            self._hid_it = True
            return Progress(stage=f"waiting for a lock held by {_named(self._handle)}")
        inner = self._inner
        found = inner() if inner else None
        if found is None and self._hid_it:
            found = self._last
        self._hid_it = False
        return found


def _named(handle: Handle) -> str:
    found = holders_of(handle.place).found
    shown = ", ".join(f"{one.command} (pid {one.pid})" for one in found[:3])
    return shown or "another connection"
