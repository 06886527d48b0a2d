"""What the suite for a ledger with its queue stands on: jobs to submit, serving threads, waiting, planted faults."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from dbupkeep.clock import SystemClock, new_id
from dbupkeep.definitions import ErrorPolicy
from dbupkeep.errors import OperationError
from dbupkeep.events import JobCompleted, JobFailed
from dbupkeep.jobs import Delivery, Job, JobStatus, JobType, Phase, apply, count, hold_of
from dbupkeep.ledger import JobQuery, Ledger, Reader, Wait
from dbupkeep.lifecycle import Lifecycle, Submission
from dbupkeep.queue import Handler, Queue
from dbupkeep.worker import Ended, Ending

T = TypeVar("T")
Opener = Callable[[], tuple[Ledger, Reader, Queue]]
"""Opens the store as one process would, migrated; can be pickled, so that another process can call it."""

PATIENCE = 30.0
"""Seconds after which something that has to happen is said not to happen."""

TARGET = "fake:///a"


class Planted(Exception):
    """A fault that a test put there."""


def planted() -> None:
    """Raise it."""
    raise Planted


class Handles:
    """One process's worth of handles on the store."""

    def __init__(self, opener: Opener) -> None:
        """Open them."""
        self.ledger, self.reader, self.queue = opener()
        self.life = Lifecycle(self.ledger, self.queue)

    def close(self) -> None:
        """Let go of them."""
        self.queue.close()
        self.ledger.close()

    def job(self, job_id: str) -> Job:
        """A job that is there."""
        job = self.reader.job(job_id)
        assert job is not None, f"job {job_id} is gone"
        return job

    def statuses(self, jobs: Sequence[Job]) -> list[str]:
        """What these jobs are now."""
        return [self.job(job.id).status.value for job in jobs]

    def released(self) -> set[str]:
        """The ids of jobs that were made deliverable and have not ended."""
        return {job.id for job in self.everything(JobQuery(released=True))}

    def everything(self, query: JobQuery | None = None) -> list[Job]:
        """All jobs, page by page."""
        found: list[Job] = []
        cursor = ""
        while True:
            page = self.reader.jobs(query or JobQuery(newest_first=False), cursor=cursor, limit=50)
            found.extend(page.jobs)
            cursor = page.cursor
            if not cursor:
                return found

    def begin(self, job: Job, worker: str = "w") -> Job:
        """Begin the next attempt of a job, which has to succeed."""
        begun = self.life.begin(next_delivery(self.job(job.id)), worker)
        assert begun is not None, f"{job.name} could not be begun"
        return begun

    def finish(self, job: Job, event: Ending | None = None) -> Job:
        """Begin a job and end it."""
        ended = self.life.end(self.begin(job), Ended(event=event or done()))
        assert ended is not None
        return ended


class Family(Struct, frozen=True, kw_only=True):
    """A parent with its children, as submitted."""

    parent: Job
    children: tuple[Job, ...]
    submission: Submission


def family(
    *holds: str,
    target: str = TARGET,
    slots: int = 1,
    waits: Mapping[int, Sequence[int]] | None = None,
    gates: bool = False,
    errors: ErrorPolicy | None = None,
    max_attempts: int = 3,
    lane: str = "default",
    starter: Job | None = None,
) -> Family:
    """A parent with one child for each hold; `waits` says by place which children a child waits for."""
    parent = orchestration(target=target, errors=errors, starter=starter)
    children = tuple(
        replace(
            execution(parent, place, hold=hold, target=target),
            max_attempts=max_attempts, lane=lane, weight=100 + place,
        )
        for place, hold in enumerate(holds or ("one",))
    )  # fmt: skip
    edges = [
        Wait(job_id=children[later].id, on_id=children[place].id, gate=gates)
        for later, places in (waits or {}).items()
        for place in places
    ]
    submission = Submission(jobs=(parent, *children), waits=edges, slots={target: slots})
    return Family(parent=parent, children=children, submission=submission)


def orchestration(
    *, target: str = TARGET, errors: ErrorPolicy | None = None, starter: Job | None = None, run: bool = False
) -> Job:
    """A parent that is not written yet."""
    own_id, now = new_id(), SystemClock().now()
    return Job(
        id=own_id,
        parent_id=starter.id if starter else own_id,
        correlation_id=starter.correlation_id if starter else own_id,
        type=JobType.MAINTENANCE_RUN if run else JobType.DATABASE_MAINTENANCE_PARENT,
        phase=Phase.ORCHESTRATION,
        name="a run" if run else target.rpartition("/")[2],
        created_at=now,
        started_at=now,
        status=JobStatus.RUNNING,
        target="" if run else target,
        errors=errors or ErrorPolicy(),
    )


def execution(parent: Job, place: int, *, hold: str = "", target: str = TARGET) -> Job:
    """A child that is not written yet."""
    return Job(
        id=new_id(),
        parent_id=parent.id,
        correlation_id=parent.correlation_id,
        type=JobType.DATABASE_MAINTENANCE_OPERATION,
        phase=Phase.EXECUTION,
        name=f"vacuum {hold}",
        created_at=SystemClock().now(),
        config={"operation": "vacuum", "object": hold},
        target=target,
        hold=hold_of(target, hold),
        place=place,
    )


def next_delivery(job: Job) -> Delivery:
    """The delivery that a pending job is begun with."""
    return Delivery(job_id=job.id, attempt=job.attempt + 1, lane=job.lane)


def done() -> JobCompleted:
    """An end that is a success."""
    return JobCompleted(result={"effective": "yes", "before": {"bytes": 2}, "after": {"bytes": 1}})


def failed() -> JobFailed:
    """An end that is a failure."""
    return JobFailed(error=OperationError("it did not work", hint="look into it").document())


def eventually(what: str, is_so: Callable[[], T]) -> T:
    """What `is_so` returns once that is true; fails after some patience."""
    clock, pause = SystemClock(), threading.Event()
    deadline = clock.monotonic() + PATIENCE
    while not (found := is_so()):
        assert clock.monotonic() < deadline, f"it did not come to pass: {what}"
        pause.wait(0.01)
    return found


@contextmanager
def serving(
    queue: Queue,
    handler: Handler,
    *,
    lanes: Sequence[str] = (),
    slots: int = 1,
    stop: threading.Event | None = None,
) -> Generator[threading.Event, None, None]:
    """Serve on a thread of its own; at the end, stop and see that it does. Gives what stops it."""
    faults: list[BaseException] = []
    stop = stop or threading.Event()

    def serve() -> None:
        try:
            queue.serve(lanes, slots, handler, stop)
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread below
            faults.append(error)

    thread = threading.Thread(target=serve, name="serving")
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(PATIENCE)
    assert not thread.is_alive(), "serving does not stop"
    if faults:
        raise faults[0]


class Log:
    """A handler that keeps what it was given, and does with it what the test says."""

    def __init__(self, then: Callable[[Delivery, str], object] | None = None) -> None:
        """Begin with nothing."""
        self.got: list[tuple[str, str]] = []  # key and worker, in order
        self._then = then
        self._lock = threading.Lock()

    def __call__(self, delivery: Delivery, worker: str) -> None:
        """Deal with a delivery."""
        with self._lock:
            self.got.append((delivery.key, worker))
        if self._then is not None:
            self._then(delivery, worker)

    @property
    def keys(self) -> list[str]:
        """The keys so far, in order."""
        with self._lock:
            return [key for key, _ in self.got]


def together(*works: Callable[[], T]) -> list[T | BaseException]:
    """Start them all at one moment, each on its own thread; what each returned or raised."""
    barrier = threading.Barrier(len(works))
    results: list[T | BaseException | None] = [None] * len(works)

    def run(place: int, work: Callable[[], T]) -> None:
        barrier.wait(PATIENCE)
        try:
            results[place] = work()
        except BaseException as error:  # noqa: BLE001 - the test judges it
            results[place] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads), "they hinder each other for ever"
    return results  # type: ignore[return-value]


def check_record(handles: Handles, submitted: Sequence[Job]) -> None:
    """What must be true of the record at any moment: counts equal a recount, and the events make the state."""
    now = {job.id: job for job in handles.everything()}
    for job in now.values():
        if job.phase is Phase.ORCHESTRATION:
            assert job.stats == count(handles.reader.children(job.id)), f"the counts of {job.name} are off"
    replayed = {job.id: job for job in submitted}
    for recorded in all_events(handles.reader):
        replayed[recorded.job_id] = apply(replayed[recorded.job_id], recorded.event, recorded.at)
    for job_id, job in replayed.items():
        stored = now[job_id]
        assert replace(job, stats=stored.stats, released=stored.released, progress=stored.progress) == stored


def check_holds(handles: Handles, slots: Mapping[str, int]) -> None:
    """What must be true of all that is deliverable: no hold twice, and no more on a target than it has slots."""
    out = handles.everything(JobQuery(released=True))
    holds = [job.hold for job in out if job.hold]
    assert len(holds) == len(set(holds)), f"two jobs hold the same: {sorted(holds)}"
    for target, most in slots.items():
        assert sum(job.target == target for job in out) <= most, f"more than {most} on {target}"


def all_events(reader: Reader, *, correlation_id: str = "") -> Iterator[Any]:
    """All events, by the cursor."""
    after = 0
    while found := reader.events(after, correlation_id=correlation_id, limit=40):
        yield from found
        after = found[-1].seq
