"""What the API takes. Databases are named as the configuration names them: never by a path, never by a url."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field

from dbupkeep.config.names import LONGEST_NAME
from dbupkeep.jobs import JobStatus
from dbupkeep.lifecycle import MOST_AT_A_TIME
from dbupkeep.operations import Operation
from dbupkeep.views.api.models.words import Asked, Word
from dbupkeep.views.web.cursors import LONGEST

Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
"""Of something in the configuration."""

MOST = 500
"""Things on one page."""

LARGEST = 2**62
"""The highest number that may be asked for."""

FEW = 100
"""Targets or consents in one request."""


class Paged(Asked):
    """Which page of a list."""

    limit: int = Field(default=100, ge=1, le=MOST, description="How many.")
    cursor: str = Field(default="", max_length=LONGEST, description="From the `next` link of the page before.")


class WantedRuns(Paged):
    """Which runs."""

    status: list[JobStatus] = Field(default_factory=list, max_length=len(JobStatus), description="Any of these.")
    target: Word = Field(default="", description="The url of a database as jobs have it, its end, or a name.")


class WantedJobs(WantedRuns):
    """Which jobs."""

    type: list[Word] = Field(default_factory=list, max_length=10, description="Any of these.")
    parent: Word = Field(default="", description="The children of this job.")
    run: Word = Field(default="", description="Jobs of this run.")


class RunEvents(Asked):
    """Which events of a run."""

    after: int = Field(default=0, ge=0, le=LARGEST, description="Only events of a higher number.")
    limit: int = Field(default=200, ge=1, le=1000, description="How many.")


class WantedEvents(RunEvents):
    """Which events."""

    run: Word = Field(default="", description="Events of this run.")


class WantedHistory(Paged):
    """Which measurements."""

    target: Name | None = Field(default=None, description="The name of a target that is one database.")
    database: str = Field(
        default="", max_length=1000, pattern=r"^[^\x00]*$", description="The url of a database, as jobs have it."
    )


class Choice(Asked):
    """What is to be done in another way than the configuration says."""

    operations: Annotated[
        list[Operation] | None,
        Field(
            min_length=1,
            max_length=len(Operation),
            description="Null: those of the job, else vacuum, analyze, reindex.",
        ),
    ] = None
    policy: Annotated[Name | None, Field(description="A policy of the configuration.")] = None
    force: Annotated[bool, Field(description="Also what is not due.")] = False
    consents: list[Name] = Field(
        default_factory=list, max_length=FEW, description="Effects agreed to, by the names that a plan gives."
    )
    any_time: Annotated[bool, Field(description="Whatever the window of the job says.")] = False


class OfDefinition(Choice):
    """All databases of a job of the configuration."""

    definition: Annotated[Name, Field(description="The name of the job.")]


class OfTargets(Choice):
    """Targets of the configuration."""

    targets: Annotated[list[Name], Field(min_length=1, max_length=FEW, description="Names of targets.")]


class OfPlan(Asked):
    """Exactly what a saved plan says; refused where the database no longer fits it."""

    plan: Annotated[str, Field(min_length=1, max_length=100, description="The id of the plan.")]


class Limits(Asked):
    """Other limits for a run while it goes; what is not given stays."""

    at_a_time: Annotated[
        int | None,
        Field(ge=1, le=MOST_AT_A_TIME, description="So many operations at a time; holds for the next one that starts."),
    ] = None
    until: Annotated[
        AwareDatetime | None,
        Field(description="By when it is to have ended, in place of its window; what runs is stopped then."),
    ] = None
    open_end: Annotated[bool, Field(description="Take `until` back.")] = False
