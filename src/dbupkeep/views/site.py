"""The HTTP application of a service: API and page on one desk, and the guard around both."""

from __future__ import annotations

from fastapi import Depends, FastAPI

import dbupkeep
from dbupkeep.clock import Clock
from dbupkeep.views import metrics
from dbupkeep.views.api import audit, definitions, events, jobs, plans, runs, service, targets, verbs
from dbupkeep.views.api.contract import describe
from dbupkeep.views.page.memory import Memory
from dbupkeep.views.page.room import tell_people
from dbupkeep.views.page.rooms import ROUTERS
from dbupkeep.views.web.answers import API
from dbupkeep.views.web.denials import Denials
from dbupkeep.views.web.desk import Desk
from dbupkeep.views.web.gate import Gate
from dbupkeep.views.web.guard import Guard
from dbupkeep.views.web.hosts import Hosts
from dbupkeep.views.web.limits import Limits
from dbupkeep.views.web.problems import tell_problems
from dbupkeep.views.web.queries import said_once


def make_site(desk: Desk, gate: Gate, *, https: bool = False) -> FastAPI:
    """All routes. Only served inside of `guarded`: without it nobody is known, so all that is not public refuses."""
    site = FastAPI(
        title="dbupkeep",
        version=dbupkeep.__version__,
        openapi_url=f"{API}/openapi.json",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    site.state.desk = desk
    site.state.gate = gate
    site.state.https = https
    site.state.memory = Memory(desk.app.reader)
    tell_problems(site)
    tell_people(site)
    for rooms in (definitions, plans, runs, jobs, verbs, events, targets, service, audit):
        site.include_router(rooms.router, prefix=API, dependencies=[Depends(said_once)])
    site.include_router(service.public)
    describe(site)
    site.include_router(metrics.router)
    for router in ROUTERS:
        site.include_router(router)
    return site


def guarded(site: FastAPI, *, clock: Clock, hosts: Hosts | None = None, limits: Limits | None = None) -> Guard:
    """The site with all that stands before its routes; this is what a server serves."""
    desk: Desk = site.state.desk
    return Guard(
        site=site, hosts=hosts or Hosts.of(), gate=site.state.gate, limits=limits or Limits(clock.monotonic),
        denials=Denials(desk.app.lifecycle.record, clock.monotonic), https=site.state.https,
    )  # fmt: skip
