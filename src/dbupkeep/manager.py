"""The port to code that turns a step of a definition into jobs, and to what watches over them."""

from __future__ import annotations

from typing import Protocol

from dbupkeep.definitions import JobDefinition, Step
from dbupkeep.plans import Plan, RunPlan

Planned = Plan | RunPlan


class JobManager(Protocol):
    """Creates the jobs of one action. Found by the entry point group `dbupkeep.managers`, or registered."""

    @property
    def action(self) -> str:
        """What a step says to select it."""
        ...

    def plan(self, step: Step, definition: JobDefinition) -> Planned:
        """Survey the step's target or targets and decide; writes nothing."""
        ...

    def submit(self, plan: Planned, parent_job_id: str | None = None) -> str:
        """Write the plan's parent and children and enqueue them, in one transaction; return the parent's id."""
        ...

    def create_parent_job(self, step: Step, definition: JobDefinition, parent_job_id: str | None = None) -> str:
        """Plan and submit; return the parent's id, never a child's."""
        ...


class Monitoring(Protocol):
    """What a manager needs of an orchestrator."""

    def start_monitoring(self, parent_id: str) -> None:
        """Watch a parent from now on; called once, after all its children are enqueued and committed."""
        ...
