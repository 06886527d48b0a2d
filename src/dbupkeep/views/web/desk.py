"""What the HTTP faces may ask and do: one desk for API and page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from dbupkeep.app import App
from dbupkeep.config import Config
from dbupkeep.errors import UnknownName
from dbupkeep.jobs import Job
from dbupkeep.views.web.feed import Feed


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The ledger with its roles, and the configuration as it is in force now."""

    app: App
    config: Callable[[], Config]
    feed: Feed = field(init=False)

    def __post_init__(self) -> None:
        """Have a feed of the ledger's events, which begins to look once somebody listens."""
        object.__setattr__(self, "feed", Feed(self.app.reader, self.app.clock))

    def close(self) -> None:
        """End all event streams, so that the server need not wait for them."""
        self.feed.close()

    def job(self, job_id: str) -> Job:
        """A job by its id or an unambiguous beginning of it. Raises `UnknownName`."""
        job = self.app.reader.job(job_id)
        if job is None:
            raise UnknownName(f"no job {job_id}", hint="GET /api/v1/jobs lists them")
        return job


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


AtDesk = Annotated[Desk, Depends(_desk)]
"""A parameter of a route that gets the desk."""
