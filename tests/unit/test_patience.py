"""A target that is away in the middle of a run is waited for, once; after a full disk nothing that takes room is begun."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from dbupkeep import patience
from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Policy, Step, Target
from dbupkeep.engine import Report
from dbupkeep.errors import Kind, OperationError, Refused, Unreachable, UpkeepError
from dbupkeep.jobs import Job, JobStatus
from dbupkeep.operations import Operation, parse
from dbupkeep.plans import PlanItem
from dbupkeep.testing.scripted import ScriptedEngine, ScriptedSession

URL = "scripted:///a"
AWAY = Unreachable("no server answers", why="connection refused")


class Bench:
    def __init__(self, path: Path) -> None:
        self.engine = ScriptedEngine()
        self.app = App(str(path), load_engine=lambda _: self.engine, isolate=False)
        self.parent = ""

    def submit(self, *operations: str) -> None:
        target = Target(name="a", url=URL)
        step = Step(name="step", targets=(target,), operations=parse(list(operations)), policy=Policy(force=True))
        self.parent = self.app.databases.create_parent_job(step, JobDefinition(name="job", steps=(step,)))

    def jobs(self) -> Sequence[Job]:
        return self.app.reader.children(self.parent)

    def ended(self) -> dict[str, JobStatus]:
        return {str(job.config["operation"]): job.status for job in self.jobs()}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(patience, "_PAUSE", 0.01)
    made = Bench(tmp_path / "ledger.db")
    yield made
    made.app.close()


def until(condition: Callable[[], object]) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen")


def test_a_server_that_is_restarted_is_waited_for(bench: Bench) -> None:
    bench.submit("vacuum")
    bench.engine.unreachable[URL] = AWAY
    draining = threading.Thread(target=bench.app.drain)
    draining.start()
    until(lambda: "waiting for the server: connection refused" in str(bench.jobs()[0].progress))
    del bench.engine.unreachable[URL]
    draining.join(30)
    assert bench.ended() == {"vacuum": JobStatus.COMPLETED}


def test_one_that_stays_away_is_waited_for_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.submit("vacuum", "analyze", "reindex")
    bench.engine.unreachable[URL] = AWAY
    asked: list[int] = []
    monkeypatch.setattr(patience.Patience, "waiting", counting(asked, patience.Patience.waiting))
    bench.app.drain()
    assert set(bench.ended().values()) == {JobStatus.FAILED}
    assert {(job.error or {}).get("kind") for job in bench.jobs()} == {Kind.UNREACHABLE.value}
    assert len(asked) == pytest.approx(10, abs=2), "once in all, not for each"


def counting(asked: list[int], waiting: Callable[..., Callable[[Unreachable], bool]]) -> Callable[..., object]:
    def counted(self: patience.Patience, url: str, context: object) -> Callable[[Unreachable], bool]:
        self._reach = 0.1
        wait = waiting(self, url, context)

        def counts(error: Unreachable) -> bool:
            again = wait(error)
            asked.extend([1] if again else [])
            return again

        return counts

    return counted


def test_who_cancels_does_not_wait_along(bench: Bench) -> None:
    bench.submit("vacuum")
    bench.engine.unreachable[URL] = AWAY
    draining = threading.Thread(target=bench.app.drain)
    draining.start()
    until(lambda: bench.jobs()[0].progress)
    bench.app.lifecycle.cancel(bench.parent)
    draining.join(30)
    assert bench.ended() == {"vacuum": JobStatus.CANCELLED}


def test_after_a_full_disk_nothing_that_takes_room_is_begun(bench: Bench) -> None:
    bench.engine.act = failing(full)
    bench.submit("vacuum", "analyze", "reindex")
    bench.app.drain()
    assert bench.ended() == {
        "vacuum": JobStatus.FAILED, "reindex": JobStatus.DEFERRED, "analyze": JobStatus.COMPLETED,
    }  # fmt: skip
    deferred = next(job for job in bench.jobs() if job.status is JobStatus.DEFERRED)
    assert "a disk was full a moment ago" in deferred.reason
    assert "no space left" in deferred.reason
    assert (deferred.result or {})["hint"] == "free space, then CHECKPOINT"


def test_room_that_was_foreseen_to_lack_stops_nobody_else(bench: Bench) -> None:
    bench.engine.act = failing(lambda: Refused("there is not enough room", kind=Kind.SPACE))
    bench.submit("vacuum", "analyze", "reindex")
    bench.app.drain()
    assert bench.ended()["reindex"] is JobStatus.COMPLETED


def full() -> UpkeepError:
    error = OperationError("a disk is full", why="no space left", hint="free space, then CHECKPOINT", kind=Kind.SPACE)
    error.__cause__ = OSError("no space left on device")
    return error


def failing(make: Callable[[], UpkeepError]) -> Callable[[ScriptedSession, PlanItem, Report], None]:
    def act(session: ScriptedSession, item: PlanItem, report: Report) -> None:
        if item.operation is Operation.VACUUM:
            raise make()

    return act
