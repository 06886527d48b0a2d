"""The port to a database product. An engine is a package `engines/<scheme>`, found by name; it needs no base class.

A survey only reads. `run` does one item on one object and may take hours; everything that ends it early goes through
`interrupt`. What an operation achieved is said by `verify` from the database itself, never by a success tag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from msgspec import Struct, field

from dbupkeep.definitions import Policy, Setting, Target
from dbupkeep.errors import UpkeepError
from dbupkeep.estimates import History
from dbupkeep.events import STATEMENT
from dbupkeep.facts import DatabaseFacts, Notice, Value
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem, Proposal
from dbupkeep.progress import Progress


class Purpose(StrEnum):
    """What a session is for."""

    SURVEY = "survey"  # read-only; changes no byte, creates no file
    WORK = "work"


class Stop(StrEnum):
    """What became of a request to stop."""

    STOPPED = "stopped"  # it will end at once, with nothing half done
    UNSTOPPABLE = "unstoppable"  # it is past the point of return and will finish
    UNKNOWN = "unknown"


class Scope(Struct, frozen=True, kw_only=True):
    """What a survey should look for."""

    operations: tuple[Operation, ...]
    fleet: bool = False  # one of many small databases: finer thresholds apply
    now: datetime
    policy: Policy = field(
        default_factory=Policy
    )  # a discovery goes by its thresholds; with force, facts of all are wanted
    config: Mapping[str, Setting] = field(default_factory=dict)  # the step's own: selection flags of the product
    planned: tuple[PlanItem, ...] = ()  # of a plan that is looked at again: facts of their objects, whatever these need


class Candidate(Struct, frozen=True, kw_only=True):
    """A database that discovery found."""

    target: Target
    due: bool  # whether a survey is worth while; False only when it is certain that nothing is due
    problem: str = ""  # why it cannot be worked on, if so


class Work(Struct, frozen=True, kw_only=True):
    """What `run` can say right after its statement."""

    seconds: float
    stall_seconds: float | None = None  # how long other writers were really kept out, at most
    blocking_seconds: float | None = None  # how long others waited for it; None where the engine does not look at that
    before: Mapping[str, Value] = field(default_factory=dict)
    values: Mapping[str, Value] = field(default_factory=dict)
    messages: tuple[str, ...] = ()  # the product's own words
    put_off: Mapping[str, str] = field(default_factory=dict)  # members of a group that something was in the way of: why
    fault: UpkeepError | None = None  # what went wrong with members of a group, where others of it are done


class Evidence(Struct, frozen=True, kw_only=True):
    """What was found after the work: `before` and `after` have the same keys, sizes in bytes."""

    effective: Effective
    reason: str  # a sentence with the numbers
    before: Mapping[str, Value]
    after: Mapping[str, Value]
    values: Mapping[str, Value] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    work_bytes: int = 0  # for estimates: what the seconds were spent on
    members: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)  # of a group: what history keeps of each


class Leftover(Struct, frozen=True, kw_only=True):
    """Something that a cut-off operation left on the target."""

    name: str
    bytes: int
    ours: bool  # proved to be ours by what the ledger has
    explanation: str


class Finding(Struct, frozen=True, kw_only=True):
    """One line of `doctor` or `why`."""

    subject: str
    ok: bool
    message: str
    hint: str = ""


class Report(Protocol):
    """How a running operation tells how far it is. Cheap, from any thread, and never raises."""

    def progress(self, progress: Progress) -> None:
        """Say how far it is; the last word counts."""
        ...

    def stage(self, name: str, message: str = "") -> None:
        """Say that another stage began; each is kept in the job's log."""
        ...

    def note(self, text: str) -> None:
        """Keep, before this returns, what a later attempt's `recover` must know if this one is lost.

        Unlike the rest it may raise: `LedgerError`, or `Interrupted` when another attempt has taken over.
        """
        ...

    def blocking(self, seconds: float) -> float:
        """Say for how many seconds others had to wait for this attempt by now, as far as was seen.

        Returns what the whole run on this database has cost others so far, in seconds; with 0 it only asks.
        """
        ...

    def follow(self, sample: Callable[[], Progress | None] | None) -> None:
        """Have `sample` called now and then from another thread, for work that cannot report itself; None ends it."""
        ...


class Statements:
    """Tells what is sent to a database as stages of a job; what is tried again is told once, and there is an end to it."""

    MOST = 200
    LONGEST = 2000  # characters

    def __init__(self, report: Report) -> None:
        """Tell a report."""
        self._report = report
        self._told = 0
        self._last = ""

    def __call__(self, text: str) -> None:
        """Tell a statement, before it is sent."""
        if text == self._last or self._told > self.MOST:
            return
        self._last, self._told = text, self._told + 1
        cut = text if len(text) <= self.LONGEST else f"{text[: self.LONGEST]}…"
        self._report.stage(STATEMENT, cut if self._told <= self.MOST else "… and more of them")


class Session(Protocol):
    """One connection to one database, for one job at a time."""

    def run(self, item: PlanItem, report: Report) -> Work:
        """Do the item. Raises `Busy` (deferred), `Interrupted`, `Damaged`, `Refused` or another `UpkeepError`."""
        ...

    def interrupt(self) -> Stop:
        """Ask the running item to end; callable from another thread, any number of times."""
        ...

    def verify(self, item: PlanItem, work: Work) -> Evidence:
        """Look at the database and say what the work achieved. Raises `Damaged` where the check is red."""
        ...

    def recover(self, item: PlanItem, tag: str, notes: Sequence[str] = ()) -> Evidence | None:
        """Before an attempt after a lost one: find what `tag` left running or behind, stop or await it, clean up.

        `notes` is what the job's earlier attempts had kept by `Report.note`, in order. Returns evidence when the lost attempt in fact did the work. Safe to repeat.
        """
        ...

    def leftovers(self) -> Sequence[Leftover]:
        """What cut-off operations left here, ours and others'. Changes nothing."""
        ...

    def clean(self, leftover: Leftover) -> None:
        """Remove one leftover that is proved ours. Raises `Refused` for any other."""
        ...

    def close(self) -> None:
        """End the session; safe to repeat."""
        ...


class LastingSession(Session, Protocol):
    """What `connect` of an engine gives that says `LASTING = True`: a session that can serve one job after another."""

    def renew(self, tag: str) -> bool:
        """Begin anew under another mark, as if it had just been opened; False when it has to be opened anew."""
        ...


class Engine(Protocol):
    """A database product (a module: these are its functions)."""

    @property
    def operations(self) -> Mapping[Operation, str]:
        """What it can do, each with a sentence on how this product does it."""
        ...

    @property
    def defaults(self) -> Mapping[Operation, Mapping[str, Setting]]:
        """Its thresholds by operation; a policy's own settings go before these."""
        ...

    def discover(self, place: Target, scope: Scope) -> Iterable[Candidate]:
        """Find the databases at a place. Reads as little as it can; raises `Missing` when the place is not there."""
        ...

    def connect(self, target: Target, *, tag: str = "", purpose: Purpose = Purpose.WORK) -> Session:
        """Open a session. `tag` marks it on the server. Raises a `TargetError`; never creates a database."""
        ...

    def survey(self, session: Session, scope: Scope) -> DatabaseFacts:
        """Read what a plan needs to know."""
        ...

    def assess(self, facts: DatabaseFacts, policy: Policy, history: History, scope: Scope) -> Sequence[Proposal]:
        """Propose what to do, at least one proposal for each operation asked for. Pure."""
        ...

    def drift(self, item: PlanItem, facts: DatabaseFacts) -> str:
        """Say what changed since the plan so that the item no longer holds; empty when it does. Pure."""
        ...

    def why(self, session: Session, object: str) -> Sequence[Finding]:
        """Say what keeps maintenance of an object from helping, most important first."""
        ...

    def doctor(self, session: Session) -> Sequence[Finding]:
        """Check versions, rights and surroundings."""
        ...
