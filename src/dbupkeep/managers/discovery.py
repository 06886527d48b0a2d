"""The manager of the action `database_discovery`: find the databases of a place and have each due one maintained."""

from __future__ import annotations

from dbupkeep.definitions import JobDefinition, Step
from dbupkeep.jobs import JobType
from dbupkeep.manager import JobManager, Planned


class DatabaseDiscoveryManager:
    """A discovery is a run whose only step names places; the run is the parent of all that is found."""

    action = JobType.DATABASE_DISCOVERY.value

    def __init__(self, runs: JobManager) -> None:
        """`runs` makes the tree."""
        self._runs = runs

    def plan(self, step: Step, definition: JobDefinition) -> Planned:
        """Find and survey; writes nothing."""
        return self._runs.plan(step, definition)

    def submit(self, plan: Planned, parent_job_id: str | None = None) -> str:
        """Submit what was planned."""
        return self._runs.submit(plan, parent_job_id)

    def create_parent_job(self, step: Step, definition: JobDefinition, parent_job_id: str | None = None) -> str:
        """Submit a run that finds databases while it goes; return its id."""
        return self._runs.create_parent_job(step, definition, parent_job_id)
