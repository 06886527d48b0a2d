"""A driver for PgQueuer that outlives its connections: a server that restarts must not end what runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Self, TypeVar

import psycopg
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from pgqueuer.core.tm import TaskManager, cancel_and_wait
from pgqueuer.ports.driver import Driver, NotifyCallback
from typing_extensions import override

from dbupkeep.queues.pgqueuer.tables import connect

log = logging.getLogger(__name__)

T = TypeVar("T")

AGAIN = 0.25
"""Seconds before the next try to connect; doubled up to ten times as much."""


class PersistentDriver(Driver):
    """Two connections, made when needed and again when lost: one for statements, and one that listens.

    PgQueuer's own driver holds its connection for up to a second while it listens, and statements wait for that.
    """

    def __init__(self, parameters: Mapping[str, Any], stopping: Callable[[], bool]) -> None:
        """`stopping` says when a lost connection is no longer waited for."""
        self._parameters, self._stopping = parameters, stopping
        self._working: psycopg.AsyncConnection[Any] | None = None
        self._listening: psycopg.AsyncConnection[Any] | None = None
        self._ears: PsycopgDriver | None = None
        self._listeners: list[tuple[str, NotifyCallback]] = []
        self._making = asyncio.Lock()
        self._shutdown = asyncio.Event()
        self._tm = TaskManager()

    @property
    @override
    def shutdown(self) -> asyncio.Event:
        """Set when nothing new is to be begun."""
        return self._shutdown

    @property
    @override
    def tm(self) -> TaskManager:
        """Tasks in the background: none of its own."""
        return self._tm

    @override
    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        """Run a statement and return its rows."""
        return await self._persist(lambda driver: driver.fetch(query, *args))

    @override
    async def execute(self, query: str, *args: object) -> str:
        """Run a statement and return its tag."""
        return await self._persist(lambda driver: driver.execute(query, *args))

    @override
    async def notify(self, channel: str, payload: str) -> None:
        """Tell others."""
        await self.execute("select pg_notify($1, $2)", channel, payload)

    @override
    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        """Have `callback` called; also after a lost connection."""
        self._listeners.append((channel, callback))
        await self._close_ears()

        async def nothing(_: PsycopgDriver) -> None: ...

        await self._persist(nothing)

    @override
    async def __aenter__(self) -> Self:
        """Connect when it is needed."""
        return self

    @override
    async def __aexit__(self, *_: object) -> None:
        """Stop listening. What is done is still told, so the other connection stays."""
        self._shutdown.set()
        self._listeners.clear()
        await self._close_ears()

    async def close(self) -> None:
        """Let go of everything."""
        await self._close_ears()
        await _close(self._working)
        self._working = None

    async def _persist(self, work: Callable[[PsycopgDriver], Awaitable[T]]) -> T:
        pause = AGAIN
        while True:
            try:
                driver = await self._connected()
                return await work(driver)
            except psycopg.OperationalError as error:
                alive = self._working is not None and not self._working.closed
                if alive or self._stopping():
                    raise
                log.warning("the ledger cannot be reached; trying again", extra={"error": type(error).__name__})
            await asyncio.sleep(pause)
            pause = min(10 * AGAIN, 2 * pause)

    async def _connected(self) -> PsycopgDriver:
        async with self._making:
            if self._working is None or self._working.closed:
                self._working = await connect(self._parameters)
            if self._listeners and (self._listening is None or self._listening.closed):
                await self._close_ears()
                self._listening = await connect(self._parameters)
                self._ears = PsycopgDriver(self._listening)
                for channel, callback in self._listeners:
                    await self._ears.add_listener(channel, callback)
            return PsycopgDriver(self._working)

    async def _close_ears(self) -> None:
        ears, self._ears = self._ears, None
        if ears is not None:
            ears.shutdown.set()
            for task in list(ears.tm.tasks):
                await cancel_and_wait(task)
        await _close(self._listening)
        self._listening = None


async def _close(connection: psycopg.AsyncConnection[Any] | None) -> None:
    if connection is not None:
        with suppress(psycopg.Error):
            await connection.close()
