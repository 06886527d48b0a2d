"""The first page: what is running, what is due, what was not done and why."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from dbupkeep.ledger import JobQuery
from dbupkeep.views.page.templates import render
from dbupkeep.views.web.desk import AtDesk
from dbupkeep.views.web.roles import Viewer

router = APIRouter(include_in_schema=False)

SHOWN = 20


@router.get("/")
def overview(desk: AtDesk, _caller: Viewer) -> HTMLResponse:
    """The newest runs."""
    runs = desk.app.reader.jobs(JobQuery(roots=True), limit=SHOWN).jobs
    return render("overview.html", runs=runs)
