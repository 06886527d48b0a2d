"""PgQueuer's queries held to the port: a worker that lost a delivery can neither renew nor remove it.

By itself PgQueuer renews and removes by the row alone, whoever holds it by then; it wants its entry points named
beforehand, at least two slots, and drops what a handler failed on. Each of these is one method here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from pgqueuer.domain.models import Job, TracebackRecord
from pgqueuer.domain.types import JOB_STATUS, JobId, QueueEntrypoint, QueueManagerId
from pgqueuer.ports.driver import Driver
from pgqueuer.queries import EntrypointExecutionParameter, Queries
from typing_extensions import override

from dbupkeep.queues.pgqueuer.tables import SCHEMA, builders

LANES = f"select distinct entrypoint from {SCHEMA}.pgqueuer where status in ('queued', 'picked')"  # noqa: S608 - fixed
DONE = f"delete from {SCHEMA}.pgqueuer where id = any($1::bigint[]) and queue_manager_id = $2"  # noqa: S608 - fixed
RENEW = f"update {SCHEMA}.pgqueuer set heartbeat = now() where id = any($1::bigint[]) and queue_manager_id = $2"  # noqa: S608 - fixed
GIVE_BACK = f"""
update {SCHEMA}.pgqueuer
set status = 'queued', queue_manager_id = null, updated = now(), execute_after = now() + interval '250 ms'
where id = any($1::bigint[]) and queue_manager_id = $2
"""  # noqa: S608 - fixed

ENTRYPOINT = QueueEntrypoint("dbupkeep")
"""The one that is registered; which lanes it stands for is asked for each time."""

UNLIMITED = EntrypointExecutionParameter(concurrency_limit=0)


class FencedQueries(Queries):
    """For one worker process."""

    def __init__(self, driver: Driver, *, lease: timedelta, lanes: Sequence[str], free: Callable[[], int]) -> None:
        """`free` says how many more deliveries the process can take; no lane named means all."""
        super().__init__(driver, **builders())
        self.worker: QueueManagerId | None = None  # set once it is known
        self._lease, self._lanes, self._free = lease, lanes, free

    @override
    async def dequeue(
        self,
        batch_size: int,
        entrypoints: dict[QueueEntrypoint, EntrypointExecutionParameter],
        queue_manager_id: QueueManagerId,
        global_concurrency_limit: int | None,
        heartbeat_timeout: timedelta,
    ) -> list[Job]:
        """Take the next delivery of these lanes while a slot is free; a lost one is older, so it comes first."""
        lanes = await self._served() if self._free() > 0 else []
        if not lanes:
            return []
        found = await super().dequeue(1, dict.fromkeys(lanes, UNLIMITED), queue_manager_id, None, self._lease)
        return [job.model_copy(update={"entrypoint": ENTRYPOINT, "headers": {"lane": job.entrypoint}}) for job in found]

    @override
    async def queued_work(self, entrypoints: list[QueueEntrypoint]) -> int:
        """Whether there is work that this process could take."""
        return await super().queued_work(await self._served()) if self._free() > 0 else 0

    @override
    async def eligible_queued_work(self, entrypoints: list[QueueEntrypoint]) -> int:
        """Whether there is work that this process could take now."""
        return await super().eligible_queued_work(await self._served()) if self._free() > 0 else 0

    @override
    async def next_deferred_eta(self, entrypoints: list[QueueEntrypoint]) -> timedelta | None:
        """When the next delayed delivery is due."""
        return await super().next_deferred_eta(await self._served())

    @override
    async def update_heartbeat(self, job_ids: list[JobId]) -> None:
        """Renew what this process still holds."""
        await self.driver.execute(RENEW, sorted(set(job_ids)), self.worker)

    @override
    async def log_jobs(self, job_status: list[tuple[Job, JOB_STATUS, TracebackRecord | None]]) -> None:
        """Remove what this process still holds and is done with; what its handler failed on comes again."""
        done = [job.id for job, status, _ in job_status if status != "exception"]
        failed = [job.id for job, status, _ in job_status if status == "exception"]
        if done:
            await self.driver.execute(DONE, done, self.worker)
        if failed:
            await self.driver.execute(GIVE_BACK, failed, self.worker)

    async def _served(self) -> list[QueueEntrypoint]:
        """The lanes that it takes from now."""
        if self._lanes:
            return [QueueEntrypoint(lane) for lane in self._lanes]
        return [QueueEntrypoint(str(row["entrypoint"])) for row in await self.driver.fetch(LANES)]
