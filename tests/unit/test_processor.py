"""From whatever a worker does to how its attempt ended; and the pulse, which nothing may stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from dbupkeep import lifecycle, processor
from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Step, Target
from dbupkeep.engine import Report
from dbupkeep.errors import Busy, Interrupted, LedgerError, Lost, NotPermitted, OperationError, UnknownName
from dbupkeep.jobs import Delivery, Job, JobStatus
from dbupkeep.operations import parse
from dbupkeep.plans import PlanItem
from dbupkeep.progress import Progress, measured
from dbupkeep.testing.scripted import ScriptedEngine, ScriptedSession

PATIENCE = 30.0


class Bench:
    def __init__(self, path: Path) -> None:
        self.engine = ScriptedEngine()
        self.app = App(str(path), load_engine=lambda _: self.engine)

    def submit(self) -> Job:
        step = Step(name="step", targets=(Target(name="a", url="scripted:///a"),), operations=parse(["vacuum"]))
        parent = self.app.databases.create_parent_job(step, JobDefinition(name="job", steps=(step,)))
        (child,) = self.app.reader.children(parent)
        return child

    def now(self, job: Job) -> Job:
        found = self.app.reader.job(job.id)
        assert found is not None
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "ledger.db")
    yield made
    made.app.close()


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (Busy("locked", why="by app", hint="wait"), JobStatus.DEFERRED, "locked: by app"),
        (Interrupted("stopped as asked"), JobStatus.CANCELLED, "stopped as asked"),
        (Lost("the server went away"), JobStatus.PENDING, "the server went away"),
        (LedgerError("the ledger cannot be used"), JobStatus.PENDING, "the ledger cannot be used"),
        (OperationError("it did not work"), JobStatus.FAILED, "it did not work"),
        (NotPermitted("no right"), JobStatus.FAILED, "no right"),
        (ValueError("oh"), JobStatus.FAILED, "unforeseen: ValueError: oh"),
        (SystemExit(3), JobStatus.FAILED, "unforeseen: SystemExit: 3"),
    ],
)
def test_how_an_attempt_ends(bench: Bench, error: BaseException, status: JobStatus, said: str) -> None:
    def act(session: ScriptedSession, item: PlanItem, report: Report) -> None:
        raise error

    bench.engine.act = act
    job = bench.submit()
    bench.app.processor.handle(Delivery(job_id=job.id, attempt=1), "w")
    ended = bench.now(job)
    assert ended.status is status
    assert said in ((ended.error or {}).get("message") or ended.reason)
    assert bench.app.processor.busy == 0


def test_a_stale_delivery_runs_nothing(bench: Bench) -> None:
    job = bench.submit()
    bench.app.processor.handle(Delivery(job_id=job.id, attempt=2), "w")
    assert bench.engine.effects == []
    assert bench.now(job).attempt == 0


@pytest.mark.timeout(60)
def test_what_a_fault_keeps_from_beginning_runs_out_of_attempts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def admit(**_: object) -> None:
        raise ValueError("oh")

    monkeypatch.setattr(lifecycle, "admit", admit)
    job = bench.submit()
    bench.app.drain()
    ended = bench.now(job)
    assert (ended.status, ended.attempt, ended.error and ended.error["kind"]) == (JobStatus.FAILED, 3, "poisoned")
    assert "it could not begin: ValueError: oh" in str(ended.error)
    assert bench.engine.effects == []


class Working:
    """Serves until the test ends; the one operation goes on until it is let go or interrupted."""

    def __init__(self, bench: Bench, act: Callable[[ScriptedSession, Report], None]) -> None:
        self.bench, self.begun = bench, threading.Event()

        def begin(session: ScriptedSession, item: PlanItem, report: Report) -> None:
            self.begun.set()
            act(session, report)

        bench.engine.act = begin
        self.job = bench.submit()
        self.stop = threading.Event()
        self.serving = threading.Thread(target=bench.app.processor.serve, kwargs={"slots": 1, "stop": self.stop})

    def __enter__(self) -> Self:
        self.serving.start()
        assert self.begun.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.serving.join(PATIENCE)
        assert not self.serving.is_alive()


def test_a_cancel_reaches_what_runs(bench: Bench) -> None:
    with Working(bench, lambda session, _: session.work(PATIENCE)) as working:
        bench.app.lifecycle.cancel(working.job.parent_id)
    ended = bench.now(working.job)
    assert (ended.status, ended.reason) == (JobStatus.CANCELLED, "stopped as asked")


def test_a_fault_in_what_the_pulse_asks_does_not_end_the_pulse(bench: Bench) -> None:
    asked = threading.Event()

    def sample() -> Progress:
        asked.set()
        raise ValueError("cannot say")

    def act(session: ScriptedSession, report: Report) -> None:
        report.follow(sample)
        assert asked.wait(PATIENCE)
        report.follow(None)
        session.work(PATIENCE)

    with Working(bench, act) as working:
        assert asked.wait(PATIENCE)
        bench.app.lifecycle.cancel(working.job.parent_id)
    assert bench.now(working.job).status is JobStatus.CANCELLED


def test_an_attempt_that_was_taken_over_by_this_very_process_is_told_too(bench: Bench) -> None:
    """After a sleep of the machine: the old attempt still runs while the new one has begun, both in this process."""
    interrupted = threading.Event()
    second = threading.Event()

    def act(session: ScriptedSession, report: Report) -> None:
        if not second.is_set():
            second.set()
            try:
                session.work(PATIENCE)
            except Interrupted:
                interrupted.set()
                raise
        else:
            assert interrupted.wait(PATIENCE), "nobody has told the old attempt to end"

    with Working(bench, act) as working:
        handle, job = bench.app.processor.handle, working.job
        handle(Delivery(job_id=job.id, attempt=1), "w")  # comes again: the attempt counts as lost
        take_away = "delete from deliveries where attempt = 2"  # as if the slot below had it
        bench.app.ledger.transact(lambda tx: tx.sql.text(take_away, {}))  # type: ignore[attr-defined]
        handle(Delivery(job_id=job.id, attempt=2), "w")
    ended = bench.now(job)
    assert (ended.status, ended.attempt) == (JobStatus.COMPLETED, 2)
    assert bench.app.processor.busy == 0


def test_a_fault_in_the_sweep_does_not_end_the_pulse(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    swept = threading.Event()

    def sweep() -> int:
        swept.set()
        raise UnknownName("no job of that name: it was pruned meanwhile")

    def act(session: ScriptedSession, report: Report) -> None:
        monkeypatch.setattr(bench.app.processor, "_sweep", sweep)
        assert swept.wait(PATIENCE)
        session.work(PATIENCE)

    monkeypatch.setattr(processor, "SWEEP", 0.0)
    with Working(bench, act) as working:
        assert swept.wait(PATIENCE)
        bench.app.lifecycle.cancel(working.job.parent_id)
    assert bench.now(working.job).status is JobStatus.CANCELLED


def test_who_is_told_to_stop_does_not_go_on_waiting_for_the_ledger(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refused = threading.Event()

    def end(*_: object) -> None:
        refused.set()
        raise LedgerError("the ledger cannot be used")

    monkeypatch.setattr(processor, "PARTING_PATIENCE", 0.0)
    monkeypatch.setattr(bench.app.lifecycle, "end", end)
    with Working(bench, lambda session, report: None):
        assert refused.wait(PATIENCE)
    assert isinstance(bench.app.processor.trouble, LedgerError)
    waits = [record.levelno for record in caplog.records if "the result waits" in record.message]
    assert waits[:1] == [logging.ERROR], "nobody was told"


def test_patience_with_the_ledger_counts_what_each_try_takes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[float] = []

    def end(*_: object) -> None:
        tries.append(100.0)  # seconds that it was locked
        raise LedgerError("the ledger cannot be used")

    monkeypatch.setattr(bench.app.lifecycle, "end", end)
    monkeypatch.setattr(bench.app.processor._clock, "monotonic", lambda: sum(tries))
    job = bench.submit()
    with pytest.raises(LedgerError):
        bench.app.processor.handle(Delivery(job_id=job.id, attempt=1), "w")
    assert len(tries) == 3


def test_progress_is_kept_and_never_goes_back(bench: Bench) -> None:
    told = threading.Event()

    def act(session: ScriptedSession, report: Report) -> None:
        report.progress(measured(60, 100, "bytes"))
        report.progress(measured(30, 100, "bytes"))
        report.stage("sorting", "of 3 indexes")
        assert told.wait(PATIENCE)

    with Working(bench, act) as working:
        pause = threading.Event()
        while (progress := bench.now(working.job).progress) is None:
            pause.wait(0.01)
        told.set()
    assert (progress["fraction"], progress["current"]) == (0.6, 30)
    names = [event.event.name for event in bench.app.reader.events() if event.job_id == working.job.id]
    assert names == ["job_submitted", "job_started", "stage_reached", "job_completed"]
