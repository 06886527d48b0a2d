"""What the record of a job costs: children whose work is nothing, from their plan to their parent's end."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.harness import Figures
from benchmarks.place import Place
from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Policy, Setting, Step, Target
from dbupkeep.documents import job_document, run_document
from dbupkeep.engine import Evidence, Purpose, Report, Scope, Stop, Work
from dbupkeep.facts import DatabaseFacts
from dbupkeep.jobs import Effective
from dbupkeep.ledger import JobQuery
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision, PlanItem, Proposal

PAGE = 100
"""Children on one page of a parent's view."""


ABOUT = (
    "Medians. One slot, eight operations deliverable at a time, a fresh ledger on disk; CPU of the whole process. A claim"
    " is all between the end of one job and the begin of the next: acknowledge, take, begin."
)


class NoSession:
    """Does nothing, at once."""

    def run(self, item: PlanItem, report: Report) -> Work:
        """Nothing."""
        return Work(seconds=0.0, before={"bytes": 1})

    def verify(self, item: PlanItem, work: Work) -> Evidence:
        """It was done."""
        return Evidence(effective=Effective.YES, reason="nothing was to do", before=work.before, after={"bytes": 1})

    def recover(self, item: PlanItem, tag: str) -> Evidence | None:
        """Nothing was left."""

    def interrupt(self) -> Stop:
        """It has ended already."""
        return Stop.STOPPED

    def close(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True, kw_only=True)
class NoEngine:
    """Proposes so many operations, each with a hold of its own."""

    count: int
    operations: Mapping[Operation, str]
    defaults: Mapping[Operation, Mapping[str, Setting]]

    def connect(self, target: Target, *, tag: str = "", purpose: Purpose = Purpose.WORK) -> NoSession:
        """A session."""
        return NoSession()

    def survey(self, session: NoSession, scope: Scope) -> DatabaseFacts:
        """As good as nothing."""
        return DatabaseFacts(target="none://x", engine="none", version="1", surveyed_at=scope.now, bytes=1)

    def assess(self, facts: DatabaseFacts, policy: Policy, history: object, scope: Scope) -> Sequence[Proposal]:
        """All are due."""
        return [
            Proposal(operation=Operation.VACUUM, object=f"t{n}", hold=f"t{n}", decision=Decision.RUN, reason="due")
            for n in range(self.count)
        ]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One parent with its children, and what it took."""

    cpu: float
    wall: float
    claims: Sequence[float]
    parent_view: float
    whole_document: float


def run(place: Place) -> Iterator[Figures]:
    """Yield figures for a thousand and for ten thousand children."""
    for count in (1000, 10_000) if place.full else (1000,):
        runs = [_run(place, count) for _ in range(place.rounds or 3)]
        yield Figures(title=f"Tracking of {count:,} children in one parent", rows=_rows(runs, count), note=ABOUT)


def _rows(runs: Sequence[Run], count: int) -> list[tuple[str, float, str, float | None]]:
    def median(of: Callable[[Run], float]) -> float:
        return statistics.median(of(run) for run in runs)

    def late(run: Run) -> float:
        return sorted(run.claims)[len(run.claims) * 99 // 100]

    doing = "plan, create, claim, start, finish, events"
    return [
        (f"CPU a child: {doing}", median(lambda run: 1e6 * run.cpu / count), "us", 1000),
        ("the same, wall clock", median(lambda run: 1e6 * run.wall / count), "us", None),
        ("whole run, wall clock", median(lambda run: run.wall), "s", None),
        ("claim, median", median(lambda run: 1000 * statistics.median(run.claims)), "ms", None),
        ("claim, 99th percentile", median(lambda run: 1000 * late(run)), "ms", 20),
        (f"parent view: its document and {PAGE} children", median(lambda run: 1000 * run.parent_view), "ms", 50),
        ("whole tree as one document", median(lambda run: 1000 * run.whole_document), "ms", None),
    ]


def _run(place: Place, count: int) -> Run:
    place.forget()
    engine = NoEngine(count=count, operations={Operation.VACUUM: "nothing"}, defaults={})
    app = App(str(place.state / "ledger.db"), load_engine=lambda _: engine, isolate=False)  # type: ignore[arg-type, return-value]
    claims = timed(app)
    target = Target(name="x", url="none://x", parallel=8)
    step = Step(name="nothing", targets=(target,), operations=(Operation.VACUUM,))
    cpu, wall = time.process_time(), time.perf_counter()
    parent_id = app.databases.create_parent_job(step, JobDefinition(name="x", steps=(step,)))
    app.drain()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    began = time.perf_counter()
    parent = app.reader.job(parent_id)
    assert parent is not None
    job_document(parent)
    app.reader.jobs(JobQuery(parent_id=parent_id, newest_first=False), limit=PAGE)
    viewed = time.perf_counter()
    run_document(parent, app.reader.children)
    ended = time.perf_counter()
    assert parent.stats.completed == count, f"{parent.stats.completed} of {count} children completed"
    app.close()
    return Run(cpu=cpu, wall=wall, claims=claims, parent_view=viewed - began, whole_document=ended - viewed)


def timed(app: App) -> list[float]:
    """Have the time from the end of each job to the begin of the next one kept."""
    claims: list[float] = []
    last = 0.0
    begin, end = app.lifecycle.begin, app.lifecycle.end

    def timed_begin(*arguments: object) -> object:
        job = begin(*arguments)  # type: ignore[arg-type]
        if last:
            claims.append(time.perf_counter() - last)
        return job

    def timed_end(*arguments: object) -> object:
        nonlocal last
        after = end(*arguments)  # type: ignore[arg-type]
        last = time.perf_counter()
        return after

    app.lifecycle.begin, app.lifecycle.end = timed_begin, timed_end  # type: ignore[method-assign, assignment]
    return claims
