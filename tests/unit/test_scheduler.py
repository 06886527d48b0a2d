"""What is due is started once, by a clock that is told; the ledger and the manager of runs are real."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dbupkeep.app import App
from dbupkeep.clock import boot_id, mark_of
from dbupkeep.config import Config
from dbupkeep.definitions import JobDefinition, Overlap, Schedule, Step, Target, Window
from dbupkeep.errors import OperationError
from dbupkeep.health import Level
from dbupkeep.jobs import Job, JobStatus
from dbupkeep.ledger import JobQuery
from dbupkeep.operations import parse
from dbupkeep.scheduler import Fired, Scheduler, alive_at, faulty_file, standing
from dbupkeep.schedules import Do
from dbupkeep.testing.scripted import ScriptedEngine
from dbupkeep.views.condition import condition
from dbupkeep.views.metrics import exposition

START = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


class ToldClock:
    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


class Bench:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ToldClock()
        self.engine = ScriptedEngine()
        self.app = self.open()
        self.jobs: dict[str, JobDefinition] = {}
        self.scheduler = self.app.scheduler()

    def open(self) -> App:
        return App(str(self.path), clock=self.clock, load_engine=lambda _: self.engine, isolate=False)

    def use(self, *jobs: JobDefinition) -> None:
        self.jobs = {job.name: job for job in jobs}
        self.scheduler.use(self.jobs)
        self.scheduler.look()

    def look(self, at: datetime | None = None, by: Scheduler | None = None) -> list[Fired]:
        self.clock.at = at or self.clock.at
        return (by or self.scheduler).look()

    def another(self) -> Scheduler:
        made = self.open().scheduler()
        made.use(self.jobs)
        return made

    def runs(self) -> list[Job]:
        return list(self.app.reader.jobs(JobQuery(roots=True, newest_first=False), limit=1000).jobs)

    def missed(self, name: str = "nightly") -> str:
        known = standing(self.app.reader, name)
        return known.missed.reason if known and known.missed else ""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "ledger.db")
    yield made
    made.app.close()


def job(
    name: str = "nightly", *, url: str = "scripted:///a", window: Window | None = None, **how: object
) -> JobDefinition:
    step = Step(name="tidy", targets=(Target(name="a", url=url),), operations=parse(["vacuum"]))
    return JobDefinition(name=name, steps=(step,), schedule=Schedule(**how), window=window)  # type: ignore[arg-type]


def test_each_due_time_starts_one_run_however_often_it_is_looked(bench: Bench) -> None:
    bench.use(job(cron="0 * * * *"))
    started = []
    for step in range(5 * 60):
        started += bench.look(START + step * MINUTE)
        bench.look()
        bench.app.drain()
    assert [each.due for each in started] == [START + hour * HOUR for hour in range(1, 5)]
    assert [run.id for run in bench.runs()] == [each.run_id for each in started]
    assert all(run.outcome == "done" for run in bench.runs())


def test_several_schedulers_on_one_ledger_start_each_due_time_once(bench: Bench) -> None:
    bench.use(job(cron="* * * * *", overlap=Overlap.QUEUE), job("other", url="scripted:///b", cron="* * * * *"))
    others = [bench.another() for _ in range(3)]
    for minute in range(1, 11):
        bench.clock.at = START + minute * MINUTE
        threads = [threading.Thread(target=each.look) for each in (bench.scheduler, *others) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bench.look()  # whoever lost the turn looks again
        assert len(bench.runs()) == 2 * minute
        bench.app.drain()


def test_what_was_due_before_the_schedule_was_known_does_not_count(bench: Bench) -> None:
    bench.use(job(cron="0 0 * * *"))
    assert bench.look(START + HOUR) == []
    bench.use(job(cron="0 11 * * *"))  # another schedule begins anew
    assert bench.look() == []


def test_missed_times_are_caught_up_on_by_one_run(bench: Bench) -> None:
    bench.use(job(cron="0 * * * *"))
    (fired,) = bench.look(START + 3 * DAY + MINUTE * 5)
    assert (fired.do, fired.due, fired.late) == (Do.START, START + 3 * DAY, True)
    assert bench.look() == []


def test_missed_times_are_left_out_where_the_policy_says_so(bench: Bench) -> None:
    bench.use(job(cron="0 * * * *", catch_up=False))
    (fired,) = bench.look(START + 3 * DAY + MINUTE * 5)
    assert fired.do is Do.LEAVE_OUT
    assert "no service was there" in bench.missed()
    assert bench.runs() == []
    (on_time,) = bench.look(START + 3 * DAY + HOUR)
    assert (on_time.do, on_time.late) == (Do.START, False)


def test_a_run_that_goes_on_is_not_overlapped_and_the_reason_is_kept(bench: Bench) -> None:
    bench.use(job(cron="0 * * * *"))
    bench.look(START + HOUR)
    (fired,) = bench.look(START + 2 * HOUR)
    assert fired.do is Do.LEAVE_OUT
    assert "its last run has not ended" in bench.missed()
    bench.app.drain()
    assert bench.look(START + 2 * HOUR + MINUTE) == []
    assert len(bench.look(START + 3 * HOUR)) == 1
    assert len(bench.runs()) == 2


def test_an_overlapping_run_can_be_queued_and_then_is_one(bench: Bench) -> None:
    bench.use(job(cron="0 * * * *", overlap=Overlap.QUEUE))
    bench.look(START + HOUR)
    held = [each.do for hour in (2, 3, 4) for each in bench.look(START + hour * HOUR)]
    assert held == [Do.HOLD] * 3
    bench.app.drain()
    (fired,) = bench.look(START + 4 * HOUR + 5 * MINUTE)
    assert (fired.do, fired.due, fired.late) == (Do.START, START + 4 * HOUR, False)
    assert len(bench.runs()) == 2


@pytest.mark.parametrize("other", ["scripted:///a", "scripted:///a/below.db"])
def test_a_run_of_another_job_on_the_target_is_waited_for(bench: Bench, other: str) -> None:
    bench.use(job(cron="0 * * * *"), job("other", url=other, cron="0 * * * *"))
    fired = bench.look(START + HOUR)
    assert [each.do for each in fired] == [Do.START, Do.HOLD]
    assert "a run of nightly has not ended" in fired[1].reason
    bench.app.drain()
    (late,) = bench.look(START + HOUR + MINUTE)
    assert (late.name, late.do) == ("other", Do.START)


def test_every_counts_from_the_last_success_whoever_started_it(bench: Bench) -> None:
    bench.use(job(every=6 * HOUR))
    assert len(bench.runs()) == 1  # at once: it never ran
    assert bench.look(START + 7 * HOUR) == []  # it has not ended
    bench.app.drain()
    assert bench.look(START + 12 * HOUR) == []
    bench.app.runs.create_run(bench.jobs["nightly"])  # by hand
    bench.app.drain()
    assert bench.look(START + 13 * HOUR) == []
    assert len(bench.look(START + 18 * HOUR)) == 1


def test_a_failed_run_is_tried_again_sooner_but_not_at_once(bench: Bench) -> None:
    def fail(*_: object) -> None:
        raise OperationError("it did not work")

    bench.engine.act = fail
    bench.use(job(every=5 * HOUR))
    bench.app.drain()
    assert bench.runs()[0].status is JobStatus.FAILED
    assert bench.look(START + 29 * MINUTE) == []
    assert len(bench.look(START + 30 * MINUTE)) == 1


def test_a_due_run_waits_for_its_window(bench: Bench) -> None:
    window = Window(name="night", open="0 22 * * *", lasts=4 * HOUR)
    bench.use(job(cron="0 20 * * *", window=window))
    (held,) = bench.look(START + 8 * HOUR)
    assert (held.do, held.reason) == (Do.HOLD, "the window night is closed")
    assert bench.look(START + 9 * HOUR) == []
    (fired,) = bench.look(START + 10 * HOUR)
    assert (fired.do, fired.due, fired.late) == (Do.START, START + 8 * HOUR, False)


def test_small_steps_of_the_clock_start_nothing_twice_and_a_big_one_back_begins_anew(bench: Bench) -> None:
    bench.use(job(cron="0 * * * *"))
    bench.look(START + HOUR)
    bench.app.drain()
    assert bench.look(START + HOUR - 10 * MINUTE) == []
    assert bench.look(START + HOUR) == []
    assert len(bench.look(START + 365 * DAY)) == 1  # a year ahead, by mistake
    bench.app.drain()
    assert bench.look(START + MINUTE) == []  # and back, to before what had been started
    assert bench.look(START + HOUR) == []
    known = standing(bench.app.reader, "nightly")
    assert known is not None
    assert known.since == START + HOUR
    assert len(bench.look(START + 2 * HOUR)) == 1
    assert len(bench.runs()) == 3


def test_jobs_of_one_target_never_overlap(bench: Bench) -> None:
    bench.use(*(job(f"job {number}", cron="* * * * *") for number in range(4)))  # all on one target
    fired = 0
    for minute in range(1, 26):
        for _ in range(5):
            fired += len(bench.look(START + minute * MINUTE))
            running = [run for run in bench.runs() if not run.status.ended]
            assert len(running) <= 1
            if running:
                bench.app.lifecycle.cancel(running[0].id)
    assert fired >= 100


def test_a_scheduler_whose_process_has_ended_gives_no_sign_of_life_any_more(bench: Bench) -> None:
    ended = subprocess.Popen(["sleep", "60"])
    sign = {"at": START.isoformat(), "boot": boot_id(), "process": mark_of(ended.pid)}
    bench.app.lifecycle.keep("scheduler", "alive", sign)
    assert alive_at(bench.app.reader) == START
    ended.kill()
    ended.wait()
    assert alive_at(bench.app.reader) is None
    bench.app.lifecycle.keep("scheduler", "alive", {**sign, "boot": "of another machine"})
    assert alive_at(bench.app.reader) == START


def test_what_is_wrong_with_the_file_on_disk_stands_there_until_it_is_mended(bench: Bench) -> None:
    bench.use()
    bench.scheduler.configured("c.toml", "line 3 is wrong")
    bench.clock.at = START + HOUR
    bench.scheduler.configured("c.toml", "line 4 is wrong")
    found = faulty_file(bench.app.reader)
    assert found is not None
    assert (found.fault, found.since) == ("line 4 is wrong", START)
    (check,) = [check for check in condition(bench.app, Config()).checks if check.name == "configuration"]
    assert check.level is Level.WARNING
    assert "since 60 min, and the old one stays in force: c.toml: line 4 is wrong" in check.message
    assert b"dbupkeep_configuration_valid 0.0" in exposition(bench.app, Config())[0]
    bench.scheduler.configured("c.toml", "")
    assert faulty_file(bench.app.reader) is None
    assert b"dbupkeep_configuration_valid 1.0" in exposition(bench.app, Config())[0]
