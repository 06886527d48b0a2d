"""Routes of jobs: list them, look at one, at its children, at what happened to it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from dbupkeep.documents import Document
from dbupkeep.ledger import JobQuery
from dbupkeep.views.api.contract import NOT_FOUND, UNCHANGED
from dbupkeep.views.api.models.asked import Paged, RunEvents, WantedJobs
from dbupkeep.views.api.models.jobs import Job, JobList, Log, Parent
from dbupkeep.views.web.answers import answer
from dbupkeep.views.web.cursors import cursor_of, next_link, place_of
from dbupkeep.views.web.desk import AtDesk, Desk
from dbupkeep.views.web.logs import log_of
from dbupkeep.views.web.now import Now
from dbupkeep.views.web.roles import Viewer

router = APIRouter(tags=["jobs"])

JobId = Annotated[str, Path(max_length=100, pattern=r"^[^\x00]*$", description="The id of a job.")]

LIST = "jobs"
"""What a cursor of a list of jobs begins with."""


@router.get("/jobs", response_model=JobList, responses=UNCHANGED)
def jobs(request: Request, desk: AtDesk, _caller: Viewer, wanted: Annotated[WantedJobs, Query()]) -> Response:
    """Jobs of all kinds, the newest first."""
    query = JobQuery(
        statuses=tuple(wanted.status), types=tuple(wanted.type), target=wanted.target, parent_id=wanted.parent,
        correlation_id=wanted.run,
    )  # fmt: skip
    return some_jobs(request, desk, query, wanted)


@router.get("/jobs/{job_id}", response_model=Parent | Job, responses=UNCHANGED | NOT_FOUND)
def job(request: Request, desk: AtDesk, _caller: Viewer, job_id: JobId) -> Response:
    """One job; what is below it is under `children`, and of a run as one tree under `/runs`."""
    found = desk.job(job_id)
    return answer(request, Now.around(desk.app.reader, [found]).document(found), of=found)


@router.get("/jobs/{job_id}/children", response_model=JobList, responses=UNCHANGED | NOT_FOUND)
def job_children(
    request: Request, desk: AtDesk, _caller: Viewer, job_id: JobId, wanted: Annotated[Paged, Query()]
) -> Response:
    """The direct children of a job, in the order in which they were made."""
    query = JobQuery(parent_id=desk.job(job_id).id, newest_first=False)
    return some_jobs(request, desk, query, wanted)


@router.get("/jobs/{job_id}/logs", response_model=Log, responses=UNCHANGED | NOT_FOUND)
def job_logs(
    request: Request, desk: AtDesk, _caller: Viewer, job_id: JobId, wanted: Annotated[RunEvents, Query()]
) -> Response:
    """What happened to a job and all below it, a sentence each, with what the product itself said."""
    log = log_of(desk.app.reader, desk.job(job_id), after=wanted.after, limit=wanted.limit)
    headers = {} if log.whole else next_link(request, after=log.after)
    return answer(request, {"lines": log.lines, "after": log.after}, headers=headers)


def some_jobs(request: Request, desk: Desk, query: JobQuery, page: Paged) -> Response:
    """A page of jobs."""
    cursor = str(place_of(page.cursor, LIST, str)[0]) if page.cursor else ""
    found = desk.app.reader.jobs(query, cursor=cursor, limit=page.limit)
    now = Now.around(desk.app.reader, found.jobs)
    following = cursor_of(LIST, found.cursor) if found.cursor else ""
    document: Document = {"jobs": [now.document(each) for each in found.jobs], "cursor": following or None}
    return answer(request, document, headers=next_link(request, cursor=following) if following else {})
