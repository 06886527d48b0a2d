"""The job model against the real ledger, queue and verbs: whatever happens in whatever order, the rules hold.

Parents, nested runs, waits, gates and holds; workers that take, freeze, die, come back late; second deliveries, outages
of the ledger at any statement, jumps of both clocks, cancel, stop, limits, pause, resume, retry, prune, sweeps.

| invariant (facts on reliability, section 5) | checked by |
|---|---|
| 1 terminal is terminal, but for a retry | `History.add`: `apply` raises for what the table does not have |
| 2 attempts never fall, each claim raises by one | `History._check_start` |
| 3 a write with an old attempt changes nothing | `_report_end` and `report`: all tables are the same before and after |
| 4 one lease for a job, one running job for a hold | `deliveries` has the key once; `History._check_start`, `holds_are_right` |
| 5 no more attempts than allowed; the last ends the job | `History`, `everything_ends` (a job out of attempts is `failed`) |
| 6 completed exactly with one outcome and evidence | `History.check_against`, `everything_ends` |
| 7 counts equal a recount | `check_parent` |
| 8 a parent is a function of its children | `check_parent` |
| 9 progress never goes back in one attempt, 1 only at the end | `report`, `check_parent` |
| 10 everything ends once the faults stop | `teardown` |
| 11 nothing starts after a cancel or a stop, nor beyond a limit; twice is once | `History._check_start`, `cancel`, `stop` |
| 12 a job keeps its hold until it has ended | `holds_are_right` (clean-up is part of an attempt; there is no state of its own) |
| 13 one key, one parent | `submit_again` |
| 14 two runs never hold the same; what is not run has a reason | `History._check_start` over all runs, `everything_ends` |
| 15 one event for each change, replay gives the state | `record_is_its_history` |
| 16 leases and the wall clock have nothing to do with each other | `wall_clock_jumps` |
| 17 secrets | not here: `tests/unit/test_logs.py` |
| 18 a dry run changes nothing | not here: it is the engines' (`dbupkeep.testing.engine_suite`) |
| 19 what waits starts after what it waits for, gates included | `History._check_start`, `waits_are_counted` |
| 20 windows | there is none yet |
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace
from typing_extensions import override

from dbupkeep import ending
from dbupkeep.clock import new_id
from dbupkeep.definitions import ErrorPolicy, OnError
from dbupkeep.errors import IllegalTransition, LedgerError, OperationError
from dbupkeep.events import JobCancelled, JobCompleted, JobDeferred, JobFailed, JobReturned, JobSkipped
from dbupkeep.jobs import Delivery, Job, JobStatus, JobType, Phase, hold_of
from dbupkeep.ledger import JobQuery, Wait
from dbupkeep.ledgers.sqlite import SqliteLedger
from dbupkeep.lifecycle import Lifecycle, Submission
from dbupkeep.orchestrator import ParentJobOrchestrator
from dbupkeep.progress import Progress, forward, measured
from dbupkeep.queues.embedded import EmbeddedQueue, _Worker
from dbupkeep.testing.faults import Faults, FaultyLedger
from dbupkeep.testing.history import History, meet
from dbupkeep.worker import Ended, Ending

T = TypeVar("T")

LEASE = 10.0
START = datetime(2026, 1, 1, tzinfo=UTC)
TARGETS = {"model:///one": 1, "model:///two": 2}
STEPS = [
    *["take"] * 8, *["completed"] * 4, "failed", "failed", "skipped", "deferred", "returned", "report", "die", "die",
    "take and die", "freeze or thaw", "second delivery",
]  # fmt: skip
TABLES = ("jobs", "holds", "waits", "documents", "deliveries")


class Clock:
    """Both clocks, as the test sets them."""

    def __init__(self) -> None:
        self.wall, self.seconds = START, 1000.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds


@dataclass(eq=False)
class Process:
    """A worker process with one slot, step by step."""

    queue: _Worker
    delivery: Delivery | None = None
    job: Job | None = None  # what it works on
    done: str = ""  # the delivery that it acknowledges with the next take
    frozen: bool = False
    progress: Progress | None = None


@cache
def empty_ledger() -> Path:
    """A ledger with no jobs, to be copied: making one costs more than most examples."""
    path = Path(tempfile.mkdtemp(prefix="dbupkeep-model-")) / "empty.db"
    SqliteLedger(path).close()
    return path


class Jobs(RuleBasedStateMachine):
    """See the module."""

    @initialize()
    def open(self) -> None:
        memory = Path("/dev/shm")  # noqa: S108 - where the file is does not matter, only that it is fast
        self.folder = Path(tempfile.mkdtemp(prefix="dbupkeep-", dir=memory if memory.is_dir() else None))
        path = self.folder / "ledger.db"
        shutil.copy(empty_ledger(), path)
        self.clock = Clock()
        self.ledger = SqliteLedger(path, self.clock)
        self.faults = Faults()
        self.life = Lifecycle(
            FaultyLedger(self.ledger, self.faults), EmbeddedQueue(self.ledger, clock=self.clock), self.clock
        )
        self.orchestrator = ParentJobOrchestrator(self.life, self.ledger)
        self.processes: list[Process] = []
        self.history = History()
        self.seq = 0
        self.keys: dict[str, str] = {}
        self.limited: set[str] = set()  # targets that a limit of a run has given other slots

    # --- what people and programs do ---

    @rule(
        where=st.sampled_from(sorted(TARGETS)),
        parts=st.lists(st.sampled_from(["", "a", "b"]), min_size=1, max_size=4),
        edges=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=4),
        errors=st.builds(
            ErrorPolicy,
            on_error=st.sampled_from(OnError),
            stop_after=st.sampled_from([None, 1, 2]),
            tolerance=st.sampled_from([0, 1]),
        ),
        idle=st.integers(0, 15),
        below=st.integers(0, 30),
        attempts=st.integers(1, 3),
    )
    def submit(
        self,
        where: str,
        parts: list[str],
        edges: list[tuple[int, int, bool]],
        errors: ErrorPolicy,
        idle: int,
        below: int,
        attempts: int,
    ) -> None:
        """A database's parent, of its own or below a run; some of its operations have nothing to do."""
        runs = [job for job in self.jobs() if job.type == JobType.MAINTENANCE_RUN and not job.status.ended]
        starter = runs[below % len(runs)] if runs and below < 20 else None
        parent = self.parent(JobType.DATABASE_MAINTENANCE_PARENT, starter, where, errors)
        children = [
            self.child(parent, place, where, hold_of(where, part), attempts) for place, part in enumerate(parts)
        ]
        waits = {
            (later, earlier): Wait(job_id=children[later].id, on_id=children[earlier].id, gate=gate)
            for later, earlier, gate in edges
            if earlier < later < len(children)
        }
        steps = [job for job in self.jobs() if starter and job.parent_id == starter.id and job.config.get("step") == 2]
        before = [Wait(job_id=job.id, on_id=parent.id, gate=True) for job in steps]
        endings = [
            (child.id, JobSkipped(reason="nothing to do") if place % 2 else JobDeferred(reason="not now"))
            for place, child in enumerate(children)
            if idle >> place & 1 and idle < 15
        ]
        key = f"key-{new_id()}"
        submission = Submission(
            jobs=[parent, *children], waits=[*waits.values(), *before], slots={where: TARGETS[where]},
            endings=endings, once=key,
        )  # fmt: skip
        if self.send(submission):
            self.keys[key] = parent.id

    @rule(errors=st.builds(ErrorPolicy, on_error=st.sampled_from(OnError)))
    def submit_run(self, errors: ErrorPolicy) -> None:
        """A run of two steps, each a job that finds databases; the second waits for the first and what it found."""
        root = self.parent(JobType.MAINTENANCE_RUN, None, "", errors)
        first, second = (
            replace(
                self.child(root, step, "discovery:", f"discovery:{root.id}:{step}", 2),
                type=JobType.DATABASE_DISCOVERY,
                config={"step": step},
            )
            for step in (1, 2)
        )
        wait = Wait(job_id=second.id, on_id=first.id, gate=errors.on_error is not OnError.CONTINUE)
        self.send(Submission(jobs=[root, first, second], waits=[wait], slots={"discovery:": 1}))

    # The rules are few and do much each, because an example leaves out about half of them.

    @precondition(lambda self: self.history.jobs)
    @rule(
        verb=st.sampled_from("cancel stop limit pause resume retry submit_again prune sweep".split()),
        n=st.integers(0, 99),
    )
    def ask(self, verb: str, n: int) -> None:
        """Something that people, or programs in their place, ask for."""
        getattr(self, verb)(n)

    def submit_again(self, n: int) -> None:
        if not self.keys:
            return
        key = pick(sorted(self.keys), n)
        parent = self.parent(JobType.DATABASE_MAINTENANCE_PARENT, None, "model:///one", ErrorPolicy())
        before = self.everything()
        self.faults.never()
        assert not self.life.submit(Submission(jobs=[parent], once=key))
        assert self.everything() == before
        assert self.ledger.get("once", key) == {"job_id": self.keys[key]}

    def cancel(self, n: int) -> None:
        job = pick(self.jobs(), n)
        if self.attempt(lambda: self.life.cancel(job.id, by="someone")):
            before = self.everything()
            self.faults.never()
            self.life.cancel(job.id, by="someone else")
            assert self.everything() == before, "cancelling twice is more than cancelling once"

    def stop(self, n: int) -> None:
        job = pick(self.jobs(), n)
        with suppress(IllegalTransition):
            if self.attempt(lambda: self.life.stop(job.id, by="someone")):
                before = self.everything()
                self.faults.never()
                self.life.stop(job.id, by="someone else")
                assert self.everything() == before, "stopping twice is more than stopping once"

    def limit(self, n: int) -> None:
        job, until = pick(self.jobs(), n), self.clock.now() + timedelta(minutes=30)
        with suppress(IllegalTransition):
            if n % 4:
                self.limited |= TARGETS.keys()
                self.attempt(lambda: self.life.limit(job.id, at_a_time=n % 4))
            else:
                self.attempt(lambda: self.life.limit(job.id, until=until if n % 8 else None, open_end=not n % 8))

    def pause(self, n: int) -> None:
        self.attempt(lambda: self.life.pause(pick(self.jobs(), n).id))

    def resume(self, n: int) -> None:
        paused = [job for job in self.jobs() if job.paused] or self.jobs()
        self.attempt(lambda: self.life.resume(pick(paused, n).id))

    def retry(self, n: int) -> None:
        job = pick(self.jobs(), n)
        before = self.everything()
        try:
            self.attempt(lambda: self.life.retry(job.id, by="someone"))
        except IllegalTransition:
            assert self.everything() == before

    def prune(self, n: int) -> None:
        """A run goes as a whole or stays as a whole."""
        self.look()
        ended = {job.id for job in self.jobs() if job.is_root and job.status.ended}
        self.ledger.prune(self.clock.now() - timedelta(hours=n % 2))
        left = {job.id for job in self.jobs()}
        gone = [job for job in self.history.jobs.values() if job.id not in left]
        assert {job.correlation_id for job in gone} <= ended
        assert not {job.correlation_id for job in gone} & left
        self.history.forget(job.id for job in gone)
        self.keys = {key: job_id for key, job_id in self.keys.items() if job_id in left}

    def sweep(self, n: int) -> None:
        if self.attempt(self.orchestrator.sweep) is not None:
            out = self.ledger.jobs(JobQuery(released=True), limit=1000).jobs
            keys = {f"{job.id}/{job.attempt + (job.status is JobStatus.PENDING)}" for job in out}
            assert not EmbeddedQueue(self.ledger, clock=self.clock).missing(keys), "released, and nobody will come"

    # --- what worker processes do ---

    @rule(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 99)), min_size=1, max_size=12))
    def work(self, steps: list[tuple[str, int]]) -> None:
        """Processes take, end, report, die, freeze and thaw, one step after another."""
        for step, n in steps:
            if step == "take":
                self.take(n)
            elif step == "take and die":
                self.take(n, dies=True)
            elif step == "second delivery":
                self.second_delivery(n)
            elif step == "freeze or thaw" and self.processes:
                process = pick(self.processes, n)
                process.frozen = not process.frozen
            elif self.working():
                process = pick(self.working(), n)
                if step == "report":
                    self.report(process, n / 66)
                elif step == "die":
                    self.processes.remove(process)
                else:
                    self.end(process, step)
            self.look()

    def take(self, n: int, *, dies: bool = False) -> None:
        """Take a delivery and begin it, unless the process dies between the two."""
        if not self.idle() and len(self.processes) < 5:
            self.processes.append(self.process())
        if not self.idle():
            return
        process = pick(self.idle(), n)
        process.queue.renew()
        delivery = process.queue._take(process.done)
        process.done = ""
        if dies:
            self.processes.remove(process)
        elif delivery is not None:
            self.begin(process, delivery)

    def begin(self, process: Process, delivery: Delivery) -> None:
        try:
            job = self.life.begin(delivery, process.queue.id)
        except LedgerError:  # what the queue does then
            process.queue._transact(lambda sql: sql.run("delivery_lose", key=delivery.key, worker=process.queue.id))
            self.faults.never()
            return
        if job is None:
            process.done = delivery.key
        else:
            process.delivery, process.job, process.progress = delivery, job, None

    def second_delivery(self, n: int) -> None:
        """A delivery that no queue should make, of any attempt that no process works on."""
        if self.idle() and self.history.jobs:
            job = pick(self.jobs(), n)
            twin = Delivery(job_id=job.id, attempt=max(0, job.attempt + n % 3 - 1))
            if not any(process.delivery == twin for process in self.processes):
                self.begin(pick(self.idle(), n), twin)

    def end(self, process: Process, ending: str) -> None:
        assert process.job is not None
        event = ending_of(process.job, ending)
        if event is not None and self._report_end(process, event):
            assert process.delivery is not None
            process.done, process.delivery, process.job = process.delivery.key, None, None

    def _report_end(self, process: Process, event: Ending) -> bool:
        job = process.job
        assert job is not None
        now = self.ledger.job(job.id)
        stale = now is None or now.attempt != job.attempt or now.status is not JobStatus.RUNNING
        before = self.everything()
        try:
            after = self.life.end(job, Ended(event=event))
        except LedgerError:
            self.faults.never()
            return False  # the result is kept, and offered again
        assert (after is None) == stale
        if stale:
            assert self.everything() == before, "a late write has changed something"
        return True

    def report(self, process: Process, share: float) -> None:
        assert process.job is not None
        said = forward(process.progress, measured(share * 100, 100, "bytes"))
        if process.progress is not None:
            assert (said.fraction or 0) >= (process.progress.fraction or 0)
        process.progress = said
        before = self.everything()
        control = self.ledger.report(process.job.id, process.job.attempt, said)
        now = self.ledger.job(process.job.id)
        stale = now is None or now.attempt != process.job.attempt or now.status is not JobStatus.RUNNING
        assert control.fenced == stale
        assert not stale or self.everything() == before
        assert stale or now is None or (now.progress or {}).get("fraction") == said.fraction
        assert stale or now is None or control.cancel == now.cancel_requested

    # --- what the world does ---

    @rule(seconds=st.sampled_from([0.5, 3.0, LEASE + 1]), renewing=st.booleans())
    def time_passes(self, seconds: float, *, renewing: bool) -> None:
        self.clock.seconds += seconds
        self.clock.wall += timedelta(seconds=seconds)
        if renewing:
            for process in self.processes:
                if not process.frozen:
                    process.queue.renew()

    @rule(hours=st.sampled_from([-9000, -1, 1, 9000]))
    def wall_clock_jumps(self, hours: int) -> None:
        """No lease moves, and nothing is lost or found by it."""
        before = self.deliverable()
        self.clock.wall = min(max(self.clock.wall + timedelta(hours=hours), START - timedelta(days=9000)),
                              START + timedelta(days=9000))  # fmt: skip
        assert self.deliverable() == before

    @rule(nth=st.integers(1, 25))
    def ledger_will_fail(self, nth: int) -> None:
        """The ledger breaks at the nth thing that the next verbs do: before, in, or after the commit."""
        self.faults.at(nth)

    # --- what must hold after every step ---

    @invariant()
    def record_is_its_history(self) -> None:
        if not hasattr(self, "ledger"):
            return
        self.look()
        self.history.check_against(self.jobs())

    @invariant()
    def holds_are_right(self) -> None:
        if not hasattr(self, "ledger"):
            return
        jobs = {job.id: job for job in self.jobs()}
        held = {row["job_id"]: row for row in self.ledger.reading().text("select * from holds", {})}
        for job_id, row in held.items():
            assert jobs[job_id].hold == row["hold"]
            assert not jobs[job_id].status.ended, f"{jobs[job_id].name} has ended and keeps its hold"
            assert not any(meet(jobs[job_id], jobs[other]) for other in held), "two hold the same"
        for job in jobs.values():
            begun = job.status is JobStatus.RUNNING or (job.status is JobStatus.PENDING and job.released)
            assert not begun or job.phase is Phase.ORCHESTRATION or job.id in held, f"{job.name} works without its hold"
        for target in TARGETS.keys() - self.limited:
            assert sum(jobs[job_id].target == target for job_id in held) <= TARGETS[target]

    @invariant()
    def waits_are_counted(self) -> None:
        if not hasattr(self, "ledger"):
            return
        off = self.ledger.reading().text(
            "select id from jobs where status = 'pending' and waits_left <> (select count(*) from waits w"
            " join jobs o on o.id = w.on_id where w.job_id = jobs.id and o.status in ('pending', 'running'))", {},
        )  # fmt: skip
        assert not off

    @override
    def teardown(self) -> None:
        """Once the faults stop and somebody works, everything ends."""
        if not hasattr(self, "ledger"):
            return
        try:
            self.faults.never()
            self.everything_ends()
            self.record_is_its_history()
        finally:
            self.ledger.close()
            shutil.rmtree(self.folder)

    def everything_ends(self) -> None:
        for process in self.working():
            assert process.job is not None
            self._report_end(process, completed())
        self.processes.clear()
        for job in self.jobs():
            if job.is_root and job.paused:
                self.life.resume(job.id)
        worker = self.process()
        for _ in range(1000):
            if all(job.status.ended for job in self.jobs()):
                break
            self.clock.seconds += LEASE + 1
            worker.queue.renew()
            self.orchestrator.sweep()
            delivery = worker.queue._take(worker.done)
            worker.done = delivery.key if delivery else ""
            begun = self.life.begin(delivery, worker.queue.id) if delivery else None
            if begun is not None:
                assert self.life.end(begun, Ended(event=completed())) is not None
        self.look()
        self.history.check_ended()
        for job in self.jobs():
            assert (
                job.reason
                or job.status not in (JobStatus.SKIPPED, JobStatus.DEFERRED, JobStatus.CANCELLED)
                or (job.phase is Phase.ORCHESTRATION)
            ), f"{job.name} was not run, and nobody knows why"
            exhausted = job.status is JobStatus.FAILED and job.error and job.error.get("kind") == "poisoned"
            assert not exhausted or job.attempt == job.max_attempts

    # --- words ---

    def attempt(self, verb: Callable[[], T]) -> T | None:
        """A verb that may meet an outage; then it has done all or nothing, which the invariants see."""
        try:
            return verb()
        except LedgerError:
            self.faults.never()
            return None

    def send(self, submission: Submission) -> bool:
        """Submit; whatever happens, all of it is there or nothing."""
        try:
            self.life.submit(submission)
        except IllegalTransition:
            pass
        except LedgerError:
            self.faults.never()
        there = [self.ledger.job(job.id) is not None for job in submission.jobs]
        assert all(there) or not any(there), "half of a submission is there"
        if all(there):
            self.history.expect(submission.jobs, submission.waits)
            self.attempt(lambda: self.orchestrator.start_monitoring(submission.jobs[0].id))
        return all(there)

    def look(self) -> None:
        """Take in what has happened."""
        events = self.ledger.events(self.seq)
        for recorded in events:
            if recorded.job_id in self.history.jobs:
                self.history.add(recorded)
            self.seq = recorded.seq

    def jobs(self) -> Sequence[Job]:
        return self.ledger.jobs(JobQuery(newest_first=False), limit=10_000).jobs

    def idle(self) -> list[Process]:
        return [process for process in self.processes if process.job is None and not process.frozen]

    def working(self) -> list[Process]:
        return [process for process in self.processes if process.job is not None and not process.frozen]

    def process(self) -> Process:
        queue = EmbeddedQueue(self.ledger, clock=self.clock)
        return Process(queue=_Worker(self.ledger, self.clock, LEASE, queue._boot, "[]", threading.Event()))

    def deliverable(self) -> object:
        worker = self.process()
        return worker.queue._next(self.ledger.reading())

    def everything(self) -> list[object]:
        """All that the ledger has, but for the clock's own traces."""
        sql = self.ledger.reading()
        rows = [row for table in TABLES for row in sql.text(f"select * from {table}", {})]
        return [*rows, sql.text("select max(seq) from events", {})]

    def parent(self, job_type: JobType, starter: Job | None, target: str, errors: ErrorPolicy) -> Job:
        own_id = new_id()
        return Job(
            id=own_id,
            parent_id=starter.id if starter else own_id,
            correlation_id=starter.correlation_id if starter else own_id,
            type=job_type,
            phase=Phase.ORCHESTRATION,
            name=f"{job_type} {own_id[-4:]}",
            created_at=self.clock.now(),
            started_at=self.clock.now(),
            status=JobStatus.RUNNING,
            target=target,
            errors=errors,
        )

    def child(self, parent: Job, place: int, target: str, hold: str, attempts: int) -> Job:
        own_id = new_id()
        return Job(
            id=own_id,
            parent_id=parent.id,
            correlation_id=parent.correlation_id,
            type=JobType.DATABASE_MAINTENANCE_OPERATION,
            phase=Phase.EXECUTION,
            name=f"child {place} of {parent.id[-4:]} on {hold}",
            created_at=self.clock.now(),
            config={"operation": "vacuum"},
            target=target,
            hold=hold,
            place=place,
            weight=10 * (place + 1),
            max_attempts=attempts,
        )


def pick(things: Sequence[T], n: int) -> T:
    return things[n % len(things)]


def completed() -> JobCompleted:
    return JobCompleted(result={"effective": "yes", "before": {"bytes": 2}, "after": {"bytes": 1}})


def ending_of(job: Job, name: str) -> Ending | None:
    if job.type == JobType.DATABASE_DISCOVERY and name in ("skipped", "deferred"):
        return None
    if job.cancel_requested and name == "deferred":
        return JobCancelled(reason="stopped as asked")
    endings: dict[str, Ending] = {
        "completed": completed(),
        "failed": JobFailed(error=OperationError("it did not work").document()),
        "skipped": JobSkipped(reason="nothing to do"),
        "deferred": JobDeferred(reason="busy"),
        "returned": JobReturned(attempt=job.attempt, reason="the connection was lost"),
    }
    return endings[name]


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cancelled or stopped here takes several transactions, and the ledger breaks between them too."""
    monkeypatch.setattr(ending, "SLICE", 2)


def explore(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Jobs,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        ),
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_rules_hold_whatever_happens() -> None:
    explore(examples=200, steps=30)


@pytest.mark.fault
@pytest.mark.timeout(3600)
def test_the_rules_hold_whatever_happens_for_long(kills: int) -> None:
    if kills <= 200:
        pytest.skip("the long exploration belongs to `make fault`")
    explore(examples=5 * kills, steps=60)
