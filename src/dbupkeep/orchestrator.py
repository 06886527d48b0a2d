"""Watching parents: a parent is the aggregate of its children, kept by the transaction of each child's change.

What is left to do is little and may be done by any process: settle a parent that a broken-off program left open, end
what somebody was about to end, and deliver again what lost its delivery. There is no thread and no timer for a parent, and no limit to its life.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from dbupkeep.ending import Ending, asked_of
from dbupkeep.events import Recorded
from dbupkeep.jobs import Job, JobStatus, Phase
from dbupkeep.ledger import JobQuery, Reader
from dbupkeep.lifecycle import Lifecycle

log = logging.getLogger(__name__)

PAGE = 500

SLICES = 8
"""How much of a broken-off cancel or stop one sweep ends: about a second, in which nobody looks after what runs."""


class ParentJobOrchestrator:
    """Settles parents from their children; every process may have one."""

    def __init__(self, lifecycle: Lifecycle, reader: Reader) -> None:
        """Stand on the verbs and the reads of one ledger."""
        self._lifecycle = lifecycle
        self._reader = reader

    def start_monitoring(self, parent_id: str) -> None:
        """Watch a parent from now on. Safe to repeat; a parent with nothing to run is settled at once."""
        parent = self._reader.job(parent_id)
        if parent is None or not parent.stats.unended:  # else the end of its last child settles it
            parent = self._lifecycle.settle(parent_id)
        fields = {"correlation_id": parent.correlation_id, "parent_id": parent.id, "children": parent.stats.total}
        log.info("monitoring started", extra=fields)

    def sweep(self) -> int:
        """Settle orphaned parents, go on with endings, deliver again what lost its delivery; returns how many were mended."""
        return self._settle_orphans() + self._rescue_undelivered()

    def follow(self, parent_id: str, after: int = 0) -> Iterator[Recorded]:
        """The events of a run that there are after a number, in order."""
        root = self._reader.job(parent_id)
        correlation_id = root.correlation_id if root else parent_id
        while True:
            events = self._reader.events(after, correlation_id=correlation_id, limit=PAGE)
            yield from events
            if len(events) < PAGE:
                return
            after = events[-1].seq

    def _settle_orphans(self) -> int:
        query = JobQuery(statuses=(JobStatus.RUNNING,), newest_first=False)
        mended, cursor = 0, ""
        while True:
            page = self._reader.jobs(query, cursor=cursor, limit=PAGE)
            for parent in (job for job in page.jobs if job.phase is Phase.ORCHESTRATION):
                if not parent.stats.unended:
                    mended += self._lifecycle.settle(parent.id).status.ended
                else:
                    mended += sum(self._go_on(parent, ending) for ending in asked_of(parent))
            cursor = page.cursor
            if not cursor:
                return mended

    def _go_on(self, parent: Job, ending: Ending) -> bool:
        """Go on with a cancel or stop whose asker was cut off in the middle; whether there was anything to do."""
        query = JobQuery(parent_id=parent.id, statuses=(JobStatus.PENDING, JobStatus.RUNNING), newest_first=False)
        owed = any(ending.is_owed(child) for child in self._reader.jobs(query, limit=PAGE).jobs)
        if owed:
            self._lifecycle.end_below(ending, parent.id, most=SLICES)
        return owed

    def _rescue_undelivered(self) -> int:
        query = JobQuery(released=True, newest_first=False)
        mended, cursor = 0, ""
        while True:
            page = self._reader.jobs(query, cursor=cursor, limit=PAGE)
            mended += self._lifecycle.rescue(page.jobs)
            cursor = page.cursor
            if not cursor:
                return mended
