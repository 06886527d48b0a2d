"""Routes of the configuration: its jobs, and when they run."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from dbupkeep.config.names import LONGEST_NAME
from dbupkeep.definitions import JobDefinition
from dbupkeep.documents import Document
from dbupkeep.views.api.contract import NOT_FOUND, UNCHANGED
from dbupkeep.views.api.models.service import Definition, DefinitionList, NextRuns, Schedule
from dbupkeep.views.scheduled import Scheduled, schedule_document
from dbupkeep.views.web.answers import answer
from dbupkeep.views.web.desk import AtDesk, Desk
from dbupkeep.views.web.roles import Viewer

router = APIRouter(tags=["definitions"])

Name = Annotated[str, Path(max_length=LONGEST_NAME, description="The name of a job of the configuration.")]


@router.get("/definitions", response_model=DefinitionList, responses=UNCHANGED)
def definitions(request: Request, desk: AtDesk, _caller: Viewer) -> Response:
    """The jobs of the configuration that is in force."""
    config = desk.config()
    found = [_definition(desk, job) for job in config.jobs.values()]
    return answer(request, {"definitions": found, "file": config.file or None})


@router.get("/definitions/{name}", response_model=Definition, responses=UNCHANGED | NOT_FOUND)
def definition(request: Request, desk: AtDesk, _caller: Viewer, name: Name) -> Response:
    """One job of the configuration."""
    return answer(request, _definition(desk, desk.config().job(name)))


@router.get("/definitions/{name}/next", response_model=NextRuns, responses=UNCHANGED | NOT_FOUND)
def next_runs(
    request: Request, desk: AtDesk, _caller: Viewer, name: Name,
    count: Annotated[int, Query(ge=1, le=100, description="How many, of a cron schedule.")] = 10,
) -> Response:  # fmt: skip
    """When a job runs next by itself."""
    seen = Scheduled.of(desk.app.reader, desk.config().job(name), desk.app.clock.now(), coming=count)
    document = seen.document()
    return answer(request, {field: document[field] for field in ("name", "words", "next")})


@router.get("/schedule", response_model=Schedule, responses=UNCHANGED)
def schedule(request: Request, desk: AtDesk, _caller: Viewer) -> Response:
    """What runs by itself and when, what waits and why, and whether a service is there that starts it."""
    jobs = list(desk.config().jobs.values())
    return answer(request, schedule_document(desk.app.reader, jobs, desk.app.clock.now()))


def _definition(desk: Desk, job: JobDefinition) -> Document:
    seen = Scheduled.of(desk.app.reader, job, desk.app.clock.now()).document()
    steps = [
        {
            "name": step.name,
            "action": step.action,
            "targets": [target.name for target in step.targets],
            "operations": [operation.value for operation in step.operations],
            "policy": step.policy.name,
            "on_error": step.errors.on_error.value,
        }
        for step in job.steps
    ]
    return {**seen, "lane": job.lane, "steps": steps}
