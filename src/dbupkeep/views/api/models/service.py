"""What the configuration defines, and how the service is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dbupkeep.definitions import OnError, Overlap
from dbupkeep.operations import Operation
from dbupkeep.views.api.models.words import Given, Moment, Values


class Step(Given):
    """One step of a job: an action on targets."""

    name: str
    action: str
    targets: Annotated[list[str], Field(description="Names of targets.")]
    operations: list[Operation]
    policy: str
    on_error: Annotated[OnError, Field(description="What a failure means for the rest.")]


class Window(Given):
    """When work may start."""

    name: str
    open: Annotated[str, Field(description="Cron, in the time zone of the job.")]
    lasts: Annotated[float, Field(description="Seconds.")]
    soft_stop: Annotated[
        float, Field(description="Nothing is started that would end later than so many seconds before it closes.")
    ]
    opens: Annotated[Moment | None, Field(description="Now open since, or open next; null: never.")]
    closes: Moment | None


class Held(Given):
    """A due time for which no run was started."""

    due: Moment
    reason: str


class Last(Given):
    """The newest run of a job."""

    id: str
    outcome: str | None
    started_at: Moment | None
    finished_at: Moment | None


class Looked(Given):
    """What a look whether anything of a job is due found."""

    at: Moment
    due: Annotated[int, Field(description="Operations.")]
    databases: Annotated[int, Field(description="That were surveyed.")]
    faults: Annotated[list[str], Field(description="What kept it from looking at the others.")]
    words: Annotated[str, Field(description="The same for people.")]


class Scheduled(Given):
    """When a job runs by itself."""

    name: str
    schedule: Annotated[str | None, Field(description="Cron, five fields.")]
    every: Annotated[float | None, Field(description="Seconds since the last success.")]
    when_due: Annotated[
        float | None, Field(description="Seconds between two looks; it starts when one finds something due.")
    ]
    timezone: str
    catch_up: bool
    overlap: Overlap
    words: Annotated[str, Field(description="The same for people.")]
    next: Annotated[list[Moment], Field(description="The next times; with `when_due` the next look.")]
    window: Window | None
    held: Annotated[Held | None, Field(description="A run that is due and waits.")]
    left_out: Annotated[Held | None, Field(description="The last due time that was left out.")]
    looked: Annotated[Looked | None, Field(description="The last look, with `when_due`.")]
    last: Last | None


class Definition(Scheduled):
    """A job of the configuration."""

    lane: Annotated[str, Field(description="Which worker processes can reach its targets.")]
    steps: list[Step]


class DefinitionList(Given):
    """The jobs of the configuration."""

    definitions: list[Definition]
    file: Annotated[str | None, Field(description="Where they are read from.")]


class NextRuns(Given):
    """When a job runs next by itself."""

    name: str
    words: str
    next: list[Moment]


class SchedulerState(Given):
    """Whether something starts jobs when they are due."""

    running: bool
    seen_at: Moment | None


class Schedule(Given):
    """What runs by itself, and when."""

    service: SchedulerState
    jobs: list[Scheduled]


class Target(Given):
    """A target of the configuration, and what is known of it."""

    name: str
    engine: str
    url: Annotated[str, Field(description="Never with a password.")]
    several: Annotated[bool, Field(description="It stands for several databases.")]
    parallel: Annotated[int, Field(description="So many operations at a time.")]
    labels: dict[str, str]
    databases: Annotated[int, Field(description="Databases of it that had a run.")]
    runs: int
    last_run_at: Moment | None
    last_status: str | None


class Database(Given):
    """A database that had a run."""

    url: str
    name: str
    runs: int
    last_run_at: Moment | None
    last_status: str | None


class TargetDetail(Target):
    """A target with its databases."""

    known: Annotated[list[Database], Field(description="Those that were run on last.")]


class TargetList(Given):
    """The targets of the configuration."""

    targets: list[Target]


class Worker(Given):
    """A process that carries out jobs."""

    id: str
    lanes: Annotated[list[str], Field(description="Empty: all.")]
    busy: Annotated[list[str], Field(description="The ids of the jobs that it is on.")]
    alive: bool
    seen_at: Moment


class WorkerList(Given):
    """Worker processes that are there, or were lately."""

    workers: list[Worker]


class Check(Given):
    """One thing that was looked at."""

    name: str
    status: Literal["ok", "warning", "critical", "unknown"]
    message: str
    subject: Annotated[str | None, Field(description="Of which job or follower.")]
    age_seconds: float | None


class Health(Given):
    """Whether the service does what it is there for."""

    status: Annotated[Literal["ok", "warning", "critical", "unknown"], Field(description="The worst of all checks.")]
    at: Moment
    checks: list[Check]
    version: str


class Alive(Given):
    """That the service answers and can use its ledger."""

    status: Literal["ok"]


class Act(Given):
    """What somebody asked for."""

    seq: Annotated[int, Field(description="From 1, without gaps.")]
    at: Moment
    who: Annotated[str, Field(description="An account of the machine, `token NAME`, `schedule`.")]
    what: Annotated[str, Field(description="The verb.")]
    on: Annotated[str | None, Field(description="The job, plan or token that it was asked of.")]
    target: str | None
    outcome: Annotated[str, Field(description="`done`, or why it was refused.")]
    detail: Values
    seal: Annotated[str, Field(description="SHA-256 over the entry and the seal before.")]


class ActList(Given):
    """Entries of the audit trail, newest first."""

    acts: list[Act]
    next: Annotated[int | None, Field(description="The `before` of the following page.")]


class Seal(Given):
    """An entry by its number and seal, to be noted somewhere else."""

    number: int
    seal: str


class Verification(Given):
    """Whether the audit trail is whole."""

    whole: bool
    faults: Annotated[list[str], Field(description="What is wrong, a sentence each.")]
    pruned: Annotated[int, Field(description="The newest entry that was forgotten.")]
    newest: Seal
