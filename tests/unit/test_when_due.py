"""A job that starts when something is due: what is decided by a told clock; ledger, threads and manager are real."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Policy, Schedule, Step, Target, Window
from dbupkeep.errors import TargetError
from dbupkeep.jobs import Job
from dbupkeep.ledger import JobQuery
from dbupkeep.looks import MOST, Looks
from dbupkeep.operations import parse
from dbupkeep.plans import RunPlan
from dbupkeep.scheduler import Fired, Scheduler, standing
from dbupkeep.schedules import Decision, Do, LastRun, Looked, Situation, Standing, conclude, decide, next_due
from dbupkeep.testing.pair_kit import eventually
from dbupkeep.testing.scripted import ScriptedEngine
from dbupkeep.views.scheduled import Scheduled, found_in_words

START = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
QUARTER = 15 * MINUTE


def job(name: str = "tidy", *, url: str = "scripted:///a", window: Window | None = None) -> JobDefinition:
    step = Step(name="tidy", targets=(Target(name="a", url=url),), operations=parse(["vacuum"]), policy=Policy())
    return JobDefinition(name=name, steps=(step,), schedule=Schedule(when_due=QUARTER), window=window)


# --- What is decided --------------------------------------------------------------------------------------------------


def ended(outcome: str, at: datetime) -> LastRun:
    return LastRun(id="1", ended=True, outcome=outcome, started_at=at, finished_at=at)


def asked(known: Standing, at: datetime, last: LastRun | None = None) -> Decision:
    return decide(job(), known, Situation(now=at, last=last))


FRESH = Standing(rule="when due 0:15:00", since=START)


def test_it_looks_at_once_and_then_at_most_that_often() -> None:
    first = asked(FRESH, START)
    assert (first.do, first.due) == (Do.LOOK, START)
    nothing = conclude(first, None, Looked(at=START + MINUTE, databases=12))
    assert nothing.do is Do.NOTHING
    assert asked(nothing.standing, START + QUARTER).do is Do.NOTHING
    again = asked(nothing.standing, START + MINUTE + QUARTER)
    assert (again.do, again.due) == (Do.LOOK, START + MINUTE + QUARTER)


def test_what_is_due_starts_a_run_and_no_look_is_made_while_it_goes_on() -> None:
    found = conclude(asked(FRESH, START), None, Looked(at=START, due=2, databases=1, faults=("one was away",)))
    assert (found.do, found.due) == (Do.START, START)
    going = Situation(now=START + HOUR, last=LastRun(id="1", ended=False))
    assert decide(job(), found.standing, going).do is Do.NOTHING
    assert next_due(job().schedule, found.standing, going) is None


@pytest.mark.parametrize("outcome", ["failed", "deferred", "partial", "cancelled", "nothing_to_do"])
def test_a_run_that_left_it_due_is_made_again_ever_more_seldom(outcome: str) -> None:
    known, last, at, waits = FRESH, None, START, []
    for _ in range(5):
        begun = conclude(asked(known, at, last), last, Looked(at=at, due=1, databases=1))
        assert begun.do is Do.START
        known, last = begun.standing, ended(outcome, at)
        coming = next_due(job().schedule, known, Situation(now=at, last=last))
        assert coming is not None
        assert asked(known, coming - MINUTE, last).do is Do.NOTHING
        waits.append(coming - at)
        at = coming
    assert waits == [QUARTER, 2 * QUARTER, HOUR, HOUR, HOUR]
    over = conclude(asked(known, at, last), last, Looked(at=at, databases=1))
    assert over.standing.tries == 0, "the need went away by itself"
    assert conclude(asked(known, at, last), last, Looked(at=at, faults=("away",))).standing.tries == 5


def test_after_a_run_that_did_it_the_normal_interval_counts() -> None:
    begun = conclude(asked(replace(FRESH, tries=4), START), ended("done", START), Looked(at=START, due=1))
    assert begun.standing.tries == 1
    coming = next_due(job().schedule, begun.standing, Situation(now=START, last=ended("done", START + MINUTE)))
    assert coming == START + QUARTER


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Looked(at=START, databases=12), "nothing was due: 12 databases"),
        (Looked(at=START, due=1, databases=1), "1 operation due: 1 database"),
        (Looked(at=START, faults=("db1 does not answer",)), "could not look: db1 does not answer"),
        (Looked(at=START, databases=2, faults=("x",)), "nothing was due: 2 databases; not looked at: x"),
    ],
)
def test_what_was_found_in_words(found: Looked, words: str) -> None:
    assert found_in_words(found) == words


# --- What the scheduler does ------------------------------------------------------------------------------------------


class Bench:
    def __init__(self, path: Path) -> None:
        self.path, self.at, self.idle, self.away = path, START, True, False
        self.idle_at: set[str] = set()
        self.looks: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.engine = ScriptedEngine()
        self.apps: list[App] = []
        self.app, self.scheduler = self.open()

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def open(self) -> tuple[App, Scheduler]:
        app = App(str(self.path), clock=self, load_engine=lambda _: self.engine, isolate=False)
        self.apps.append(app)
        plan = app.runs.plan

        def seen(step: Step, definition: JobDefinition) -> RunPlan:
            self.looks.append(definition.name)
            assert self.gate.wait(30)
            if self.away:
                raise TargetError("db1 does not answer")
            found = plan(step, definition)
            idle = self.idle or step.targets[0].url in self.idle_at
            return replace(found, plans=(), idle=len(found.plans)) if idle else found

        app.runs.plan = seen  # type: ignore[method-assign]
        return app, app.scheduler()

    def use(self, *jobs: JobDefinition) -> None:
        self.scheduler.use({each.name: each for each in jobs})

    def runs(self) -> list[Job]:
        return list(self.app.reader.jobs(JobQuery(roots=True)).jobs)

    def looked(self, name: str = "tidy") -> Looked | None:
        known = standing(self.app.reader, name)
        return known.looked if known else None

    def look(self, at: datetime, name: str = "tidy") -> list[Fired]:
        """Go to that time, and go on until the look that is due then has been made."""
        self.at, fired = at, []

        def made() -> bool:
            fired.extend(self.scheduler.look())
            found = self.looked(name)
            return found is not None and found.at == at

        eventually("the look is made", made)
        return fired


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "ledger.db")
    yield made
    made.gate.set()
    eventually("no look goes on", lambda: not any(each.name == "dbupkeep-look" for each in threading.enumerate()))
    for app in made.apps:
        app.close()


def test_no_run_is_written_until_something_is_due(bench: Bench) -> None:
    bench.use(job())
    for quarter in range(3):
        assert bench.look(START + quarter * QUARTER) == []
        assert bench.scheduler.look() == []
    assert (len(bench.looks), bench.runs()) == (3, [])
    assert bench.looked() == Looked(at=START + 2 * QUARTER, databases=1)
    bench.idle = False
    (fired,) = bench.look(START + 3 * QUARTER)
    assert (fired.do, fired.due) == (Do.START, START + 3 * QUARTER)
    assert [run.id for run in bench.runs()] == [fired.run_id]
    assert bench.scheduler.look() == []


def test_a_target_that_is_away_is_said_and_looked_at_again_in_its_time(bench: Bench) -> None:
    bench.use(job())
    bench.away = True
    (fired,) = bench.look(START)
    assert (fired.do, fired.reason) == (Do.NOTHING, "db1 does not answer")
    seen = Scheduled.of(bench.app.reader, job(), bench.at)
    assert seen.looked_said == "could not look: db1 does not answer"
    assert seen.coming == (START + QUARTER,)
    bench.away = False
    assert bench.look(START + QUARTER) == []
    assert bench.runs() == []


def test_a_look_that_hangs_holds_up_no_other_job_and_is_one(bench: Bench) -> None:
    bench.gate.clear()
    cron = replace(job("other", url="scripted:///b"), schedule=Schedule(cron="* * * * *"))
    bench.use(job(), cron)
    for minute in range(3):
        bench.at = START + minute * MINUTE
        bench.scheduler.look()
        bench.scheduler.look()
    assert len(bench.runs()) == 1
    assert bench.looks == ["tidy"]


def test_an_answer_to_an_old_configuration_is_dropped(bench: Bench) -> None:
    bench.gate.clear()
    bench.use(job())
    bench.idle = False

    def begun() -> bool:
        bench.scheduler.look()
        return bool(bench.looks)

    eventually("a look has begun", begun)
    bench.idle_at = {"scripted:///b"}
    bench.use(job(url="scripted:///b"))
    bench.gate.set()
    bench.look(START)
    assert (len(bench.looks), bench.runs()) == (2, [])
    bench.use()
    assert bench.scheduler.look() == []


def test_no_look_outside_of_the_window_or_while_its_target_is_worked_on(bench: Bench) -> None:
    night = Window(name="night", open="0 22 * * *", lasts=4 * HOUR)
    bench.use(job(window=night))
    (held,) = [*bench.scheduler.look(), *bench.scheduler.look()]
    assert (held.do, held.reason, bench.looks) == (Do.HOLD, "the window night is closed", [])
    assert Scheduled.of(bench.app.reader, job(window=night), START).coming == (START + 10 * HOUR,)
    bench.app.runs.create_run(job("by hand"))
    bench.at = START + 10 * HOUR
    (held,) = bench.scheduler.look()
    assert "a run of by hand has not ended" in held.reason
    assert bench.looks == []


def test_two_services_start_what_both_found_once(bench: Bench) -> None:
    bench.idle = False
    bench.use(job())
    _, other = bench.open()
    other.use({"tidy": job()})

    def both() -> bool:
        for each in (bench.scheduler, other):
            each.look()
        return bool(bench.runs())

    eventually("a run is started", both)
    for _ in range(3):
        both()
    assert len(bench.runs()) == 1


def test_looks_are_bounded_in_all(bench: Bench) -> None:
    bench.gate.clear()
    bench.use(*(job(f"job {number}", url=f"scripted:///{number}") for number in range(MOST + 3)))
    bench.scheduler.look()
    bench.scheduler.look()
    eventually("looks have begun", lambda: len(bench.looks) == MOST)
    bench.scheduler.look()
    assert len(bench.looks) == MOST
    bench.gate.set()

    def all_looked() -> bool:
        bench.scheduler.look()
        return len(set(bench.looks)) == MOST + 3

    eventually("the others have their turn", all_looked)


def test_an_error_of_ours_in_a_look_is_a_fault_that_is_said(bench: Bench) -> None:
    def broken(_: JobDefinition) -> Looked:
        raise RuntimeError("a defect")

    looks = Looks(broken, bench)
    found = eventually("an answer", lambda: looks.ask(job(), START))
    assert found is not None
    assert found.faults == ("the look ended by an error, which is in the log",)
