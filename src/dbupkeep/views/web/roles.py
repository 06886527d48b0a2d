"""Who is calling, and what their role allows. A route names the role that it wants; there is no route without one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from msgspec import Struct

from dbupkeep.access import Role
from dbupkeep.views.web.forgery import csrf_of
from dbupkeep.views.web.problems import Problem

__all__ = ["Admin", "Caller", "Operator", "Role", "Viewer", "at_least", "caller_of", "unauthorized"]


class Caller(Struct, frozen=True, kw_only=True):
    """Who is calling."""

    name: str  # `token NAME`; stands in events and in the audit trail as who asked
    role: Role
    id: str = ""  # what limits are counted by
    session: str = ""  # the secret of a browser's session; empty for a bearer token

    def __repr__(self) -> str:  # type: ignore[explicit-override] # of 3.12
        """Without the session, wherever it ends up."""
        return f"Caller(name={self.name!r}, role={self.role!r})"

    @property
    def csrf(self) -> str:
        """What forms and the script of a page must send with a change; empty for a bearer token, which needs none."""
        return csrf_of(self.session) if self.session else ""


def caller_of(request: Request) -> Caller | None:
    """Who is calling, as the guard of the site found out."""
    caller: Caller | None = request.scope.get("state", {}).get("caller")
    return caller


def unauthorized() -> Problem:
    """The refusal of who is not known."""
    return Problem(
        401, "unauthorized", "no valid token came with the request", hint="send `Authorization: Bearer TOKEN`",
        headers={"WWW-Authenticate": "Bearer"},
    )  # fmt: skip


def at_least(role: Role) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency that lets pass who has the role. Raises `Problem` 401 and 403."""

    async def admitted(request: Request) -> Caller:  # waits for nothing; a plain function would get a thread
        caller = caller_of(request)
        if caller is None:
            raise unauthorized()
        if caller.role < role:
            raise Problem(
                403, "forbidden", f"this wants the role {role.word}, the token has {caller.role.word}",
                hint="ask for another token: `dbupkeep token create NAME --role ROLE`",
            )  # fmt: skip
        return caller

    admitted.role = role  # type: ignore[attr-defined] # so that a test can ask every route
    return admitted


Viewer = Annotated[Caller, Depends(at_least(Role.VIEWER))]
Operator = Annotated[Caller, Depends(at_least(Role.OPERATOR))]
Admin = Annotated[Caller, Depends(at_least(Role.ADMIN))]
