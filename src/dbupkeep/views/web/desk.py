"""What the HTTP faces may ask and do: one desk for API and page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Depends, Request

from dbupkeep.app import App
from dbupkeep.config import Config
from dbupkeep.errors import UnknownName
from dbupkeep.jobs import Job, JobType
from dbupkeep.views.web.feed import Feed
from dbupkeep.views.web.problems import Problem

MOST_IN_TREE = 5000
"""Jobs of a run that is given as one tree, or reported."""

SURVEYS = 4
"""Requests that look at databases at a time; each keeps a thread for as long as that takes."""


class Desk:
    """The ledger with its roles, and the configuration as it is in force now."""

    def __init__(self, *, app: App, config: Callable[[], Config]) -> None:
        """Have a feed of the ledger's events too, which begins to look once somebody listens."""
        self.app = app
        self.config = config
        self.feed = Feed(app.reader, app.clock)
        self._surveys = threading.Semaphore(SURVEYS)

    def close(self) -> None:
        """End all event streams, so that the server need not wait for them."""
        self.feed.close()

    def job(self, job_id: str) -> Job:
        """A job by its whole id. Raises `UnknownName`."""
        job = self.app.reader.job(job_id)
        if job is None or job.id != job_id:
            raise UnknownName(
                f"there is no job {job_id}", hint="it was pruned, or never was; GET /api/v1/jobs lists them"
            )
        return job

    def whole_run(self, run_id: str) -> Job:
        """A run that is small enough to be given with all below it. Raises `UnknownName` and `Problem` 422."""
        run = self.run(run_id)
        known = run.stats.total
        if known <= MOST_IN_TREE and run.type == JobType.MAINTENANCE_RUN:
            known += sum(child.stats.total for child in self.app.reader.children(run.id))
        if known > MOST_IN_TREE:
            raise Problem(
                422, "too_big", f"the run has {known:,} jobs; at most {MOST_IN_TREE:,} are given in one answer",
                hint=f"read them page by page: GET /api/v1/jobs/{run_id}/children, or /api/v1/jobs?run={run_id}",
            )  # fmt: skip
        return run

    def is_served(self, lane: str) -> bool:
        """Whether a worker process takes jobs of a lane."""
        return any(each.alive and (not each.lanes or lane in each.lanes) for each in self.app.queue.workers())

    @contextmanager
    def surveying(self) -> Iterator[None]:
        """Look at databases; few do so at a time. Raises `Problem` 503 where too many do."""
        if not self._surveys.acquire(blocking=False):
            raise Problem(
                503, "busy", f"{SURVEYS} requests look at databases already",
                hint="come again in a moment, or start a run, which is planned by worker processes",
                headers={"Retry-After": "5"},
            )  # fmt: skip
        try:
            yield
        finally:
            self._surveys.release()

    def run(self, run_id: str) -> Job:
        """A run by its whole id. Raises `UnknownName`, also for a job of a run."""
        job = self.job(run_id)
        if not job.is_root:
            raise UnknownName(f"{run_id} is a job of a run, not a run", hint=f"its run is {job.correlation_id}")
        return job


async def _desk(request: Request) -> Desk:  # a coroutine, since it waits for nothing: a plain function gets a thread
    desk: Desk = request.app.state.desk
    return desk


AtDesk = Annotated[Desk, Depends(_desk)]
"""A parameter of a route that gets the desk."""
