"""The routes of the page: an error of theirs is told as a page, to people, where the API tells a problem to programs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from typing_extensions import override

from dbupkeep.errors import UpkeepError
from dbupkeep.views.page.templates import render
from dbupkeep.views.page.theme import theme_of
from dbupkeep.views.web.problems import STATUSES, Problem


class _Route(APIRoute):
    """A route whose refusals are pages."""

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


def _refusal(request: Request, status: int, message: str, hint: str) -> Response:
    root = str(request.scope.get("root_path", "")).rstrip("/") + "/"
    page = render(
        "refused.html", root=root, caller=None, status=status, message=message, hint=hint, theme=theme_of(request)
    )
    page.status_code = status
    return page
