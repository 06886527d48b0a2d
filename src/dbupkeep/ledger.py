"""The port to the durable record: what is true of plans, jobs, events and measurements.

`Ledger` writes, `Reader` is what every face gets. All writes of one verb are one transaction, opened by `lifecycle`
alone. A write for an attempt that is no longer the job's current one changes nothing: the attempt is the fencing token.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any, Protocol, TypeVar

from msgspec import Struct, field

from dbupkeep.audit import Act, Ends, Entry, everything, faults
from dbupkeep.estimates import Measurement
from dbupkeep.events import Event, Recorded
from dbupkeep.jobs import Delivery, Job, JobStatus
from dbupkeep.progress import Progress

T = TypeVar("T")

Place = tuple[int, str]
"""Where a job stands among its parent's children: its place, and its id where several have the same."""


class Tx(Protocol):
    """An open transaction; it reads what it wrote itself. Only valid inside `Ledger.transact`."""

    def job(self, job_id: str) -> Job | None:
        """One job, locked against others until the transaction ends."""
        ...

    def before(self, job: Job) -> Job | None:
        """The newest ended job that was to do the same on the same target, before this one."""
        ...

    def unended(self, parent_id: str, *, before: Place | None = None, limit: int | None = None) -> Sequence[Job]:
        """The children that have not ended, in order: of those before a place (None: of all) the last ones up to `limit`."""
        ...

    def children(self, parent_id: str) -> Sequence[Job]:
        """All direct children, in order."""
        ...

    def out(self, correlation_id: str) -> Sequence[Job]:
        """The operations of a run that were made deliverable and have not ended, by id."""
        ...

    def get(self, kind: str, key: str) -> Mapping[str, Any] | None:
        """A document."""
        ...


class Wait(Struct, frozen=True, kw_only=True):
    """`job_id` does not start before `on_id` has ended; with `gate`, not unless that one completed."""

    job_id: str
    on_id: str
    gate: bool = False


class Change(Struct, frozen=True, kw_only=True):
    """What one `append` did."""

    before: Job
    after: Job
    parent: Job | None = None  # with its counts as they are now; None for a root
    touched: tuple[str, ...] = ()  # targets on which something may have become free
    barred: tuple[str, ...] = ()  # jobs whose gate did not complete


class Control(Struct, frozen=True, kw_only=True):
    """What a running attempt is told when it reports."""

    fenced: bool = False  # another attempt took over, or the job ended: stop, and write nothing
    cancel: bool = False
    paused: bool = False
    until: datetime | None = None  # by when the run is to have ended, if a person said so


class JobQuery(Struct, frozen=True, kw_only=True):
    """Which jobs to list; empty fields do not restrict."""

    statuses: tuple[JobStatus, ...] = ()
    types: tuple[str, ...] = ()
    target: str = ""  # a target's key, or its end
    roots: bool = False
    parent_id: str = ""
    correlation_id: str = ""
    released: bool = False  # made deliverable and not ended
    newest_first: bool = True


class Page(Struct, frozen=True, kw_only=True):
    """Some jobs, and where the next ones begin."""

    jobs: tuple[Job, ...]
    cursor: str = ""  # empty: there are no more


class TargetSummary(Struct, frozen=True, kw_only=True):
    """A target that the ledger knows."""

    key: str
    name: str
    last_run_at: datetime | None = None
    last_status: str = ""
    runs: int = 0


class Backlog(Struct, frozen=True, kw_only=True):
    """What has not ended: operations by what they wait for."""

    pending: int = 0  # not begun, or to be begun anew
    deliverable: int = 0  # of those: nothing holds them any more but a worker that is free
    running: int = 0
    oldest_pending_at: datetime | None = None


class Health(Struct, frozen=True, kw_only=True):
    """The state of the ledger itself."""

    ok: bool
    location: str  # without secrets
    version: int  # of the schema
    bytes: int
    jobs: Mapping[str, int] = field(default_factory=dict)  # by status
    oldest_pending_at: datetime | None = None
    message: str = ""


class Trail(Protocol):
    """The audit trail: what was asked for, by whom; entries are added and, when they are old, forgotten, never changed."""

    def record(self, tx: Tx, act: Act) -> Entry:
        """Add an entry in a transaction; it becomes true with all else in it, so it stands in none without its act.

        Others who add one wait for the end of the transaction: it comes last in it.
        """
        ...

    def acts(self, *, before: int = 0, who: str = "", what: str = "", limit: int = 100) -> Sequence[Entry]:
        """The newest entries first, from below the number `before` on (0: from the end); empty texts do not restrict."""
        ...

    def acts_after(self, seq: int, *, limit: int = 1000) -> Sequence[Entry]:
        """Entries with a higher number, in order."""
        ...

    def ends(self) -> Ends:
        """Where the trail begins and ends, as it notes itself."""
        ...

    def forget(self, before: datetime, *, by: str) -> int:
        """Remove entries older than that, and add one that says so; what is left can be checked as before."""
        ...


def verified(trail: Trail, *, known: tuple[int, str] | None = None) -> tuple[Ends, Iterator[str]]:
    """Where a trail ended at the beginning of this look, and what is wrong with it up to there (`audit.faults`).

    What is asked for meanwhile comes behind that end, and is no fault; what stood behind it before is one.
    """
    newest = trail.acts(limit=1)
    ends = trail.ends()
    last = max([ends.last, *(entry.seq for entry in newest)])
    looked_at = takewhile(lambda entry: entry.seq <= last, everything(trail.acts_after))
    return ends, faults(looked_at, ends, known=known)


class Ledger(Trail, Protocol):
    """The durable record, for writing."""

    def transact(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in one transaction and return what it returned, once that is durable.

        `work` may be run more than once (busy, serialization), so it touches nothing but the transaction. When it
        raises, nothing of it remains.
        """
        ...

    def insert(self, tx: Tx, jobs: Sequence[Job], waits: Sequence[Wait], slots: Mapping[str, int]) -> None:
        """Add new jobs in order, each with its `JobSubmitted` event, its parent's counts, and its waits.

        `slots` says for each target how many operations may run on it at a time. Raises `UnknownName` when a parent
        that is not among `jobs` does not exist, and `IllegalTransition` when it has ended.
        """
        ...

    def append(self, tx: Tx, job_id: str, event: Event, attempt: int | None = None) -> Change | None:
        """The one write of a job's life: compare-and-set the job, store the event, shift the parent's counts.

        With `attempt`, None is returned and nothing is changed unless it is the job's current one and running.
        An ended job gives up its hold and its successors' waits. Raises `IllegalTransition`, `UnknownName`.
        """
        ...

    def release(self, tx: Tx, targets: Collection[str]) -> Sequence[Delivery]:
        """Make jobs of these targets deliverable: waits over, hold free, a slot left, run neither paused nor at its limit.

        Takes the holds; the caller enqueues the deliveries in the same transaction. Looks at these targets only.
        """
        ...

    def report(self, job_id: str, attempt: int, progress: Progress | None) -> Control:
        """Keep the last progress of a running attempt, and learn what is wanted of it."""
        ...

    def put(self, tx: Tx, kind: str, key: str, doc: Mapping[str, Any], version: int | None = None) -> bool:
        """Store a document; with `version`, only if that is the stored one (0: only if it is new); they count from 1."""
        ...

    def measure(self, tx: Tx, sample: Measurement) -> None:
        """Keep a measurement."""
        ...

    def prune(self, before: datetime) -> int:
        """Remove runs that ended before that moment, whole trees only; measurements stay. Returns jobs removed."""
        ...

    def migrate(self) -> None:
        """Bring the schema up to date; safe to repeat and to run from several processes. Raises `LedgerError`."""
        ...

    def close(self) -> None:
        """Let go of everything; safe to repeat."""
        ...


class Reader(Protocol):
    """What faces may ask of the record."""

    def job(self, job_id: str) -> Job | None:
        """One job by its id, or by a beginning of it that only one job has. Raises `UnknownName` if several have."""
        ...

    def jobs(self, query: JobQuery, *, cursor: str = "", limit: int = 100) -> Page:
        """Jobs by id order; ids made later sort later."""
        ...

    def children(self, parent_id: str) -> Sequence[Job]:
        """The direct children, in order; never the parent itself."""
        ...

    def events(self, after: int = 0, *, correlation_id: str = "", limit: int = 1000) -> Sequence[Recorded]:
        """Events with a higher number, in order.

        Numbers are given in the order of commits and never again: who asks after the last one seen misses nothing.
        """
        ...

    def newest(self) -> int:
        """The number of the newest event that there is; 0 when there is none."""
        ...

    def measurements(
        self, *, target: str = "", engine: str = "", until: datetime | None = None, limit: int = 100
    ) -> Sequence[Measurement]:
        """Measurements, newest first; with `until` those of that moment and before."""
        ...

    def get(self, kind: str, key: str) -> Mapping[str, Any] | None:
        """A document."""
        ...

    def backlog(self) -> Backlog:
        """What has not ended, counted cheaply enough to be asked every few seconds."""
        ...

    def targets(self) -> Sequence[TargetSummary]:
        """The targets that ever had a job."""
        ...

    def health(self) -> Health:
        """How the record itself is doing."""
        ...
