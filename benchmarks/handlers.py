"""What live progress and the wish to cancel cost: VACUUM by the engine's session, against the bare statement.

Run as a program it does one of the two: `python -m benchmarks.handlers bare|watched FILE`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import databases
from benchmarks.harness import Comparison, Variant, compare, settle
from benchmarks.place import Place

PULSE = 0.25
"""Seconds between two looks at progress, as in the processor."""


def run(place: Place) -> Iterator[Comparison]:
    """Yield one comparison."""
    prepared, file = place.folder / "prepared.db", place.folder / "work.db"
    databases.make_big(prepared, 500_000_000 if place.full else 100_000_000)
    size = prepared.stat().st_size

    def prepare() -> None:
        databases.copy(prepared, file)
        settle(file)

    variants = [
        Variant(
            name=name,
            command=[sys.executable, "-m", "benchmarks.handlers", how, str(file)],
            prepare=prepare,
            check=lambda: databases.check_vacuumed(file, size),
        )
        for name, how in (("VACUUM on the engine's connection", "bare"), ("VACUUM with progress and cancel", "watched"))
    ]
    note = f"One file of {size:,} bytes; both start the same interpreter and import the same modules."
    yield compare("Progress and cancel", variants, rounds=place.rounds or 7, note=note)


class Watcher:
    """Looks at progress as the processor's pulse does."""

    def __init__(self) -> None:
        """Begin with nothing to look at."""
        self._sample: Callable[[], object] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def progress(self, progress: object) -> None:
        """Take it."""

    def stage(self, name: str, message: str = "") -> None:
        """Take it."""

    def follow(self, sample: Callable[[], object] | None) -> None:
        """Look at this from now on."""
        self._sample = sample

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(PULSE):
            if (sample := self._sample) is not None:
                sample()


def main(how: str, file: str) -> None:
    """Do one of the two."""
    from dbupkeep.definitions import Target
    from dbupkeep.engines.sqlite import connect
    from dbupkeep.operations import Operation
    from dbupkeep.plans import Decision, PlanItem

    session = connect(Target(name="work", url=f"sqlite://{Path(file).absolute()}"))
    if how == "bare":
        session.handle.connection.execute("VACUUM")  # type: ignore[attr-defined]
    else:
        watcher = Watcher()
        session.run(PlanItem(operation=Operation.VACUUM, decision=Decision.RUN, reason="", place=0), watcher)  # type: ignore[arg-type]
        watcher.end()
    session.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
