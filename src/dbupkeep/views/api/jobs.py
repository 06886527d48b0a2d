"""Routes of jobs: list them, look at one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from dbupkeep.documents import run_document
from dbupkeep.views.web.desk import AtDesk
from dbupkeep.views.web.roles import Viewer

router = APIRouter(tags=["jobs"])


@router.get("/jobs/{job_id}")
def job(job_id: str, desk: AtDesk, _caller: Viewer) -> dict[str, Any]:
    """One job; a parent with its child jobs, in order, under `jobs`."""
    return run_document(desk.job(job_id), desk.app.reader.children)
