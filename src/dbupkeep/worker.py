"""The port to code that executes one type of job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from dbupkeep.engine import Report
from dbupkeep.estimates import Measurement
from dbupkeep.events import JobCancelled, JobCompleted, JobDeferred, JobFailed, JobReturned, JobSkipped
from dbupkeep.jobs import Job

Ending = JobCompleted | JobFailed | JobCancelled | JobSkipped | JobDeferred | JobReturned
"""How an attempt can end: the event that is to happen to its job."""


class Ended(Struct, frozen=True, kw_only=True):
    """What a worker returns: the event, and what was measured."""

    event: Ending
    sample: Measurement | None = None


class Context(Protocol):
    """What a worker may use while it executes one attempt."""

    @property
    def report(self) -> Report:
        """Where progress goes."""
        ...

    @property
    def tag(self) -> str:
        """The short mark of this attempt, unique, for the target server."""
        ...

    @property
    def lost_tag(self) -> str:
        """The mark of the attempt before, when that one was lost; else empty."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether this attempt should end: it was cancelled, or another attempt has taken over."""
        ...

    def on_stop(self, interrupt: Callable[[], object] | None) -> None:
        """Have `interrupt` called, repeatedly and from another thread, while the attempt should end; None ends it."""
        ...


class JobWorker(Protocol):
    """Executes jobs of one type. Found by the entry point group `dbupkeep.workers`, or registered."""

    @property
    def type(self) -> str:
        """The job type it executes."""
        ...

    def validate(self, job: Job) -> None:
        """Refuse a job that cannot be executed. No I/O. Raises `UpkeepError`."""
        ...

    def execute(self, job: Job, context: Context) -> Ended:
        """Do the work of one attempt; recovery of a lost one comes first. May raise `UpkeepError`: the job fails."""
        ...
