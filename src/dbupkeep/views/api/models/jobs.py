"""Jobs, their events, and what is said of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dbupkeep.jobs import JobStatus, Outcome, Phase
from dbupkeep.views.api.models.words import Bytes, Estimate, Given, Id, Moment, Open, Values


class Progress(Given):
    """How far a job is. Without a `fraction` nobody knows."""

    current: Annotated[float, Field(description="How much is done.")]
    total: Annotated[float | None, Field(description="Of how much.")]
    unit: Annotated[str | None, Field(description="`bytes`, `pages`, `rows`, `jobs`, ...")]
    fraction: Annotated[float | None, Field(ge=0, le=1, description="Never goes back within an attempt.")]
    source: Literal["measured", "history", "estimated", "unknown"]
    stage: Annotated[str | None, Field(description="Which part of the work.")]


class Result(Open):
    """What came of a job; more fields where there is something to say (docs/reference/json.md lists them)."""

    effective: Annotated[
        str | None, Field(description="Whether it had its effect, by what was checked: `yes`, `no`, `unknown`.")
    ]
    before: Annotated[dict[str, Any] | None, Field(description="Measured right before; `bytes` is among it.")]
    after: Annotated[dict[str, Any] | None, Field(description="The same, right after.")]


class Error(Open):
    """What went wrong; `where` and `cause` where known."""

    kind: str | None
    message: Annotated[str | None, Field(description="What and why.")]
    hint: Annotated[str | None, Field(description="What to do next.")]


class Children(Given):
    """Direct children, counted."""

    total: int
    pending: int
    running: int
    completed: int
    failed: int
    cancelled: int
    skipped: int
    deferred: int


class Control(Given):
    """What people asked of a parent while it goes; pause and limits are a run's."""

    paused: bool
    stopping: Annotated[bool, Field(description="It ends after what runs now.")]
    cancelling: bool
    at_a_time: Annotated[int | None, Field(description="So many operations at a time.")]
    until: Annotated[Moment | None, Field(description="By when it is to have ended.")]


class Job(Given):
    """A job that works: one operation on one object, or a search for databases."""

    id: Id
    parent_id: Annotated[str, Field(description="The job that it belongs to; its own id where no other started it.")]
    type: Annotated[str, Field(examples=["database_maintenance_operation"])]
    phase: Phase
    name: Annotated[str, Field(description="For people.")]
    status: JobStatus
    reason: Annotated[str | None, Field(description="Why it was skipped, deferred or cancelled.")]
    config: Annotated[
        dict[str, Any], Field(description="Of an operation: `operation`, and `object` where it is on one.")
    ]
    target: Annotated[str | None, Field(description="The url of the database.")]
    correlation_id: Annotated[str, Field(description="The id of the run: of the root of its tree.")]
    attempt: Annotated[int, Field(description="Tries so far.")]
    progress: Progress
    estimate: Estimate | None
    result: Result | None
    error: Error | None
    created_at: Moment
    started_at: Annotated[Moment | None, Field(description="Of the last attempt.")]
    finished_at: Moment | None


class Parent(Job):
    """A job that has children: the maintenance of a database, or a whole run."""

    outcome: Outcome | None
    children: Children
    ineffective: Annotated[int, Field(description="Operations below it that had no effect.")]
    deferred_often: Annotated[int, Field(description="Operations below it that several runs in a row put off.")]
    control: Control
    blocking_seconds: Annotated[
        float | None,
        Field(
            description="For how long others had to wait for all below it; null where no tree is given, or no engine looks at that."
        ),
    ]


class Tree(Parent):
    """A parent with all below it."""

    jobs: Annotated[list[Tree | Job], Field(description="Its children, in order.")]


class JobList(Given):
    """Some jobs."""

    jobs: list[Parent | Job]
    cursor: Annotated[str | None, Field(description="Where the next ones begin; null at the end.")]


class Event(Given):
    """Something that happened to a job."""

    seq: Annotated[int, Field(description="Its place in the ledger: grows, and is never given twice.")]
    at: Moment
    event: Annotated[str, Field(examples=["job_completed"])]
    job_id: str
    parent_id: str
    correlation_id: str
    data: Annotated[dict[str, Any], Field(description="Fields of that event; empty ones may be left out.")]


class EventList(Given):
    """Some events, in order."""

    events: list[Event]
    after: Annotated[int, Field(description="The number to ask after for what follows.")]


class LogLine(Given):
    """Something that happened, in a sentence."""

    seq: int
    at: Moment
    job_id: str
    event: str
    text: str
    output: Annotated[list[str], Field(description="The product's own words.")]


class Log(Given):
    """What happened to a job and all below it."""

    lines: list[LogLine]
    after: Annotated[int, Field(description="The number to ask after for what follows.")]


class Done(Given):
    """What a verb did, or set going."""

    said: Annotated[str, Field(description="What that means, in a sentence.")]
    job: Parent | Job


class Retried(Done):
    """What will be tried again."""

    jobs: list[Job]


class ReportedJob(Job):
    """An operation, with what a report adds."""

    database: Annotated[str, Field(description="Its name in the run.")]
    given_back: Bytes
    seconds: Annotated[float | None, Field(description="How long its last attempt took.")]
    why: Annotated[str | None, Field(description="Why it ended as it did.")]
    in_a_row: Annotated[int | None, Field(description="Of a deferred one: runs in a row that put it off.")]


class ReportedReason(Given):
    """One reason that several things have in common."""

    reason: str
    count: int
    names: Annotated[list[str], Field(description="The first ones.")]


class Report(Given):
    """What a run did, what it did not do, and why."""

    run: Parent
    given_back: Bytes
    predicted: Annotated[int, Field(description="Bytes that were predicted to be given back by what was done.")]
    blocking_seconds: Annotated[
        float | None, Field(description="For how long others had to wait; null where no engine looks at that.")
    ]
    done: list[ReportedJob]
    not_done: Annotated[
        list[ReportedJob], Field(description="Failures first, then what was put off, then what was ended.")
    ]
    unfinished: list[ReportedJob]
    not_needed: list[ReportedReason]
    databases_in_need_of_nothing: int
    not_maintainable: Annotated[list[str], Field(description="Places, and why.")]


class Measurement(Given):
    """What a past operation took and gave."""

    at: Moment
    engine: str
    target: Annotated[str, Field(description="The url of the database.")]
    object: Annotated[str, Field(description="Empty: the whole database.")]
    operation: str
    method: str
    seconds: float
    work_bytes: Annotated[int, Field(description="Bytes read or rewritten, which the time was spent on.")]
    bytes_before: int
    bytes_after: int
    predicted_gain: int | None
    predicted_seconds: float | None
    effective: str
    values: Values
    gain: Annotated[int, Field(description="Bytes given back.")]


class History(Given):
    """Measurements, newest first."""

    measurements: list[Measurement]
    cursor: Annotated[str | None, Field(description="Where the older ones begin; null at the end.")]
