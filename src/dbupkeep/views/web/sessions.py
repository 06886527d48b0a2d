"""The cookie of a session: not for scripts, not sent along from other sites, and over TLS not without it."""

from __future__ import annotations

from fastapi import Request, Response

from dbupkeep.access import SESSION_LASTS
from dbupkeep.views.web.gate import COOKIE


def begin(response: Response, request: Request, secret: str) -> None:
    """Give the browser the secret of its session."""
    response.set_cookie(
        COOKIE, secret, max_age=int(SESSION_LASTS.total_seconds()), path=_path(request), httponly=True, samesite="strict",
        secure=bool(request.app.state.https),
    )  # fmt: skip


def end(response: Response, request: Request) -> None:
    """Take it back."""
    response.delete_cookie(
        COOKIE, path=_path(request), httponly=True, samesite="strict", secure=bool(request.app.state.https)
    )


def _path(request: Request) -> str:
    root: str = request.scope.get("root_path", "")
    return root or "/"
