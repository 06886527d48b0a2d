"""One worker process's share in serving: PgQueuer's queue manager on an event loop, handlers on threads."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
from pgqueuer.core.executors import AbstractEntrypointExecutor, EntrypointExecutorParameters
from pgqueuer.domain.models import Context, Job
from pgqueuer.qm import QueueManager
from typing_extensions import override

from dbupkeep.errors import LedgerError
from dbupkeep.jobs import Delivery
from dbupkeep.queue import Handler
from dbupkeep.queues.pgqueuer.connection import PersistentDriver
from dbupkeep.queues.pgqueuer.fenced import ENTRYPOINT, FencedQueries
from dbupkeep.queues.pgqueuer.tables import delivery_of, settings

if TYPE_CHECKING:
    from dbupkeep.queues.pgqueuer import Store

log = logging.getLogger(__name__)

LOOK = 5.0
"""Seconds between looks for lost deliveries at most; new ones are told."""

NEVER = timedelta(0)


class Server:
    """Serves once."""

    def __init__(self, store: Store, lease: float, lanes: Sequence[str], slots: int, handler: Handler) -> None:
        """Take the arguments of `Queue.serve`."""
        self._store, self._lease, self._lanes = store, lease, lanes
        self._slots, self._handler = slots, handler

    async def serve(self, stop: threading.Event) -> None:
        """Serve until `stop` is set, and until the handlers have returned."""
        driver = PersistentDriver(self._store.address.parameters, stop.is_set)
        manager = self._manager(driver, stop)
        worker = str(manager.queue_manager_id)
        ended = threading.Event()
        with ThreadPoolExecutor(self._slots + 2, thread_name_prefix="dbupkeep-slot") as threads:
            manager.register_executor(ENTRYPOINT, _Executor(self._handler, worker, threads))
            loop = asyncio.get_running_loop()
            watch = loop.run_in_executor(threads, _watch, stop, ended, loop, manager)
            await loop.run_in_executor(threads, self._say_alive, worker)
            alive = asyncio.create_task(self._stay_alive(worker, threads))
            try:
                await self._run(manager, stop)
            finally:
                ended.set()
                await watch
                alive.cancel()
                with suppress(asyncio.CancelledError):
                    await alive
                await driver.close()
                await loop.run_in_executor(threads, self._leave, worker)

    def _manager(self, driver: PersistentDriver, stop: threading.Event) -> QueueManager:
        def free() -> int:  # none from the moment that it is to stop: the manager hears of that a little later
            return 0 if stop.is_set() else self._slots - len(manager.job_context)

        queries = FencedQueries(driver, lease=timedelta(seconds=self._lease), lanes=self._lanes, free=free)
        manager = QueueManager(queries, channel=settings().channel)
        queries.worker = manager.queue_manager_id
        return manager

    async def _run(self, manager: QueueManager, stop: threading.Event) -> None:
        try:
            await manager.run(
                dequeue_timeout=timedelta(seconds=min(LOOK, self._lease / 4)),
                batch_size=1,
                heartbeat_timeout=timedelta(seconds=self._lease / 2),  # it renews at half of what it is told
                log_aggregation_interval=NEVER,
            )
        except psycopg.OperationalError:
            if not stop.is_set():
                raise
            log.warning("the ledger cannot be reached; a lease is left as it is")

    async def _stay_alive(self, worker: str, threads: ThreadPoolExecutor) -> None:
        while True:
            await asyncio.sleep(self._lease / 4)
            await asyncio.get_running_loop().run_in_executor(threads, self._say_alive, worker)

    def _say_alive(self, worker: str) -> None:
        lanes = json.dumps(list(self._lanes))
        try:
            self._store.reading().run("worker_put", id=worker, lanes=lanes, lease=self._lease)
        except LedgerError as error:
            log.warning("the ledger cannot be used; a lease is left as it is", extra={"error": error.message})

    def _leave(self, worker: str) -> None:
        try:
            self._store.reading().run("worker_drop", id=worker)
        except LedgerError as error:
            log.warning("the ledger cannot be used; a lease is left as it is", extra={"error": error.message})


class _Executor(AbstractEntrypointExecutor):
    """Calls the handler on a thread."""

    def __init__(self, handler: Handler, worker: str, threads: ThreadPoolExecutor) -> None:
        super().__init__(EntrypointExecutorParameters(concurrency_limit=0, func=_unused))
        self._handler, self._worker, self._threads = handler, worker, threads

    @override
    async def execute(self, job: Job, context: Context) -> None:
        """Deal with one delivery; raises when it is to come again."""
        lane = str((job.headers or {})["lane"])
        delivery = delivery_of(job.payload, lane)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, _call, self._handler, delivery, self._worker)


def _call(handler: Handler, delivery: Delivery, worker: str) -> None:
    try:
        handler(delivery, worker)
    except SystemExit as error:  # it would end the loop, and with it all that runs
        raise LedgerError("a handler wanted the process to end") from error


def _watch(
    stop: threading.Event, ended: threading.Event, loop: asyncio.AbstractEventLoop, manager: QueueManager
) -> None:
    """Bring the news that it is to stop from the threads' world to the loop's."""
    while not ended.is_set():
        if stop.wait(0.1):
            loop.call_soon_threadsafe(manager.shutdown.set)
            return


async def _unused(job: Job) -> None:
    """PgQueuer wants a function; the executor calls the handler itself."""
