"""The job system, point by point: each test fails when its point is removed.

| point | test |
|---|---|
| parent and children as specified, one operation each, defaults | `test_a_parent_and_one_child_for_each_operation` |
| deliveries of what nothing holds, in the same transaction | `test_what_nothing_holds_is_delivered_with_the_submission` |
| a parent that something started refers to it | `test_a_parent_below_a_run_refers_to_the_run` |
| a fault between any two inserts leaves nothing | `test_a_fault_between_any_two_inserts_leaves_nothing` |
| monitoring starts once, after the commit | `test_monitoring_starts_once_and_after_the_commit` |
| the parent's id is returned | `test_the_id_that_is_returned_is_the_parents` |
| duplicates are one; empty and unknown refused before anything is written | `test_operations_are_read_before_anything_is_written` |
| every operation asked for is visible, skipped with its reason | `test_what_need_not_be_done_is_a_skipped_child` |
| the old type is refused, the action of that name is not | `test_the_combined_type_is_refused_with_its_replacement` |
| second pair: a run is a tree | `test_a_run_over_a_place_is_a_tree` |
| the processor fails an unknown type, and validates first | `test_an_unknown_type_fails_that_job_alone`, `test_a_job_is_validated_before_it_is_executed` |
| orphaned parents are settled after a restart, without a life-time limit | `test_an_orphaned_parent_is_settled_by_the_next_process` |
| error isolation, on_error, tolerance | `test_what_a_failure_means_for_the_rest` |
| correlation id in every line and event | `test_every_log_line_and_event_of_a_run_carries_its_root` |
| errors with operation, object, target, stage and cause | `test_an_error_says_where_and_why` |
| third parties by entry point | `test_a_third_party_brings_a_pair_by_entry_points` |
"""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dbupkeep.app import App
from dbupkeep.clock import SystemClock, new_id
from dbupkeep.codec import from_json
from dbupkeep.definitions import ErrorPolicy, JobDefinition, OnError, Policy, Step, Target
from dbupkeep.engine import Candidate, Report, Scope
from dbupkeep.errors import LedgerError, OperationError, RetiredJobType, UnknownName, UsageError
from dbupkeep.facts import DatabaseFacts
from dbupkeep.jobs import ChildStats, Job, JobStatus, JobType, Outcome, Phase
from dbupkeep.ledger import JobQuery
from dbupkeep.ledgers.sqlite import SqliteLedger
from dbupkeep.lifecycle import Submission
from dbupkeep.logs import LogFormat, set_up
from dbupkeep.operations import Operation, parse
from dbupkeep.plans import Decision, PlanItem, Proposal
from dbupkeep.testing.faults import Faults, FaultyLedger
from dbupkeep.testing.scripted import ScriptedEngine, ScriptedSession

A = Target(name="a", url="scripted:///a")


class Bench:
    """An app on a ledger of its own, with an engine that does as the test says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = ScriptedEngine()
        self.app = self.open()

    def open(self) -> App:
        return App(str(self.path), load_engine=lambda _: self.engine)

    def create(self, *operations: str, target: Target = A, errors: ErrorPolicy | None = None) -> str:
        step = a_step(*operations, target=target, errors=errors)
        return self.app.databases.create_parent_job(step, definition(step))

    def job(self, job_id: str) -> Job:
        found = self.app.reader.job(job_id)
        assert found is not None
        return found

    def all(self) -> tuple[Job, ...]:
        return self.app.reader.jobs(JobQuery(newest_first=False), limit=1000).jobs


def a_step(*operations: str, target: Target = A, errors: ErrorPolicy | None = None, action: str = "") -> Step:
    asked = parse(operations or None)
    made = Step(name="step", targets=(target,), operations=asked, errors=errors or ErrorPolicy())
    return replace(made, action=action) if action else made


def definition(*steps: Step) -> JobDefinition:
    return JobDefinition(name="nightly", steps=steps)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "ledger.db")
    yield made
    made.app.close()


def test_a_parent_and_one_child_for_each_operation(bench: Bench) -> None:
    parent_id = bench.create()
    parent = bench.job(parent_id)
    assert (parent.type, parent.phase, parent.parent_id) == ("database_maintenance_parent", "orchestration", parent.id)
    assert parent.correlation_id == parent.id
    children = bench.app.reader.children(parent_id)
    assert [child.config for child in children] == [
        {"operation": "vacuum"}, {"operation": "reindex"}, {"operation": "analyze"},
    ]  # fmt: skip
    for child in children:
        assert (child.type, child.phase) == ("database_maintenance_operation", "execution")
        assert child.parent_id == child.correlation_id == parent.id
    assert parent.stats == ChildStats(pending=3, weight_total=3)
    assert len(bench.all()) == 4


def test_optional_operations_and_objects(bench: Bench) -> None:
    def by_index(facts: DatabaseFacts, scope: Scope) -> Sequence[Proposal]:
        return [
            Proposal(operation=Operation.REINDEX, object=name, hold="orders", decision=Decision.RUN, reason="bloated")
            for name in ("orders_pkey", "orders_k")
        ]

    assert [child.config["operation"] for child in bench.app.reader.children(bench.create("optimize", "check"))] == [
        "check", "optimize",
    ]  # fmt: skip
    bench.engine._proposals = by_index
    assert [child.config for child in bench.app.reader.children(bench.create("reindex"))] == [
        {"operation": "reindex", "object": "orders_pkey"}, {"operation": "reindex", "object": "orders_k"},
    ]  # fmt: skip


def test_what_nothing_holds_is_delivered_with_the_submission(bench: Bench) -> None:
    """From another connection: the rows, the waits and the delivery are there together."""
    parent_id = bench.create()
    first, *waiting = bench.app.reader.children(parent_id)
    assert [first.released, *(child.released for child in waiting)] == [True, False, False]
    other = SqliteLedger(bench.path)
    deliveries = other.reading().text("select key from deliveries", {})
    waits = other.reading().text("select job_id, on_id from waits order by job_id", {})
    other.close()
    assert [row["key"] for row in deliveries] == [f"{first.id}/1"]
    assert [(row["job_id"], row["on_id"]) for row in waits] == [
        (waiting[0].id, first.id), (waiting[1].id, waiting[0].id),
    ]  # fmt: skip


def test_a_parent_below_a_run_refers_to_the_run(bench: Bench) -> None:
    run_id = bench.app.runs.create_run(definition(a_step()))
    parent_id = bench.app.databases.create_parent_job(a_step(), definition(a_step()), run_id)
    parent, run = bench.job(parent_id), bench.job(run_id)
    assert (parent.parent_id, parent.correlation_id) == (run_id, run_id)
    assert {child.correlation_id for child in bench.app.reader.children(parent_id)} == {run_id}
    assert run.stats.total == 2, "a run counts its own children, and not itself"
    with pytest.raises(UnknownName):
        bench.app.databases.create_parent_job(a_step(), definition(a_step()), "nobody")


def test_a_fault_between_any_two_inserts_leaves_nothing(bench: Bench) -> None:
    faults = Faults()
    bench.app.lifecycle._ledger = FaultyLedger(bench.app.ledger, faults)
    faults.never()
    bench.create()
    points = faults.passed[: faults.passed.index("committed")]
    assert points.count("job_insert") == 4
    assert points.count("delivery_insert") == 1
    before = table_sizes(bench.path)
    for nth in range(1, len(points) + 1):
        faults.at(nth)
        with pytest.raises(LedgerError):
            bench.create(target=Target(name="b", url="scripted:///b"))
        assert table_sizes(bench.path) == before, f"something is left of a submission that broke at {points[nth - 1]}"


def table_sizes(path: Path) -> dict[str, int]:
    ledger = SqliteLedger(path)
    names = [row["name"] for row in ledger.reading().text("select name from sqlite_schema where type = 'table'", {})]
    sizes = {name: ledger.reading().text(f"select count(*) as n from {name}", {})[0]["n"] for name in names}
    ledger.close()
    return sizes


class Watching:
    """An orchestrator that looks, from another connection, at what there is when it is called."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: list[tuple[str, int, int]] = []

    def start_monitoring(self, parent_id: str) -> None:
        other = SqliteLedger(self.path)
        self.calls.append(
            (parent_id, len(other.children(parent_id)), len(other.reading().text("select * from deliveries", {})))
        )
        other.close()


def test_monitoring_starts_once_and_after_the_commit(bench: Bench) -> None:
    watching = Watching(bench.path)
    bench.app.databases._orchestrator = watching
    parent_id = bench.create()
    assert watching.calls == [(parent_id, 3, 1)]


def test_monitoring_does_not_start_when_nothing_was_submitted(bench: Bench) -> None:
    watching, faults = Watching(bench.path), Faults()
    bench.app.databases._orchestrator = watching
    bench.app.lifecycle._ledger = FaultyLedger(bench.app.ledger, faults)
    faults.at(1, "commit")
    with pytest.raises(LedgerError):
        bench.create()
    assert watching.calls == []


def test_the_id_that_is_returned_is_the_parents(bench: Bench) -> None:
    for create in (bench.app.databases.create_parent_job, bench.app.runs.create_parent_job):
        created = bench.job(create(a_step(), definition(a_step())))
        assert created.phase is Phase.ORCHESTRATION
        assert created.is_root
    again = bench.app.databases.plan(a_step(), definition(a_step()))
    first = bench.app.databases.submit(again, once="tonight")
    assert bench.app.databases.submit(again, once="tonight") == first


@pytest.mark.parametrize(
    ("names", "error"), [([], UsageError), (["vacuum", " "], UsageError), (["vacuum", "defrag"], UnknownName)]
)
def test_operations_are_read_before_anything_is_written(bench: Bench, names: list[str], error: type[Exception]) -> None:
    step = Step(name="step", targets=(A,), operations=())
    before = table_sizes(bench.path)
    with pytest.raises(error):
        bench.app.databases.create_parent_job(replace(step, operations=parse(names)), definition(step))
    with pytest.raises(UsageError):
        bench.app.databases.create_parent_job(step, definition(step))
    assert table_sizes(bench.path) == before


def test_duplicates_are_one(bench: Bench) -> None:
    children = bench.app.reader.children(bench.create("analyze", "vacuum", "ANALYZE", "vacuum"))
    assert [child.config["operation"] for child in children] == ["vacuum", "analyze"]


def test_what_need_not_be_done_is_a_skipped_child(bench: Bench) -> None:
    def proposals(facts: DatabaseFacts, scope: Scope) -> Sequence[Proposal]:
        why = {Operation.REINDEX: "VACUUM builds all indexes anew"}
        return [
            Proposal(operation=Operation.VACUUM, decision=Decision.RUN, reason="40 % free", covers=why),
            Proposal(operation=Operation.REINDEX, decision=Decision.RUN, reason="asked for"),
            Proposal(
                operation=Operation.ANALYZE, decision=Decision.SKIP, reason="12 tables have fresh statistics",
                evidence={"tables": 12},
            ),
        ]  # fmt: skip

    bench.engine._proposals = proposals
    parent_id = bench.create()
    vacuum, reindex, analyze = bench.app.reader.children(parent_id)
    assert (reindex.status, reindex.reason) == (JobStatus.SKIPPED, "VACUUM builds all indexes anew")
    assert (analyze.status, analyze.reason) == (JobStatus.SKIPPED, "12 tables have fresh statistics")
    assert analyze.result == {"tables": 12}
    assert vacuum.status is JobStatus.PENDING
    bench.app.drain()
    assert bench.job(parent_id).outcome == Outcome.DONE
    assert [effect.operation for effect in bench.engine.effects] == ["vacuum", "vacuum"]


def test_a_parent_with_nothing_to_do_ends_at_once(bench: Bench) -> None:
    bench.engine._proposals = lambda _, scope: [
        Proposal(operation=operation, decision=Decision.SKIP, reason="not needed") for operation in scope.operations
    ]
    parent = bench.job(bench.create())
    assert (parent.status, parent.outcome) == (JobStatus.COMPLETED, Outcome.NOTHING_TO_DO)
    assert parent.stats.skipped == 3


def test_the_combined_type_is_refused_with_its_replacement(bench: Bench) -> None:
    with pytest.raises(RetiredJobType) as caught:
        JobType.parse("database_maintenance")
    assert "database_maintenance_operation" in caught.value.hint
    assert bench.app.managers.get("database_maintenance") is bench.app.databases
    with pytest.raises(UnknownName):
        bench.app.workers.get("database_maintenance")


def test_a_run_over_a_place_is_a_tree(bench: Bench) -> None:
    place = Target(name="srv", url="scripted:///srv", pattern="*.db", recursive=True)
    due = [Target(name=name, url=f"scripted:///srv/{name}") for name in ("one.db", "two.db")]
    bench.engine._found = lambda _: [
        *(Candidate(target=target, due=True) for target in due),
        Candidate(target=Target(name="idle.db", url="scripted:///srv/idle.db"), due=False),
        Candidate(target=Target(name="odd.db", url="scripted:///srv/odd.db"), due=True, problem="not a database"),
    ]
    step = a_step("vacuum", "analyze", target=place)
    run_id = bench.app.managers.get("database_discovery").create_parent_job(step, definition(step))
    run = bench.job(run_id)
    assert (run.type, run.is_root) == ("maintenance_run", True)
    bench.app.drain()

    discovery, *parents = sorted(bench.app.reader.children(run_id), key=lambda job: job.id)
    assert (discovery.type, discovery.phase) == ("database_discovery", "execution")
    assert discovery.result is not None
    assert discovery.result["values"] == {"found": 4, "due": 2, "idle": 1, "unsurveyed": 0, "problems": 1}
    assert [(parent.type, parent.name, parent.parent_id) for parent in parents] == [
        ("database_maintenance_parent", target.name, run_id) for target in due
    ]
    for parent in parents:
        assert [child.config["operation"] for child in bench.app.reader.children(parent.id)] == ["vacuum", "analyze"]
    assert {job.correlation_id for job in bench.all()} == {run_id}
    run = bench.job(run_id)
    assert (run.status, run.stats.completed) == (JobStatus.COMPLETED, 3)


def test_a_discovery_has_as_many_attempts_as_what_it_finds(bench: Bench) -> None:
    step = replace(
        a_step(target=Target(name="srv", url="scripted:///srv", pattern="*.db")), policy=Policy(max_attempts=7)
    )
    run_id = bench.app.runs.create_run(definition(step))
    (discovery,) = bench.app.reader.children(run_id)
    assert discovery.max_attempts == 7


def test_a_discovery_that_is_repeated_submits_nothing_twice(bench: Bench) -> None:
    place = Target(name="srv", url="scripted:///srv", pattern="*.db")
    bench.engine._found = lambda _: [Candidate(target=A, due=True)]
    run_id = bench.app.runs.create_run(definition(a_step(target=place)))
    (discovery,) = bench.app.reader.children(run_id)
    worker = bench.app.workers.get("database_discovery")
    for _ in range(2):
        worker.execute(discovery, Quiet())
    assert len(bench.app.reader.children(run_id)) == 2


class Quiet:
    """A context to which nothing is said."""

    stopping, tag, lost_tag = False, "", ""

    @property
    def report(self) -> Any:
        return self

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def test_an_unknown_type_fails_that_job_alone(bench: Bench) -> None:
    good = bench.create()
    foreign = submit_foreign(bench.app, "teleport")
    bench.app.drain()
    failed = bench.job(foreign)
    assert failed.status is JobStatus.FAILED
    assert failed.error is not None
    assert failed.error["kind"] == "unknown_name"
    assert "teleport" in failed.error["message"]
    assert bench.job(good).outcome == Outcome.DONE


def submit_foreign(app: App, job_type: str, **config: Any) -> str:
    """A job of a type that the product does not bring, on its own."""
    own_id = new_id()
    job = Job(
        id=own_id, parent_id=own_id, correlation_id=own_id, type=job_type, phase=Phase.EXECUTION, name=job_type,
        created_at=SystemClock().now(), config=config, target="elsewhere",
    )  # fmt: skip
    app.lifecycle.submit(Submission(jobs=[job], slots={"elsewhere": 1}))
    return own_id


def test_a_job_is_validated_before_it_is_executed(bench: Bench) -> None:
    plan = bench.app.databases.plan(a_step("vacuum"), definition(a_step()))
    submission = bench.app.databases.submission(plan)
    parent, child = submission.jobs
    several = replace(child, config={"operations": ["vacuum", "analyze"]})
    bench.app.lifecycle.submit(replace(submission, jobs=[parent, several]))
    bench.app.drain()
    failed = bench.job(several.id)
    assert failed.error is not None
    assert failed.error["kind"] == "usage"
    assert "one operation" in failed.error["message"]
    assert bench.engine.effects == []


def test_an_orphaned_parent_is_settled_by_the_next_process(bench: Bench) -> None:
    """A submitter that died before its parent was monitored, long ago."""
    bench.app.databases._orchestrator = Watching(bench.path)
    empty = Job(
        id=(own_id := new_id()), parent_id=own_id, correlation_id=own_id, type="a third party's parent",
        phase=Phase.ORCHESTRATION, name="orphan", status=JobStatus.RUNNING,
        created_at=SystemClock().now() - timedelta(days=400),
    )  # fmt: skip
    bench.app.lifecycle.submit(Submission(jobs=[empty]))
    waiting = bench.create()
    bench.app.close()

    bench.app = bench.open()
    bench.app.drain()
    assert bench.job(own_id).status is JobStatus.COMPLETED
    assert bench.job(waiting).outcome == Outcome.DONE


@pytest.mark.parametrize(
    ("errors", "ends", "outcome"),
    [
        (ErrorPolicy(), "f c f c", Outcome.FAILED),
        (ErrorPolicy(tolerance=2), "f c f c", Outcome.PARTIAL),
        (ErrorPolicy(tolerance=1), "f c f c", Outcome.FAILED),
        (ErrorPolicy(on_error=OnError.FAIL), "f s s s", Outcome.FAILED),
        (ErrorPolicy(on_error=OnError.FAIL, tolerance=1), "f s s s", Outcome.PARTIAL),
        (ErrorPolicy(on_error=OnError.STOP, stop_after=2), "f c f s", Outcome.FAILED),
        (ErrorPolicy(on_error=OnError.STOP, stop_after=3), "f c f c", Outcome.FAILED),
    ],
)
def test_what_a_failure_means_for_the_rest(bench: Bench, errors: ErrorPolicy, ends: str, outcome: Outcome) -> None:
    def act(session: ScriptedSession, item: PlanItem, report: Report) -> None:
        if item.operation in (Operation.VACUUM, Operation.OPTIMIZE):
            raise OperationError("it did not work")

    bench.engine.act = act
    parent_id = bench.create("vacuum", "reindex", "optimize", "analyze", errors=errors)
    bench.app.drain()
    children = bench.app.reader.children(parent_id)
    letters = {JobStatus.FAILED: "f", JobStatus.COMPLETED: "c", JobStatus.SKIPPED: "s"}
    assert " ".join(letters[child.status] for child in children) == ends
    assert all("error policy" in child.reason for child in children if child.status is JobStatus.SKIPPED)
    parent = bench.job(parent_id)
    assert (parent.status, parent.outcome) == (JobStatus.FAILED, outcome)


def test_a_failed_gate_bars_what_comes_after_it(bench: Bench) -> None:
    def act(session: ScriptedSession, item: PlanItem, report: Report) -> None:
        if item.operation is Operation.CHECK:
            raise OperationError("the database is damaged")

    bench.engine.act = act
    check, vacuum, analyze = bench.app.reader.children(bench.create("check", "vacuum", "analyze"))
    bench.app.drain()
    assert bench.job(check.id).status is JobStatus.FAILED
    for barred in (vacuum, analyze):
        assert bench.job(barred.id).status is JobStatus.SKIPPED
        assert bench.job(barred.id).reason == "not started: check is failed"


def test_a_failed_step_bars_all_later_steps(bench: Bench) -> None:
    """Also the third, which waits for the second alone."""
    bench.engine.unreachable["scripted:///one"] = OperationError("gone")
    steps = [
        replace(
            a_step("vacuum", target=Target(name=name, url=f"scripted:///{name}")),
            errors=ErrorPolicy(on_error=OnError.FAIL),
        )
        for name in ("one", "two", "three")
    ]
    run_id = bench.app.runs.create_run(definition(*steps))
    bench.app.drain()
    assert bench.engine.effects == []
    found = [job for job in bench.app.reader.children(run_id) if job.type == JobType.DATABASE_DISCOVERY]
    assert [job.status for job in found] == [JobStatus.COMPLETED, JobStatus.SKIPPED, JobStatus.SKIPPED]
    assert bench.job(run_id).status is JobStatus.FAILED


@pytest.fixture
def logged() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    stream = io.StringIO()
    set_up(LogFormat.JSON, level=logging.DEBUG, stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger = logging.getLogger("dbupkeep")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def test_every_log_line_and_event_of_a_run_carries_its_root(
    bench: Bench, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    def act(session: ScriptedSession, item: PlanItem, report: Report) -> None:
        report.stage("working")
        logging.getLogger("dbupkeep.engines.scripted").info("a line of an engine")
        if item.operation is Operation.ANALYZE:
            raise OperationError("it did not work")

    bench.engine.act = act
    run_id = bench.app.runs.create_run(definition(a_step()))
    bench.app.drain()
    events = bench.app.reader.events()
    assert {event.correlation_id for event in events} == {run_id}
    assert {event.event.name for event in events} >= {"job_submitted", "job_started", "stage_reached", "parent_settled"}
    lines = logged()
    assert {line.get("correlation_id") for line in lines if "job_id" in line or "parent_id" in line} == {run_id}
    of_engine = [line for line in lines if line["message"] == "a line of an engine"]
    assert len(of_engine) == 3
    for line in of_engine:
        assert line["job_id"]
        assert line["operation"] in ("vacuum", "reindex", "analyze")
        assert (line["target"], line["attempt"]) == ("scripted:///a", 1)
        assert bench.job(line["job_id"]).parent_id == line["parent_id"]
    assert all("correlation_id" in line for line in lines), [line for line in lines if "correlation_id" not in line]


def test_an_error_says_where_and_why(bench: Bench) -> None:
    def act(session: ScriptedSession, item: PlanItem, report: Report) -> None:
        raise OperationError("it did not work", why="the disk is slow", hint="buy another") from ValueError("no!")

    bench.engine.act = act
    bench.engine._proposals = lambda *_: [
        Proposal(operation=Operation.REINDEX, object="orders_pkey", decision=Decision.RUN, reason="bloated")
    ]
    (child,) = bench.app.reader.children(bench.create("reindex"))
    bench.app.drain()
    assert bench.job(child.id).error == {
        "kind": "engine",
        "message": "it did not work: the disk is slow",
        "hint": "buy another",
        "where": "reindex of orders_pkey on a, while working",
        "cause": "ValueError: no!",
    }


THIRD_PARTY = """
from msgspec.structs import replace
from dbupkeep.events import JobCompleted
from dbupkeep.worker import Ended

class Manager:
    action = "polish"
    def __init__(self, app): self.app = app
    def plan(self, step, definition): return self.app.databases.plan(step, definition)
    def submit(self, plan, parent_job_id=None):
        made = self.app.databases.submission(plan)
        parent, *children = made.jobs
        self.app.lifecycle.submit(replace(made, jobs=[parent, *(replace(c, type="polishing") for c in children)]))
        return parent.id
    def create_parent_job(self, step, definition, parent_job_id=None):
        return self.submit(self.plan(step, definition), parent_job_id)

class Worker:
    type = "polishing"
    def __init__(self, app): pass
    def validate(self, job): pass
    def execute(self, job, context): return Ended(event=JobCompleted(result={"effective": "yes", "shine": 1}))
"""


def test_a_third_party_brings_a_pair_by_entry_points(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    (site / "polish-1.0.dist-info").mkdir(parents=True)
    (site / "polish_jobs.py").write_text(THIRD_PARTY)
    (site / "polish-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: polish\nVersion: 1.0\n")
    (site / "polish-1.0.dist-info" / "entry_points.txt").write_text(
        "[dbupkeep.managers]\npolish = polish_jobs:Manager\n[dbupkeep.workers]\npolishing = polish_jobs:Worker\n"
    )
    with pytest.raises(UnknownName):
        bench.app.managers.get("polish")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "polish_jobs", raising=False)
    step = a_step("vacuum", action="polish")
    assert "polish" in bench.app.managers.names()
    parent_id = bench.app.managers.get(step.action).create_parent_job(step, definition(step))
    bench.app.drain()
    (child,) = bench.app.reader.children(parent_id)
    assert (child.type, child.status, child.result) == (
        "polishing", JobStatus.COMPLETED, {"effective": "yes", "shine": 1},
    )  # fmt: skip
    assert bench.job(parent_id).outcome == Outcome.DONE


def test_the_plan_that_is_kept_is_the_plan_that_was_made(bench: Bench) -> None:
    plan = bench.app.databases.plan(a_step(), definition(a_step()))
    parent = bench.job(bench.app.databases.submit(plan))
    kept = bench.app.reader.get("plan", parent.plan_id)
    assert kept is not None
    again = from_json(type(plan), kept)
    assert [item.reason for item in again.items] == [item.reason for item in plan.items]
