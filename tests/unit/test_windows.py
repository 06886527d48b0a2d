"""Nights by a clock that is told: the ledger, the verbs and the processor are real, the operations only take their time."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dbupkeep.admission import Answer, admit, last_start
from dbupkeep.app import App
from dbupkeep.cron import Opening
from dbupkeep.definitions import JobDefinition, Schedule, Step, Target, Window
from dbupkeep.engine import Candidate, Report, Scope
from dbupkeep.errors import Interrupted
from dbupkeep.facts import DatabaseFacts
from dbupkeep.jobs import Delivery, Job, JobStatus
from dbupkeep.ledger import JobQuery
from dbupkeep.operations import Operation, parse
from dbupkeep.plans import Decision, Estimate, PlanItem, Proposal, Source
from dbupkeep.testing.scripted import ScriptedEngine, ScriptedSession

OPENS = datetime(2026, 6, 1, 1, 0, tzinfo=UTC)
DAY = timedelta(days=1)
MINUTE = Window(name="night", open="0 1 * * *", lasts=timedelta(seconds=60))  # kept for cleaning up: 3 s


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


class ToldClock:
    def __init__(self) -> None:
        self.at = OPENS

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


class Nights:
    """A database of objects, each of which takes so long; and one thread, on which a night's time passes."""

    def __init__(self, path: Path, window: Window = MINUTE) -> None:
        self.clock = ToldClock()
        self.engine = ScriptedEngine(act=self.work, proposals=self.propose)
        self.app = App(str(path), clock=self.clock, load_engine=lambda _: self.engine, isolate=False)
        self.window = window
        self.takes: dict[str, float] = {}  # seconds, by object
        self.expected: Callable[[str], float | None] = lambda name: self.takes[name]
        self.stubborn = False  # whether interrupting is of no use
        self.cleaning = 0.5  # seconds after an interruption
        self.done: list[str] = []
        target = Target(name="a", url="scripted:///a")
        step = Step(name="tidy", targets=(target,), operations=parse(["vacuum"]))
        self.definition = JobDefinition(
            name="nightly", steps=(step,), schedule=Schedule(cron="0 1 * * *"), window=window
        )

    def propose(self, facts: DatabaseFacts, scope: Scope) -> Sequence[Proposal]:
        return [
            Proposal(
                operation=Operation.VACUUM, object=name, hold=name, decision=Decision.RUN, reason="due",
                estimate=Estimate(seconds=self.expected(name), seconds_source=Source.HISTORY),
            )
            for name in self.takes
        ]  # fmt: skip

    def work(self, session: ScriptedSession, item: PlanItem, report: Report) -> None:
        end = self.clock.at + seconds(self.takes[item.object])
        while self.clock.at < end:
            self.clock.at = min(end, self.clock.at + seconds(0.25))
            self.app.processor.beat()
            if session._stop.is_set() and not self.stubborn:
                self.clock.at += seconds(self.cleaning)
                raise Interrupted("stopped as asked")
        self.done.append(item.object)

    def night(self, at: datetime) -> Job:
        """Start the run at that moment and let its night pass; the run as it ended."""
        self.clock.at = at
        run_id = self.app.runs.create_run(self.definition)
        while due := self.deliverable():
            self.app.processor.handle(Delivery(job_id=due.id, attempt=due.attempt + 1), "w")
        run = self.app.reader.job(run_id)
        assert run is not None
        return run

    def deliverable(self) -> Job | None:
        page = self.app.reader.jobs(JobQuery(released=True, newest_first=False), limit=1)
        return page.jobs[0] if page.jobs else None

    def operations(self, run: Job) -> list[Job]:
        (parent,) = [job for job in self.app.reader.children(run.id) if job.type == "database_maintenance_parent"]
        return list(self.app.reader.children(parent.id))


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    made = Nights(tmp_path / "ledger.db")
    yield made
    made.app.close()


def test_only_what_fits_by_its_own_history_is_started(nights: Nights) -> None:
    nights.takes = {"big": 100.0, "small": 10.0, "tiny": 1.0}
    run = nights.night(OPENS)
    big, small, tiny = nights.operations(run)
    assert nights.done == ["small", "tiny"]
    assert (big.status, big.attempt) == (JobStatus.DEFERRED, 0)
    assert big.reason == (
        "would not fit: it takes about 100 s by its own history, and 57 s are left until 01:00:57 UTC"
        " (the window night closes at 01:01:00 UTC)"
    ).replace("100 s", "2 min")
    assert big.result is not None
    assert (big.result["needed_seconds"], big.result["left_seconds"]) == (100.0, 57.0)
    assert (small.status, tiny.status, run.outcome) == (JobStatus.COMPLETED, JobStatus.COMPLETED, "deferred")


def test_what_is_kept_before_closing_takes_nothing_new(nights: Nights) -> None:
    nights.definition = JobDefinition(
        name="nightly", steps=nights.definition.steps,
        window=Window(name="night", open="0 1 * * *", lasts=seconds(60), soft_stop=seconds(20)),
    )  # fmt: skip
    nights.takes = {"a": 25.0, "b": 25.0, "c": 10.0}
    nights.night(OPENS)
    assert nights.done == ["a", "c"]


@pytest.mark.parametrize("known", [True, False])
def test_what_takes_longer_than_expected_is_stopped_before_the_window_closes(nights: Nights, known: bool) -> None:
    nights.takes = {"a": 500.0, "b": 1.0}
    nights.expected = lambda name: 5.0 if known else None
    run = nights.night(OPENS)
    a, b = nights.operations(run)
    assert (a.status, a.reason) == (
        JobStatus.DEFERRED, "stopped before it had ended, because the window night closes",
    )  # fmt: skip
    assert (b.status, b.attempt) == (JobStatus.DEFERRED, 0)
    assert "takes nothing new any more" in b.reason
    assert run.finished_at is not None
    assert run.finished_at <= OPENS + seconds(60)


def test_what_cannot_be_interrupted_is_told_as_an_overrun(nights: Nights) -> None:
    nights.takes, nights.stubborn = {"a": 70.0}, True
    nights.expected = lambda name: 5.0
    (a,) = nights.operations(nights.night(OPENS))
    assert a.status is JobStatus.COMPLETED
    assert a.result is not None
    assert a.result["overrun_seconds"] == 10.0
    assert "for 10 s after the window night had closed" in a.result["reason"]


def test_in_100_of_100_nights_the_run_ends_by_the_end_of_the_window(nights: Nights) -> None:
    chance = random.Random(20260601)
    late = []
    for number in range(100):
        opens = OPENS + number * DAY
        nights.takes = {f"t{place}": chance.expovariate(1 / 20) for place in range(chance.randint(1, 6))}
        guess = {name: chance.choice([None, took * chance.lognormvariate(0, 1)]) for name, took in nights.takes.items()}
        nights.expected = guess.__getitem__
        nights.cleaning = chance.uniform(0, 2.5)
        run = nights.night(opens + seconds(chance.uniform(0, 55)))
        assert run.status.ended
        assert run.finished_at is not None
        if run.finished_at > opens + seconds(61):
            late.append((number, run.finished_at - opens))
    assert not late


def test_with_room_for_a_third_three_nights_do_each_object_once(nights: Nights) -> None:
    nights.takes = {f"t{number}": 18.0 for number in range(9)}
    for number in range(3):
        nights.night(OPENS + number * DAY)
        assert len(nights.done) == 3 * (number + 1)
    assert Counter(nights.done) == Counter(list(nights.takes))
    nights.night(OPENS + 3 * DAY)
    assert nights.done[9:] == ["t0", "t1", "t2"]


def test_databases_of_a_fleet_take_turns_too(nights: Nights) -> None:
    nights.takes = {"": 18.0}
    files = [Target(name=f"f{number}", url=f"scripted:///f{number}") for number in range(6)]
    nights.engine._found = lambda place: [Candidate(target=each, due=True) for each in files]
    done: list[str] = []

    def work(session: ScriptedSession, item: PlanItem, report: Report) -> None:
        nights.work(session, item, report)
        done.append(session.target.name)

    nights.engine.act = work
    place = Target(name="all", url="scripted:///", pattern="*")
    step = Step(name="tidy", targets=(place,), operations=parse(["vacuum"]))
    nights.definition = JobDefinition(name="fleet", steps=(step,), window=MINUTE)
    nights.night(OPENS)
    nights.night(OPENS + DAY)
    assert done == [each.name for each in files]


def test_outside_of_the_window_all_is_deferred_at_once_and_an_hour_before_too(nights: Nights) -> None:
    for moment in (OPENS - timedelta(hours=1), OPENS + seconds(60)):
        nights.takes = {"a": 1.0}
        run = nights.night(moment)
        assert (run.outcome, nights.done) == ("deferred", [])
        (survey,) = nights.app.reader.children(run.id)
        assert "the window night is closed; it opens at 01:00:00 UTC" in survey.reason


def test_what_runs_is_stopped_by_the_pulse_whatever_the_ledger_says(nights: Nights) -> None:
    began = threading.Event()

    def work(session: ScriptedSession, item: PlanItem, report: Report) -> None:
        began.set()
        session.work(60)

    nights.engine.act, nights.takes = work, {"a": 1.0}
    run_id = nights.app.runs.create_run(nights.definition)
    draining = threading.Thread(target=nights.app.drain)
    draining.start()
    assert began.wait(30)
    nights.clock.at = OPENS + seconds(57)
    draining.join(30)
    run = nights.app.reader.job(run_id)
    assert run is not None
    assert run.outcome == "deferred"
    assert nights.operations(run)[0].attempt == 1


def test_once_nothing_may_start_any_more_all_that_waits_is_deferred_together(nights: Nights) -> None:
    nights.takes = {f"t{number}": 1.0 for number in range(5)}
    nights.app.runs.create_run(nights.definition)
    for moment in (OPENS, OPENS + seconds(58)):  # the survey, and the first operation
        nights.clock.at = moment
        due = nights.deliverable()
        assert due is not None
        nights.app.processor.handle(Delivery(job_id=due.id, attempt=due.attempt + 1), "w")
    (run,) = nights.app.reader.jobs(JobQuery(roots=True)).jobs
    assert run.outcome == "deferred"
    assert {job.status for job in nights.operations(run)} == {JobStatus.DEFERRED}


def test_a_window_that_opens_soon_is_waited_for(nights: Nights) -> None:
    nights.clock.at = OPENS - seconds(5)
    run_id = nights.app.runs.create_run(nights.definition)
    (survey,) = nights.app.reader.children(run_id)
    begin = nights.app.lifecycle.begin
    assert begin(Delivery(job_id=survey.id, attempt=1), "w") is None
    assert nights.deliverable() is not None
    nights.clock.at = OPENS
    assert begin(Delivery(job_id=survey.id, attempt=1), "w") is not None


def test_a_paused_run_waits_in_its_window() -> None:
    verdict = admit(window=MINUTE, paused=True, seconds=1.0, own=True, now=OPENS)
    assert verdict.answer is Answer.WAIT


def test_what_is_kept_for_cleaning_up_is_short_beside_the_window() -> None:
    opening = Opening(opens=OPENS, closes=OPENS + timedelta(hours=4))
    long = Window(name="night", open="0 1 * * *", lasts=timedelta(hours=4))
    assert last_start(long, opening) == opening.closes - seconds(30)
