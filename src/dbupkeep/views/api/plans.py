"""Routes of plans: make one, look at it again. `POST /runs` applies it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from dbupkeep.definitions import JobDefinition
from dbupkeep.documents import Document, plan_document, run_plan_document
from dbupkeep.errors import UsageError
from dbupkeep.manager import Planned
from dbupkeep.plans import Plan
from dbupkeep.views.api.contract import CONFLICT, NOT_FOUND, UNCHANGED, created, with_id
from dbupkeep.views.api.models.asked import OfDefinition, OfTargets
from dbupkeep.views.api.models.plans import Plan as PlanModel
from dbupkeep.views.api.models.plans import RunPlan
from dbupkeep.views.api.ordering import Key, order_of
from dbupkeep.views.web.answers import answer, place_at
from dbupkeep.views.web.desk import AtDesk, Desk
from dbupkeep.views.web.once import Once
from dbupkeep.views.web.roles import Operator, Viewer

router = APIRouter(tags=["plans"])

PlanId = Annotated[str, Path(max_length=100, pattern=r"^[^\x00]*$", description="The id of a plan.")]


@router.post(
    "/plans", response_model=RunPlan | PlanModel, status_code=201,
    responses=NOT_FOUND | CONFLICT | created(
        201, "The plan, saved.", "plan",
        links={
            "see": with_id("plan", "plan_id"),
            "apply": {"operationId": "start_run", "requestBody": {"plan": "$response.body#/id"}},
        },
    ),
)  # fmt: skip
def make_plan(
    request: Request, desk: AtDesk, caller: Operator, asked: OfDefinition | OfTargets, idempotency_key: Key = None
) -> Response:
    """Look at databases, decide what would be done, and save that; nothing is changed. Takes as long as looking does."""
    once = Once.of(idempotency_key, caller.name, "plan", asked)
    plan_id = once.earlier(desk.app.reader)
    if not plan_id:
        with desk.surveying():
            planned = _plan(desk, order_of(asked, by=caller.name).read(desk.config()))
        kept = desk.app.save(planned, once.turn(planned.id))
        plan_id = planned.id if kept else once.earlier(desk.app.reader)
    document = _document(desk.app.saved(plan_id))
    return answer(request, document, status=201, headers=place_at(request, f"plans/{plan_id}"))


@router.get("/plans/{plan_id}", response_model=RunPlan | PlanModel, responses=UNCHANGED | NOT_FOUND)
def plan(request: Request, desk: AtDesk, _caller: Viewer, plan_id: PlanId) -> Response:
    """A plan: one that was saved, or the one that a job of a database was made of."""
    return answer(request, _document(desk.app.saved(plan_id)))


def _plan(desk: Desk, definition: JobDefinition) -> Planned:
    if len(definition.steps) > 1:
        raise UsageError(
            f"{definition.name} has several steps, and cannot be saved as one plan",
            hint="plan its targets one by one; as a run each step is planned when its turn comes",
        )
    (step,) = definition.steps
    single = len(step.targets) == 1 and not step.targets[0].is_fleet
    return desk.app.databases.plan(step, definition) if single else desk.app.runs.plan(step, definition)


def _document(planned: Planned) -> Document:
    return plan_document(planned) if isinstance(planned, Plan) else run_plan_document(planned)
