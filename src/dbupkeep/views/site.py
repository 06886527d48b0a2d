"""The HTTP application of a service: API and page on one desk, behind one gate."""

from __future__ import annotations

from fastapi import FastAPI

import dbupkeep
from dbupkeep.views.api import jobs
from dbupkeep.views.page import overview
from dbupkeep.views.web.desk import Desk
from dbupkeep.views.web.problems import tell_problems
from dbupkeep.views.web.roles import Gate

API = "/api/v1"


def make_site(desk: Desk, gate: Gate) -> FastAPI:
    """All routes; what guards them is put around them here and nowhere else."""
    site = FastAPI(
        title="dbupkeep", version=dbupkeep.__version__, openapi_url=f"{API}/openapi.json", docs_url=None, redoc_url=None
    )
    site.state.desk = desk
    site.state.gate = gate
    tell_problems(site)
    site.include_router(jobs.router, prefix=API)
    site.include_router(overview.router)
    return site
