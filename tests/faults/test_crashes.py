"""One crash at a time: a job that kills its workers, a submitter killed at each of its steps, a worker that comes back."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Policy, Step, Target
from dbupkeep.jobs import Job, JobStatus, Outcome
from dbupkeep.ledger import JobQuery
from dbupkeep.lifecycle import Submission
from dbupkeep.operations import parse
from dbupkeep.testing.history import History, pristine
from dbupkeep.testing.pair_kit import family, orchestration
from dbupkeep.testing.scripted import ScriptedEngine

if TYPE_CHECKING:
    from tests.faults.conftest import Processes

PATIENCE = 30.0


@pytest.fixture
def app(processes: Processes) -> Iterator[App]:
    opened = App(str(processes.ledger), load_engine=lambda _: ScriptedEngine(), isolate=False)
    yield opened
    opened.close()


def submit(app: App, *urls: str, operations: list[str], attempts: int = 3) -> list[str]:
    parents = []
    for url in urls:
        target = Target(name=url.rpartition("/")[2], url=url)
        step = Step(
            name="step", targets=(target,), operations=parse(operations), policy=Policy(max_attempts=attempts)
        )  # fmt: skip
        parents.append(app.databases.create_parent_job(step, JobDefinition(name="job", steps=(step,))))
    return parents


def jobs_of(app: App) -> tuple[Job, ...]:
    return app.reader.jobs(JobQuery(newest_first=False), limit=10_000).jobs


def job(app: App, job_id: str) -> Job:
    found = app.reader.job(job_id)
    assert found is not None
    return found


def eventually(is_so: Callable[[], bool]) -> None:
    """What another process does can only be looked at."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass"
        threading.Event().wait(0.01)


def check_history(app: App) -> None:
    jobs, history = jobs_of(app), History()
    history.expect(pristine(one) for one in jobs)
    for recorded in app.reader.events(limit=100_000):
        history.add(recorded)
    history.check_against(jobs)
    history.check_ended()


@pytest.mark.fault
def test_a_poisonous_job_ends_after_its_attempts_and_its_siblings_go_on(processes: Processes, app: App) -> None:
    bad, *good = submit(app, *(f"scripted:///{n}" for n in range(4)), operations=["vacuum", "analyze"])
    processes.poison, processes.seconds, processes.lease = "scripted:///0 vacuum", 0.001, 0.2
    ends: list[int] = []
    while not ends or ends[-1] != 0:
        ends.append(processes.run("drain", slots=1))
        assert len(ends) < 10, "a poisonous job is started without end"

    assert ends == [77, 77, 77, 0]
    vacuum, analyze = app.reader.children(bad)
    assert (vacuum.status, vacuum.attempt) == (JobStatus.FAILED, 3)
    assert vacuum.error is not None
    assert vacuum.error["kind"] == "poisoned"
    assert analyze.status is JobStatus.COMPLETED
    assert job(app, bad).outcome == Outcome.FAILED
    assert {job(app, parent).outcome for parent in good} == {Outcome.DONE}
    began = Counter(e["url"] for e in processes.effects() if (e["operation"], e["when"]) == ("vacuum", "began"))
    assert began["scripted:///0"] == 3, "it was started more often than allowed"
    check_history(app)


@pytest.mark.fault
def test_a_submitter_killed_at_each_of_its_steps_leaves_all_or_nothing_and_nothing_open(
    processes: Processes, app: App
) -> None:
    processes.seconds, nth, whole = 0.0, 0, 0
    while True:
        nth += 1
        url = f"scripted:///{nth}"
        end = processes.run("submit", url=url, operations=["vacuum", "analyze"], die_at=nth)
        found = app.reader.jobs(JobQuery(target=url)).jobs
        assert len(found) in (0, 3), f"killed at step {nth}: {len(found)} of 3 jobs are there"
        whole += len(found) == 3
        if end == 0:
            break
        assert end == -signal.SIGKILL
    assert nth > 12, "there are fewer steps than there should be"
    assert whole >= 2, "no kill fell between the commit and the end"

    assert processes.run("drain", slots=2) == 0
    parents = [one for one in jobs_of(app) if one.is_root]
    assert len(parents) == whole
    assert {one.outcome for one in parents} == {Outcome.DONE}
    check_history(app)


@pytest.mark.fault
@pytest.mark.parametrize("verb", ["cancel", "stop"])
def test_who_ends_a_run_and_is_killed_between_its_slices_leaves_nothing_half_ended(
    processes: Processes, app: App, verb: str
) -> None:
    processes.seconds, nth, half = 0.0, 0, 0
    while True:
        nth += 1
        run = orchestration(run=True)
        families = [family("a", "b", target=f"scripted:///{nth}/{n}", starter=run) for n in range(5)]
        app.lifecycle.submit(Submission(jobs=[run]))
        for new in families:
            app.lifecycle.submit(new.submission)
        end = processes.run("end", verb=verb, job_id=run.id, die_at=nth)
        asked = job(app, run.id).cancel_requested or job(app, run.id).stop_requested
        assert asked == (nth > 1), "the first thing that is durable is what was asked for"
        half += asked and not job(app, run.id).status.ended
        if not asked:
            assert processes.run("end", verb=verb, job_id=run.id, die_at=0) == 0
        assert processes.run("drain", slots=2) == 0
        assert {child.status for new in families for child in app.reader.children(new.parent.id)} == {
            JobStatus.CANCELLED
        }
        assert job(app, run.id).outcome == {"cancel": "cancelled", "stop": "stopped"}[verb]
        if end == 0:
            break
        assert end == -signal.SIGKILL
    assert half > 5, "too few kills fell between two slices"
    assert not processes.effects(), "something was begun after it was to end"
    check_history(app)


@pytest.mark.fault
def test_a_worker_frozen_past_its_lease_cannot_write_any_more(processes: Processes, app: App) -> None:
    (parent,) = submit(app, "scripted:///a", operations=["vacuum"])
    processes.seconds, processes.lease = 0.3, 0.3
    frozen = processes.start("serve", slots=1)
    eventually(lambda: bool(processes.effects()))
    processes.signal(frozen, signal.SIGSTOP)
    processes.seconds = 0.0
    assert processes.run("drain", slots=1) == 0
    (vacuum,) = app.reader.children(parent)
    assert (vacuum.status, vacuum.attempt) == (JobStatus.COMPLETED, 2)
    before, events = jobs_of(app), app.reader.events()

    processes.signal(frozen, signal.SIGCONT)
    eventually(lambda: any(line.get("reason") == "stale_attempt" for line in processes.logged()))

    assert jobs_of(app) == before
    assert app.reader.events() == events
    assert [one.event.name for one in events if one.job_id == vacuum.id] == [
        "job_submitted", "job_started", "attempt_lost", "job_started", "job_completed",
    ]  # fmt: skip
    processes.kill(frozen)


@pytest.mark.fault
def test_a_fork_cannot_use_the_ledger_that_its_parent_has_open(processes: Processes) -> None:
    assert processes.run("fork") == 0
