"""The job model: the table of transitions is what happens, and a parent is a function of its children."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dbupkeep import events as happened
from dbupkeep.definitions import ErrorPolicy
from dbupkeep.errors import IllegalTransition, RetiredJobType, UnknownName
from dbupkeep.jobs import (
    RETIRED,
    TRANSITIONS,
    ChildStats,
    Effective,
    Job,
    JobStatus,
    JobType,
    Outcome,
    Phase,
    aggregate,
    apply,
    attempt_tag,
    count,
    hold_of,
    shift,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=5)
ENDS = [status for status in JobStatus if status.ended]

EXAMPLES: dict[type[happened.Event], happened.Event] = {
    happened.JobStarted: happened.JobStarted(attempt=1, worker="w", tag="t"),
    happened.JobCompleted: happened.JobCompleted(result={"effective": "yes"}),
    happened.JobFailed: happened.JobFailed(error={"kind": "busy"}),
    happened.JobCancelled: happened.JobCancelled(reason="asked"),
    happened.JobSkipped: happened.JobSkipped(reason="not needed"),
    happened.JobDeferred: happened.JobDeferred(reason="busy"),
    happened.AttemptLost: happened.AttemptLost(attempt=1, reason="gone"),
    happened.JobReturned: happened.JobReturned(attempt=1, reason="gone"),
    happened.JobRetried: happened.JobRetried(by="me"),
    happened.ParentReopened: happened.ParentReopened(),
}
SETTLED = [happened.ParentSettled(status=status.value, outcome="done") for status in JobStatus]
MOVES = [*EXAMPLES.values(), *SETTLED]


def job(status: JobStatus = JobStatus.PENDING, **values: object) -> Job:
    made = Job(
        id="j", parent_id="p", correlation_id="p", type="t", phase=Phase.EXECUTION, name="n", created_at=NOW,
        status=status,
    )  # fmt: skip
    return replace(made, **values)


def row(event: happened.Event, source: JobStatus) -> JobStatus | None:
    """Where the table says that an event leads."""
    targets = {row.target for row in TRANSITIONS if row.event is type(event) and row.source is source}
    if isinstance(event, happened.ParentSettled):
        targets = {target for target in targets if target == event.status}
    assert len(targets) <= 1, "the table is ambiguous"
    return targets.pop() if targets else None


@pytest.mark.parametrize("source", JobStatus)
@pytest.mark.parametrize("event", MOVES, ids=lambda event: f"{event.name}-{getattr(event, 'status', '')}")
def test_the_table_is_what_happens_and_nothing_else(event: happened.Event, source: JobStatus) -> None:
    target = row(event, source)
    if target is None:
        with pytest.raises(IllegalTransition, match=source.value):
            apply(job(source), event, LATER)
    else:
        assert apply(job(source), event, LATER).status is target


def test_the_table_has_every_event_that_moves_a_job() -> None:
    assert {type(event) for event in MOVES} == {row.event for row in TRANSITIONS}


def test_ended_is_ended_but_for_a_retry() -> None:
    leaving = {row.event for row in TRANSITIONS if row.source.ended}
    assert leaving == {happened.JobRetried, happened.ParentReopened}
    assert not {row for row in TRANSITIONS if row.source is JobStatus.SKIPPED}
    assert not any(row.event is happened.JobRetried and row.source is JobStatus.COMPLETED for row in TRANSITIONS)


def test_an_attempt_is_counted_when_it_starts() -> None:
    started = apply(job(reason="lost", error={"kind": "x"}), happened.JobStarted(attempt=4), LATER)
    assert (started.attempt, started.started_at, started.reason, started.error) == (4, LATER, "", None)


def test_an_end_keeps_what_was_said() -> None:
    completed = apply(job(JobStatus.RUNNING), EXAMPLES[happened.JobCompleted], LATER)
    assert (completed.result, completed.error, completed.finished_at) == ({"effective": "yes"}, None, LATER)
    failed = apply(job(JobStatus.RUNNING), EXAMPLES[happened.JobFailed], LATER)
    assert (failed.error, failed.finished_at) == ({"kind": "busy"}, LATER)
    assert apply(job(), EXAMPLES[happened.JobSkipped], LATER).reason == "not needed"


def test_a_retry_begins_a_new_life_and_a_lost_attempt_does_not() -> None:
    ended = job(
        JobStatus.FAILED, attempt=3, cancel_requested=True, error={"kind": "x"}, started_at=NOW, finished_at=NOW
    )
    again = apply(ended, happened.JobRetried(), LATER)
    assert (again.attempt, again.max_attempts, again.cancel_requested) == (3, 6, False)
    assert (again.error, again.started_at, again.finished_at) == (None, None, None)
    lost = apply(
        job(JobStatus.RUNNING, attempt=1, started_at=NOW, cancel_requested=True), EXAMPLES[happened.AttemptLost], LATER
    )
    assert (lost.attempt, lost.max_attempts, lost.cancel_requested, lost.started_at) == (1, 3, True, NOW)


def test_requests_change_no_status() -> None:
    assert apply(job(), happened.CancelRequested(), LATER) == job(cancel_requested=True)
    assert apply(job(), happened.RunPaused(), LATER) == job(paused=True)
    assert apply(job(paused=True), happened.RunResumed(), LATER) == job()
    assert apply(job(), happened.StageReached(stage="sorting"), LATER) == job()


@pytest.mark.parametrize(
    ("children", "cancel", "tolerance", "status", "outcome"),
    [
        ({"pending": 1, "failed": 1}, False, 0, "running", None),
        ({"running": 1, "completed": 5}, True, 0, "running", None),
        ({}, False, 0, "completed", "nothing_to_do"),
        ({"skipped": 3}, False, 0, "completed", "nothing_to_do"),
        ({"completed": 1, "skipped": 2}, False, 0, "completed", "done"),
        ({"completed": 2, "failed": 1}, False, 0, "failed", "failed"),
        ({"completed": 2, "failed": 1}, False, 1, "failed", "partial"),
        ({"completed": 2, "failed": 2}, False, 1, "failed", "failed"),
        ({"failed": 1, "partial": 1}, False, 0, "failed", "partial"),
        ({"failed": 2, "partial": 1}, False, 0, "failed", "failed"),
        ({"failed": 1, "cancelled": 1}, True, 0, "failed", "failed"),
        ({"cancelled": 2, "completed": 1}, True, 0, "cancelled", "cancelled"),
        ({"completed": 3}, True, 0, "cancelled", "cancelled"),
        ({"deferred": 1, "completed": 1}, False, 0, "deferred", "deferred"),
        ({"deferred": 1, "cancelled": 1}, True, 0, "cancelled", "cancelled"),
        ({"deferred": 1, "failed": 1}, False, 0, "failed", "failed"),
        ({"cancelled": 1, "completed": 1}, False, 0, "completed", "partial"),
    ],
)
def test_a_parent_is_what_its_children_are(
    children: dict[str, int], cancel: bool, tolerance: int, status: str, outcome: str | None
) -> None:
    verdict = aggregate(ChildStats(**children), cancel_requested=cancel, errors=ErrorPolicy(tolerance=tolerance))
    assert (verdict.status, verdict.outcome) == (status, outcome)


COUNTS = st.builds(
    ChildStats,
    **{name: st.integers(0, 3) for name in [*JobStatus, "partial", "ineffective", "weight_total", "weight_ended"]},
)


@st.composite
def a_child(draw: st.DrawFn) -> Job:
    status = draw(st.sampled_from(JobStatus))
    return job(
        status,
        phase=draw(st.sampled_from(Phase)),
        weight=draw(st.integers(1, 1000)),
        outcome=draw(st.sampled_from(["", *Outcome])),
        stats=draw(COUNTS),
        result=draw(st.sampled_from([None, *({"effective": each.value} for each in Effective)])),
    )


@given(st.lists(a_child(), min_size=1, max_size=8), st.data())
def test_shifted_counts_equal_a_recount(children: list[Job], data: st.DataObject) -> None:
    stats = count(children)
    assert stats.total == len(children)
    for _ in range(data.draw(st.integers(1, 5))):
        place, after = data.draw(st.integers(0, len(children) - 1)), data.draw(a_child())
        stats = shift(stats, before=children[place], after=after)
        children[place] = after
        assert stats == count(children)


@given(st.lists(a_child(), max_size=8))
def test_ended_weight_is_whole_only_when_all_have_ended(children: list[Job]) -> None:
    stats = count(children)
    assert stats.weight_ended <= stats.weight_total
    assert stats.unended == sum(not child.status.ended for child in children)


def test_types() -> None:
    assert [JobType.parse(each.value) for each in JobType] == [*JobType]
    assert {each for each in JobType if each.phase is Phase.ORCHESTRATION} == {
        JobType.DATABASE_MAINTENANCE_PARENT, JobType.MAINTENANCE_RUN,
    }  # fmt: skip
    with pytest.raises(RetiredJobType, match="database_maintenance") as caught:
        JobType.parse("database_maintenance")
    assert JobType.DATABASE_MAINTENANCE_OPERATION in caught.value.hint
    assert not set(RETIRED) & set(JobType)
    with pytest.raises(UnknownName, match="teleport"):
        JobType.parse("teleport")


@given(st.uuids(version=4), st.integers(1, 10_000), st.uuids(version=4), st.integers(1, 10_000))
def test_an_attempt_has_a_tag_of_its_own_that_fits(one: object, first: int, other: object, second: int) -> None:
    tag = attempt_tag(str(one), first)
    assert len(tag.encode()) < 63
    assert (tag == attempt_tag(str(other), second)) == ((str(one)[-12:], first) == (str(other)[-12:], second))


def test_the_hold_on_the_whole_is_none_of_its_parts() -> None:
    assert hold_of("t", "a") == "t|a"
    assert hold_of("t") not in {hold_of("t", part) for part in "ab|"}
