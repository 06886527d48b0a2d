"""Tokens: who may call, kept beside the ledger."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request

from dbupkeep.app import App, state_folder
from dbupkeep.views.web.roles import Caller, Gate, Role

BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class OneToken:
    """The gate of a service that has only its first token."""

    token: str

    def caller(self, request: Request) -> Caller | None:
        """The administrator, when the token came as a bearer."""
        said = request.headers.get("authorization", "")
        given = said[len(BEARER) :] if said[: len(BEARER)].lower() == BEARER else ""
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            return None
        return Caller(name="first token", role=Role.ADMIN)


def first_gate(app: App, say: Callable[[str], None]) -> Gate:
    """The gate with the first token: from `DBUPKEEP_TOKEN`, or kept beside the ledger and told once."""
    if token := os.environ.get("DBUPKEEP_TOKEN"):
        return OneToken(token)
    path = _place(app.location)
    if path.exists():
        return OneToken(path.read_text(encoding="ascii").strip())
    token = secrets.token_urlsafe(32)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token + "\n")
    say(f"First token, told once and kept in {path}:  {token}")
    return OneToken(token)


def _place(location: str) -> Path:
    """Beside a ledger that is a file; else in the state folder."""
    scheme, remote, _ = location.partition("://")
    if remote and scheme != "sqlite":
        return state_folder() / "token"
    ledger = Path(location.removeprefix("sqlite://")).expanduser().absolute()
    return ledger.with_name(f"{ledger.name}.token")
