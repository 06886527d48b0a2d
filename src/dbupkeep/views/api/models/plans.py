"""Plans: what would be done, why, and at what cost."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dbupkeep.views.api.models.words import Bytes, Estimate, Given, Id, Moment, Notice, Values


class Space(Given):
    """Bytes wanted on one volume for the time of the work."""

    purpose: str
    folder: str
    needed: Bytes
    available: Bytes | None
    enough: bool


class PlanItem(Given):
    """A child job that there would be."""

    operation: str
    object: Annotated[str | None, Field(description="The index or table; null: the whole database.")]
    decision: Literal["run", "skip", "defer"]
    reason: Annotated[str, Field(description="Why, with the numbers.")]
    method: Annotated[str | None, Field(description="How: `in place`, `incremental`, ...")]
    estimate: Estimate
    locks: Annotated[str | None, Field(description="What others will notice.")]
    space: list[Space]
    evidence: Values
    members: Annotated[list[str], Field(description="Of a group of small objects: their names.")]
    place: Annotated[int, Field(description="In the plan, from 0.")]
    after: Annotated[list[int], Field(description="Places of the items that it waits for.")]
    notices: list[Notice]


class Plan(Given):
    """What would be done to one database."""

    id: Id
    name: str
    created_at: Moment
    target: Annotated[str, Field(description="The url of the database.")]
    engine: str
    engine_version: str
    bytes: Annotated[int, Field(description="On disk now.")]
    surveyed_at: Moment
    step: str | None
    lane: str
    operations: list[str]
    policy: str
    settings: Annotated[dict[str, dict[str, Any]], Field(description="Thresholds in force, by operation.")]
    jobs: Annotated[list[PlanItem], Field(description="One for each child job that there would be.")]
    notices: list[Notice]


class RunPlan(Given):
    """Plans of several databases as one run."""

    id: Id
    name: str
    created_at: Moment
    lane: str
    idle: Annotated[int, Field(description="Databases that need nothing and have no plan of their own.")]
    jobs: list[Plan]
    notices: Annotated[list[Notice], Field(description="Databases that cannot be worked on.")]
