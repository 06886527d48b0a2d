"""How far a statement is, by what its thread has read and written so far.

SQLite's progress handler is silent while VACUUM writes back and while a check walks pages; the kernel's count of
bytes for the working thread is not. It is read from another thread, a few times a second.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dbupkeep.engine import Report
from dbupkeep.progress import Progress, measured


class ThreadBytes:
    """Bytes read and written by the thread that made this, from then on; None where the kernel does not count."""

    def __init__(self) -> None:
        """Begin to count."""
        self._file = Path(f"/proc/self/task/{threading.get_native_id()}/io")
        self._start = self._now()

    def read(self) -> int | None:
        """Bytes read so far."""
        return self._since(0)

    def written(self) -> int | None:
        """Bytes written so far."""
        return self._since(1)

    def moved(self) -> int | None:
        """Bytes read and written so far."""
        read, written = self.read(), self.written()
        return None if read is None or written is None else read + written

    def _since(self, field: int) -> int | None:
        now = self._now()
        return None if now is None or self._start is None else now[field] - self._start[field]

    def _now(self) -> tuple[int, int] | None:
        try:
            lines = self._file.read_text(encoding="ascii").splitlines()
        except OSError:
            return None
        return int(lines[0].split()[1]), int(lines[1].split()[1])


@contextmanager
def followed(report: Report, sample: Callable[[], Progress | None]) -> Iterator[None]:
    """Have the work inside sampled."""
    report.follow(sample)
    try:
        yield
    finally:
        report.follow(None)


def counted(done: Callable[[], int | None], total: float, unit: str, stage: str) -> Callable[[], Progress | None]:
    """A sampler of something that grows to a known total."""

    def sample() -> Progress | None:
        now = done()
        return Progress(stage=stage) if now is None else measured(now, total, unit, stage=stage)

    return sample
