"""One sheet of the page: who looks at it, when, and up to which event it is true; made before anything is read for it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from msgspec import Struct

import dbupkeep
from dbupkeep.errors import UnknownName
from dbupkeep.jobs import Job
from dbupkeep.ledger import Reader
from dbupkeep.views.page.room import root_of
from dbupkeep.views.page.templates import render
from dbupkeep.views.page.theme import theme_of
from dbupkeep.views.web.desk import AtDesk, Desk
from dbupkeep.views.web.roles import Admin, Caller, Operator, Role, Viewer


class Sheet(Struct, frozen=True, kw_only=True):
    """What every page has."""

    request: Request
    desk: Desk
    caller: Caller
    now: datetime
    seq: int  # the newest event when this was made: what follows comes by the stream

    @property
    def reader(self) -> Reader:
        """The ledger."""
        return self.desk.app.reader

    @property
    def root(self) -> str:
        """What stands before every path of the site, behind a proxy."""
        return root_of(self.request)

    def job(self, job_id: str) -> Job:
        """A job by its whole id. Raises `UnknownName`."""
        job = self.desk.app.reader.job(job_id)
        if job is None or job.id != job_id:
            raise UnknownName(
                f"there is no job {job_id}", hint="it was pruned, or never was; the overview lists what there is"
            )
        return job

    def show(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:  # noqa: ANN401 - a template takes what it names
        """A page."""
        page = render(
            template, root=self.root, caller=self.caller, csrf=self.caller.csrf, now=self.now, seq=self.seq, path=self.request.url.path, back=self._here,
            may_act=self.caller.role >= Role.OPERATOR, is_admin=self.caller.role >= Role.ADMIN,
            theme=theme_of(self.request), version=dbupkeep.__version__, **values,
        )  # fmt: skip
        page.status_code = status
        return page

    @property
    def _here(self) -> str:
        """What the browser asked for, its filter and page included."""
        asked = self.request.url
        return f"{asked.path}?{asked.query}" if asked.query else asked.path

    def go(self, path: str) -> RedirectResponse:
        """Have the browser go to a path of the site, after a form."""
        return RedirectResponse(f"{self.root}{path}", status_code=303)


def _sheet(request: Request, desk: Desk, caller: Caller) -> Sheet:
    seq = desk.app.reader.newest()
    return Sheet(request=request, desk=desk, caller=caller, now=desk.app.clock.now(), seq=seq)


def _to_look(request: Request, desk: AtDesk, caller: Viewer) -> Sheet:
    return _sheet(request, desk, caller)


def _to_act(request: Request, desk: AtDesk, caller: Operator) -> Sheet:
    return _sheet(request, desk, caller)


def _to_administer(request: Request, desk: AtDesk, caller: Admin) -> Sheet:
    return _sheet(request, desk, caller)


ToLook = Annotated[Sheet, Depends(_to_look)]
"""A parameter of a route that shows something."""

ToAct = Annotated[Sheet, Depends(_to_act)]
"""A parameter of a route that changes something."""

ToAdminister = Annotated[Sheet, Depends(_to_administer)]
"""A parameter of a route for administrators."""
