"""Routes of the verbs: what people ask of jobs while they go."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from dbupkeep.documents import Document
from dbupkeep.jobs import Job
from dbupkeep.ledger import Tx
from dbupkeep.lifecycle import Lifecycle
from dbupkeep.views import sayings
from dbupkeep.views.api.contract import CHANGED, CONFLICT, NOT_FOUND
from dbupkeep.views.api.jobs import JobId
from dbupkeep.views.api.models.asked import Limits
from dbupkeep.views.api.models.jobs import Done, Retried
from dbupkeep.views.web.answers import answer, check_unchanged
from dbupkeep.views.web.desk import AtDesk, Desk
from dbupkeep.views.web.now import Now
from dbupkeep.views.web.roles import Operator

router = APIRouter(tags=["verbs"])

REFUSALS = NOT_FOUND | CONFLICT | CHANGED


@router.post("/jobs/{job_id}/pause", response_model=Done, responses=REFUSALS)
def pause(request: Request, desk: AtDesk, caller: Operator, job_id: JobId) -> Response:
    """Start nothing new in the run of a job; what runs goes on. Safe to repeat."""
    run = _verbs(request, desk, job_id).pause(job_id, by=caller.name)
    return _done(request, desk, run, sayings.paused(run))


@router.post("/jobs/{job_id}/resume", response_model=Done, responses=REFUSALS)
def resume(request: Request, desk: AtDesk, caller: Operator, job_id: JobId) -> Response:
    """Let a paused run go on. Safe to repeat."""
    run = _verbs(request, desk, job_id).resume(job_id, by=caller.name)
    return _done(request, desk, run, sayings.resumed(run, served=desk.is_served(run.lane)))


@router.post("/jobs/{job_id}/skip", response_model=Done, responses=REFUSALS)
def skip(request: Request, desk: AtDesk, caller: Operator, job_id: JobId) -> Response:
    """Leave out an operation that has not started, or all such of a database or run; what waits for it goes on."""
    job = _verbs(request, desk, job_id).skip(job_id, by=caller.name)
    return _done(request, desk, job, sayings.skipped(job))


@router.post("/jobs/{job_id}/cancel", response_model=Done, responses=REFUSALS)
def cancel(request: Request, desk: AtDesk, caller: Operator, job_id: JobId) -> Response:
    """End a job and all below it: what waits ends now, what runs is told to stop. Safe to repeat."""
    job = _verbs(request, desk, job_id).cancel(job_id, by=caller.name)
    return _done(request, desk, job, sayings.cancelled(job))


@router.post("/jobs/{job_id}/stop", response_model=Done, responses=REFUSALS)
def stop(request: Request, desk: AtDesk, caller: Operator, job_id: JobId) -> Response:
    """Have a run, or a database of one, end after what runs now; what had not started is given up. `retry` reopens it; safe to repeat."""
    job = _verbs(request, desk, job_id).stop(job_id, by=caller.name)
    return _done(request, desk, job, sayings.stopped(job))


@router.post("/jobs/{job_id}/retry", response_model=Retried, responses=REFUSALS)
def retry(request: Request, desk: AtDesk, caller: Operator, job_id: JobId) -> Response:
    """Give another attempt to a job, or to what failed, was cancelled or deferred below it."""
    again = _verbs(request, desk, job_id).retry(job_id, by=caller.name)
    job = desk.job(job_id)
    now = Now.around(desk.app.reader, [job, *again])
    said = sayings.retried(again, served=desk.is_served(job.lane))
    return _done(request, desk, job, said, jobs=[now.document(each) for each in again])


@router.post("/jobs/{job_id}/limits", response_model=Done, responses=REFUSALS)
def limits(request: Request, desk: AtDesk, caller: Operator, job_id: JobId, asked: Limits) -> Response:
    """Give the run of a job other limits while it goes; what is not given stays. Safe to repeat."""
    verbs = _verbs(request, desk, job_id)
    run = verbs.limit(job_id, at_a_time=asked.at_a_time, until=asked.until, open_end=asked.open_end, by=caller.name)
    return _done(request, desk, run, sayings.limited(run))


def _verbs(request: Request, desk: Desk, job_id: str) -> Lifecycle:
    """The verbs, each refused where the job is not as the one who asks has seen it. Raises `UnknownName`."""
    desk.job(job_id)
    if "if-match" not in request.headers:
        return desk.app.lifecycle

    def as_seen(tx: Tx) -> None:
        if (job := tx.job(job_id)) is not None:
            check_unchanged(request, job)

    return desk.app.lifecycle.provided(as_seen)


def _done(request: Request, desk: Desk, job: Job, said: str, **more: list[Document]) -> Response:
    """What was done, and the job as it is now."""
    current = Now.around(desk.app.reader, [job]).document(job)
    return answer(request, {"said": said, "job": current, **more}, of=job)
