"""Why a run stands still: it is paused, or another run holds what it waits for; and taking over from one that is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct, field

from dbupkeep.jobs import Job, JobStatus
from dbupkeep.ledger import JobQuery
from dbupkeep.views import words
from dbupkeep.views.cli.job_words import SHORT
from dbupkeep.views.watching import Look

if TYPE_CHECKING:
    from dbupkeep.app import App

LOOKS = 5
"""Looks in a row at a run of which nothing runs, before it is asked why."""

LOOKED_AT = 500
"""Jobs looked at to find the cause; it is almost always among the first."""

OWN = "run/"
"""How the lane of a run begins that one process carries out by itself."""


def alive(app: App, lane: str) -> bool:
    """Whether a process serves a lane, or was there a lease ago."""
    return any(worker.alive and (not worker.lanes or lane in worker.lanes) for worker in app.queue.workers())


def holders(app: App, root: Job) -> Sequence[Job]:
    """Jobs of other runs that are on the databases which this run waits for."""
    waiting = app.reader.jobs(
        JobQuery(correlation_id=root.correlation_id, statuses=(JobStatus.PENDING,)), limit=LOOKED_AT
    )
    targets = {job.target for job in waiting.jobs if job.target}
    released = app.reader.jobs(JobQuery(released=True), limit=LOOKED_AT).jobs
    return [job for job in released if job.target in targets and job.correlation_id != root.correlation_id]


class Standstill(Struct, kw_only=True):
    """Notices that a run stands still, says why, once for each cause, and takes over where nobody is left."""

    app: App
    say: Callable[[str], None]
    take_over: Callable[[str], None]  # serve this lane too
    _looks: int = 0
    _told: set[str] = field(default_factory=set)
    _taken: set[str] = field(default_factory=set)

    def see(self, look: Look) -> None:
        """Look at a look."""
        self._looks = 0 if look.running or look.root.status.ended else self._looks + 1
        if self._looks < LOOKS or self._looks % LOOKS:
            return
        if look.root.paused:
            self._tell("paused", f"The run is paused. Let it go on:  dbupkeep resume {look.root.id[:SHORT]}")
            return
        for job in holders(self.app, look.root):
            self._held_by(job)

    def _held_by(self, job: Job) -> None:
        run, place = job.correlation_id[:SHORT], words.name(job.target)
        if alive(self.app, job.lane) or job.lane in self._taken:
            self._tell(job.id, f"Waiting: the run {run} is on {place}.")
        elif job.lane.startswith(OWN):
            self._taken.add(job.lane)
            self.say(f"The run {run} was on {place} when its process went away; it is finished first.")
            self.take_over(job.lane)
        else:
            hint = f"Start one:  dbupkeep worker   or end that run:  dbupkeep cancel {run}"
            self._tell(f"{job.id} idle", f"Waiting: the run {run} holds {place}, and no process works on it. {hint}")

    def _tell(self, cause: str, text: str) -> None:
        if cause not in self._told:
            self._told.add(cause)
            self.say(text)
