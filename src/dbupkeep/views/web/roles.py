"""Who is calling, and what their role allows. A route names the role that it wants; there is no route without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Protocol

from fastapi import Depends, Request

from dbupkeep.views.web.problems import Problem


class Role(IntEnum):
    """What a caller may do; each includes the ones before."""

    VIEWER = 1  # look
    OPERATOR = 2  # plan, run, pause, resume, skip, cancel, retry
    ADMIN = 3  # tokens, configuration, audit trail


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is calling."""

    name: str  # of the token; stands in events as who asked
    role: Role


class Gate(Protocol):
    """Recognises callers."""

    def caller(self, request: Request) -> Caller | None:
        """Who is calling; None when nobody says or it cannot be believed."""
        ...


def at_least(role: Role) -> Callable[[Request], Caller]:
    """A dependency that lets pass who has the role. Raises `Problem` 401 and 403."""

    def admitted(request: Request) -> Caller:
        gate: Gate = request.app.state.gate
        caller = gate.caller(request)
        if caller is None:
            raise Problem(
                401, "unauthorized", "no valid token came with the request", hint="send `Authorization: Bearer TOKEN`"
            )
        if caller.role < role:
            raise Problem(
                403, "forbidden", f"this wants the role {role.name.lower()}, the token has {caller.role.name.lower()}"
            )
        return caller

    return admitted


Viewer = Annotated[Caller, Depends(at_least(Role.VIEWER))]
Operator = Annotated[Caller, Depends(at_least(Role.OPERATOR))]
Admin = Annotated[Caller, Depends(at_least(Role.ADMIN))]
