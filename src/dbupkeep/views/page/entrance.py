"""The way in and out: a form that takes a token and gives the browser a session."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from dbupkeep.views.page.form import Fields
from dbupkeep.views.page.room import is_within, room, root_of
from dbupkeep.views.page.templates import render
from dbupkeep.views.page.theme import theme_of
from dbupkeep.views.web.gate import Gate
from dbupkeep.views.web.paths import LOG_IN
from dbupkeep.views.web.roles import caller_of
from dbupkeep.views.web.sessions import begin, end

router = room()


@router.get(LOG_IN)
def form(request: Request, next: str = "/") -> Response:  # noqa: A002 - the word of the query
    """The form; who is logged in goes on."""
    if caller_of(request) is not None:
        return _on(request, next)
    return _form(request, next, failed=False)


@router.post(LOG_IN)
async def log_in(request: Request, fields: Fields) -> Response:
    """Take a token; it is in the body, never in the address."""
    there = fields.get("next", "")
    gate: Gate = request.app.state.gate
    secret = await gate.log_in(fields.get("token", ""))
    if secret is None:
        page = _form(request, there, failed=True)
        page.status_code = 401
        return page
    answer = _on(request, there)
    begin(answer, request, secret)
    return answer


@router.post("/logout")
async def log_out(request: Request) -> RedirectResponse:
    """End the session, here and in the ledger."""
    caller = caller_of(request)
    gate: Gate = request.app.state.gate
    if caller is not None and caller.session:
        await gate.log_out(caller.session)
    answer = RedirectResponse(root_of(request) + LOG_IN.removeprefix("/"), status_code=303)
    end(answer, request)
    return answer


def _form(request: Request, there: str, *, failed: bool) -> HTMLResponse:
    theme = theme_of(request)
    return render("login.html", next=_inside(there), root=root_of(request), failed=failed, caller=None, theme=theme)


def _on(request: Request, there: str) -> RedirectResponse:
    return RedirectResponse(root_of(request) + _inside(there).removeprefix("/"), status_code=303)


def _inside(there: str) -> str:
    """A path of this site; anything else is the first page."""
    return there if is_within(there) and not there.startswith(LOG_IN) else "/"
