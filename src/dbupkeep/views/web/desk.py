"""What the HTTP faces may ask and do: one desk for API and page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from dbupkeep.app import App
from dbupkeep.config import Config
from dbupkeep.errors import UnknownName
from dbupkeep.jobs import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The ledger with its roles, and the configuration as it is in force now."""

    app: App
    config: Callable[[], Config]

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
