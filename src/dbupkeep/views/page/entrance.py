"""The way in and out: a form that takes a token and gives the browser a session."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse

from dbupkeep.views.page.room import room
from dbupkeep.views.page.templates import render
from dbupkeep.views.page.theme import theme_of
from dbupkeep.views.web.gate import Gate
from dbupkeep.views.web.paths import LOG_IN
from dbupkeep.views.web.roles import caller_of
from dbupkeep.views.web.sessions import begin, end

router = room()


@router.get(LOG_IN)
def form(request: Request, next: str = "/") -> HTMLResponse:  # noqa: A002 - the word of the query
    """The form; who is logged in goes on."""
    if caller_of(request) is not None:
        return _on(request, next)  # type: ignore[return-value]
    return _form(request, next, failed=False)


@router.post(LOG_IN)
async def log_in(request: Request) -> HTMLResponse:
    """Take a token; it is in the body, never in the address."""
    fields = parse_qs((await request.body()).decode("ascii", "replace"), max_num_fields=10)
    token, there = (fields.get(name, [""])[0] for name in ("token", "next"))
    gate: Gate = request.app.state.gate
    secret = await gate.log_in(token.strip())
    if secret is None:
        page = _form(request, there, failed=True)
        page.status_code = 401
        return page
    answer = _on(request, there)
    begin(answer, request, secret)
    return answer  # type: ignore[return-value]


@router.post("/logout")
async def log_out(request: Request) -> RedirectResponse:
    """End the session, here and in the ledger."""
    caller = caller_of(request)
    gate: Gate = request.app.state.gate
    if caller is not None and caller.session:
        await gate.log_out(caller.session)
    answer = RedirectResponse(f"{_root(request)}{LOG_IN}", status_code=303)
    end(answer, request)
    return answer


def _form(request: Request, there: str, *, failed: bool) -> HTMLResponse:
    theme = theme_of(request)
    return render("login.html", next=_inside(there), root=f"{_root(request)}/", failed=failed, caller=None, theme=theme)


def _on(request: Request, there: str) -> RedirectResponse:
    return RedirectResponse(f"{_root(request)}{_inside(there)}", status_code=303)


def _inside(there: str) -> str:
    """A path of this site; anything else is the first page."""
    inside = there.startswith("/") and not there.startswith("//") and "\\" not in there and there.isprintable()
    return there if inside and not there.startswith(LOG_IN) else "/"


def _root(request: Request) -> str:
    root: str = request.scope.get("root_path", "")
    return root
