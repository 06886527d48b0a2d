"""Routes of runs: start one, list them, see one as a tree, what it came to."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from dbupkeep.documents import run_document
from dbupkeep.ledger import JobQuery
from dbupkeep.views.api.contract import CONFLICT, NOT_FOUND, UNCHANGED, created, with_id
from dbupkeep.views.api.events import some_events
from dbupkeep.views.api.jobs import some_jobs
from dbupkeep.views.api.models.asked import OfDefinition, OfPlan, OfTargets, RunEvents, WantedRuns
from dbupkeep.views.api.models.jobs import EventList, JobList, Parent, Report, Tree
from dbupkeep.views.api.ordering import Key, order_of
from dbupkeep.views.reports.run import of_run
from dbupkeep.views.web.answers import answer, place_at
from dbupkeep.views.web.desk import AtDesk, Desk
from dbupkeep.views.web.now import Now
from dbupkeep.views.web.once import Once
from dbupkeep.views.web.roles import Operator, Viewer

router = APIRouter(tags=["runs"])

RunId = Annotated[str, Path(max_length=100, pattern=r"^[^\x00]*$", description="The id of a run.")]


@router.post(
    "/runs", response_model=Parent, status_code=202,
    responses=NOT_FOUND | CONFLICT | created(
        202, "The run: it is planned and carried out by worker processes.", "run",
        links={
            "see": with_id("run", "run_id"),
            **{verb: with_id(verb, "job_id") for verb in ("pause", "resume", "stop", "cancel", "retry", "skip")},
        },
    ),
)  # fmt: skip
def start_run(
    request: Request, desk: AtDesk, caller: Operator, asked: OfDefinition | OfTargets | OfPlan, idempotency_key: Key = None
) -> Response:  # fmt: skip
    """Start a run: of a job of the configuration, of some of its targets, or of exactly what a saved plan says.

    A plan that its database no longer fits is refused (409, kind `drift`), and what changed is named.
    """
    once = Once.of(idempotency_key, caller.name, "run", asked)
    run_id = once.earlier(desk.app.reader)
    if not run_id:
        run_id = _started(desk, asked, once, by=caller.name) or once.earlier(desk.app.reader)
    run = desk.job(run_id)
    document = Now.around(desk.app.reader, [run]).document(run)
    return answer(request, document, status=202, of=run, headers=place_at(request, f"runs/{run.id}"))


@router.get("/runs", response_model=JobList, responses=UNCHANGED)
def runs(request: Request, desk: AtDesk, _caller: Viewer, wanted: Annotated[WantedRuns, Query()]) -> Response:
    """Runs, the newest first."""
    query = JobQuery(roots=True, statuses=tuple(wanted.status), target=wanted.target)
    return some_jobs(request, desk, query, wanted)


@router.get("/runs/{run_id}", response_model=Tree, responses=UNCHANGED | NOT_FOUND)
def run(request: Request, desk: AtDesk, _caller: Viewer, run_id: RunId) -> Response:
    """A run with all below it, as one tree."""
    found = desk.whole_run(run_id)
    return answer(request, run_document(found, desk.app.reader.children), of=found)


@router.get("/runs/{run_id}/events", response_model=EventList, responses=UNCHANGED | NOT_FOUND)
def run_events(
    request: Request, desk: AtDesk, _caller: Viewer, run_id: RunId, wanted: Annotated[RunEvents, Query()]
) -> Response:
    """What happened in a run, in order."""
    return some_events(request, desk, desk.run(run_id).id, after=wanted.after, limit=wanted.limit)


@router.get("/runs/{run_id}/report", response_model=Report, responses=UNCHANGED | NOT_FOUND)
def run_report(request: Request, desk: AtDesk, _caller: Viewer, run_id: RunId) -> Response:
    """What a run gave back, what it did, and what it did not do and why."""
    found = of_run(desk.whole_run(run_id), desk.app.reader.children, ()).document()
    del found["events"]  # they have a route of their own
    return answer(request, found)


def _started(desk: Desk, asked: OfDefinition | OfTargets | OfPlan, once: Once, *, by: str) -> str:
    """The id of the new run; empty where the same request was quicker."""
    if isinstance(asked, OfPlan):
        with desk.surveying():
            return desk.app.apply(desk.app.saved(asked.plan), along=once.along())
    return desk.app.runs.create_run(order_of(asked, by=by).read(desk.config()), along=once.along())
