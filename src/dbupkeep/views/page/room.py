"""The routes of the page: an error of theirs is told as a page, to people, where the API tells a problem to programs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from typing_extensions import override

from dbupkeep.errors import UpkeepError
from dbupkeep.views.page.templates import render
from dbupkeep.views.page.theme import theme_of
from dbupkeep.views.web.paths import is_for_people, path_of
from dbupkeep.views.web.problems import SAID, STATUSES, Problem


class _Route(APIRoute):
    """A route whose refusals are pages, and that tells by HEAD what it would tell by GET, to those who look at links."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as the framework has it
        """As the framework does; HEAD is answered where GET is. The server leaves out the body."""
        super().__init__(*args, **kwargs)
        self.methods: set[str] = self.methods or set()
        if "GET" in self.methods:
            self.methods.add("HEAD")

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except UpkeepError as error:
                status = next(STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)
                return _refusal(request, status, error.message, error.hint)
            except Problem as error:
                if error.status == 401:  # noqa: PLR2004 - the guard leads to the log-in
                    raise
                return _refusal(request, error.status, error.detail, error.hint)

        return handled


def room() -> APIRouter:
    """A router for pages; they are no part of the API's description."""
    return APIRouter(include_in_schema=False, route_class=_Route)


def root_of(request: Request) -> str:
    """What stands before every path of the site, behind a proxy; `/` where there is none."""
    return str(request.scope.get("root_path", "")).rstrip("/") + "/"


def is_within(path: str) -> bool:
    """Whether a path leads to this site and nowhere else, whatever a browser makes of it."""
    return path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()


def tell_people(site: FastAPI) -> None:
    """Have a path that is none, and a method that is none of a path, told to people as a page.

    To be called once the site tells problems: programs are told what it says.
    """
    to_programs = site.exception_handlers[HTTPException]

    @site.exception_handler(HTTPException)
    def told(request: Request, error: HTTPException) -> Response:
        if not is_for_people(path_of(request.scope), request.headers.get("accept", "")):
            answer: Response = to_programs(request, error)  # type: ignore[assignment] # it does not wait
            return answer
        message = SAID.get(error.status_code, str(error.detail))
        page = _refusal(request, error.status_code, message, "")
        page.headers.update(error.headers or {})
        return page


def _refusal(request: Request, status: int, message: str, hint: str) -> Response:
    page = render(
        "refused.html", root=root_of(request), caller=None, status=status, message=message, hint=hint,
        theme=theme_of(request),
    )  # fmt: skip
    page.status_code = status
    return page
