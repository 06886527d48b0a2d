"""Connections that send nothing, or a little now and then, are closed; and there are only so many."""

from __future__ import annotations

import asyncio
from typing import Any

from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""How long the head of a request may take to arrive, from its first byte on; of a new connection, from its beginning."""

CONNECTIONS = 400
"""How many there may be at a time: the event streams, and room for requests beside them."""


class PatientProtocol(H11Protocol):
    """Reads requests of one connection, and does not wait for ever."""

    head_seconds = HEAD_SECONDS
    connections_at_most = CONNECTIONS

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - as the server makes it
        """Begin with nothing to wait for."""
        super().__init__(*arguments, **named)
        self._waiting: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as the base narrows it
        super().connection_made(transport)
        if len(self.connections) > self.connections_at_most:
            transport.abort()
            return
        self._wait()

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:  # type: ignore[redundant-expr] # None before the first request
            self._wait()
        else:
            self._waited()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._waited()
        super().connection_lost(exc)

    def _wait(self) -> None:
        """For the head of the next request, unless that is waited for already."""
        if self._waiting is None and not self.transport.is_closing():
            self._waiting = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _waited(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
