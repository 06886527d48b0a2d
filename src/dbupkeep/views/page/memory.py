"""What need not be read for each page anew: the bytes that ended jobs gave back, and how many databases are known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated

from fastapi import Depends, Request

from dbupkeep.jobs import Job, JobStatus, Phase
from dbupkeep.ledger import Reader
from dbupkeep.results import gain_of

KEPT = 50_000
"""Ended parents whose sum is remembered."""


class Memory:
    """Sums over what has ended, which only a retry changes."""

    def __init__(self, reader: Reader) -> None:
        """Begin with nothing."""
        self._reader = reader
        self._planned = lru_cache(maxsize=KEPT)(self._bytes_of_plan)
        self._ended = lru_cache(maxsize=KEPT)(self._gain_of_ended)

    def gain(self, job: Job) -> int:
        """Bytes given back by a job and all below it, so far."""
        if job.phase is Phase.EXECUTION:
            return gain_of(job.result) if job.status is JobStatus.COMPLETED else 0
        if not job.stats.completed and not job.stats.running and not job.stats.failed and not job.stats.deferred:
            return 0
        if job.status.ended:
            return self._ended(job.id, job.finished_at)
        return self.sum(self._reader.children(job.id))

    def sum(self, jobs: Sequence[Job]) -> int:
        """The same of several jobs."""
        return sum(self.gain(job) for job in jobs)

    def planned_bytes(self, parent: Job) -> int | None:
        """How big a database was when it was planned; a plan never changes."""
        return self._planned(parent.plan_id) if parent.plan_id else None

    def _bytes_of_plan(self, plan_id: str) -> int | None:
        plan = self._reader.get("plan", plan_id) or {}
        size = (plan.get("facts") or {}).get("bytes")
        return int(size) if isinstance(size, (int, float)) else None

    def _gain_of_ended(self, job_id: str, _finished_at: datetime | None) -> int:
        return self.sum(self._reader.children(job_id))


def _at_hand(request: Request) -> Memory:
    memory: Memory = request.app.state.memory
    return memory


AtHand = Annotated[Memory, Depends(_at_hand)]
"""A parameter of a route that gets the memory."""
