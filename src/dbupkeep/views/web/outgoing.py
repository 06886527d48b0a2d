"""Sends answers: with the headers that protect, and streams only to whom they may go."""

from __future__ import annotations

import math

from dbupkeep.errors import LedgerError
from dbupkeep.views.web.gate import Gate
from dbupkeep.views.web.headers import protected
from dbupkeep.views.web.limits import Limits
from dbupkeep.views.web.paths import is_public, path_of
from dbupkeep.views.web.problems import Problem
from dbupkeep.views.web.wire import Message, Scope, Send, decoded, respond


class Ended(OSError):
    """There are as many event streams as there may be, or this one may not go on; the client was told."""


class Outgoing:
    """Sends an answer with our headers; an event stream only while there are not too many, and its caller may have it."""

    def __init__(self, scope: Scope, send: Send, limits: Limits, gate: Gate, *, secure: bool) -> None:
        """Begin with nothing sent."""
        self._scope = scope
        self._send = send
        self._limits = limits
        self._gate = gate
        self._secure = secure
        self._stream: str | None = None
        self.turned_away = False
        self.status = 0

    async def send(self, message: Message) -> None:
        """Send a part of the answer. Raises `Ended` when no more of it may be."""
        if self.turned_away:
            raise Ended
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif self._stream is not None and not await self._is_wanted():
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            self._turn_away()
        await self._send(message)

    def end(self) -> None:
        """All was sent that will be."""
        if self._stream is not None:
            self._limits.close_stream(self._stream)

    async def _begin(self, message: Message) -> None:
        self.status = message["status"]
        public = is_public(path_of(self._scope))
        message["headers"] = protected(message.get("headers", []), public=public, secure=self._secure)
        if _is_stream(message) and not self._open_stream():
            await respond(too_many(5.0).response(), self._scope, self._send)
            self._turn_away()

    def _turn_away(self) -> None:
        """Have whoever makes the answer stop, as if the client had gone."""
        self.turned_away = True
        raise Ended

    def _open_stream(self) -> bool:
        caller = self._scope["state"].get("caller")
        key = caller.id if caller else ""
        if not self._limits.open_stream(key):
            return False
        self._stream = key
        return True

    async def _is_wanted(self) -> bool:
        """Whether the token or session of a stream is still one."""
        try:
            return await self._gate.caller(dict(decoded(self._scope))) is not None
        except LedgerError:  # nothing new is told without the ledger either
            return True


def too_many(seconds: float) -> Problem:
    """The refusal of who asks too much."""
    return Problem(
        429, "too_many_requests", "too many requests", hint=f"wait {math.ceil(seconds)} s, and ask less often",
        headers={"Retry-After": str(math.ceil(seconds))},
    )  # fmt: skip


def _is_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in message["headers"]
    )
