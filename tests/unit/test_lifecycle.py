"""The verbs where they meet each other: a cancel and a gate, a retry and a wait, a pause and a lost attempt.

What holds of each verb alone is in the suite for pairs of ledger and queue (`dbupkeep.testing.pair_suite`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from dbupkeep.clock import SystemClock
from dbupkeep.codec import to_json
from dbupkeep.definitions import ErrorPolicy, JobDefinition, OnError
from dbupkeep.errors import IllegalTransition
from dbupkeep.events import JobReturned, JobSkipped
from dbupkeep.jobs import Delivery, Job, JobStatus, JobType, Outcome
from dbupkeep.ledger import Tx, Wait
from dbupkeep.ledgers.sqlite import SqliteLedger
from dbupkeep.lifecycle import RETURN_DELAY, Submission
from dbupkeep.queues.embedded import EmbeddedQueue
from dbupkeep.testing.pair_kit import Handles, done, execution, failed, family, next_delivery, orchestration
from dbupkeep.worker import Ended

PENDING, RUNNING, COMPLETED = JobStatus.PENDING, JobStatus.RUNNING, JobStatus.COMPLETED
FAILED, CANCELLED, SKIPPED = JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.SKIPPED


@pytest.fixture
def handles(tmp_path: Path) -> Iterator[Handles]:
    def opener() -> tuple[SqliteLedger, SqliteLedger, EmbeddedQueue]:
        ledger = SqliteLedger(tmp_path / "ledger.db")
        return ledger, ledger, EmbeddedQueue(ledger, lease=30)

    opened = Handles(opener)
    yield opened
    opened.close()


def submit(handles: Handles, *holds: str, **how: object) -> tuple[Job, tuple[Job, ...]]:
    made = family(*holds, **how)  # type: ignore[arg-type]
    handles.life.submit(made.submission)
    return made.parent, made.children


def keys(handles: Handles) -> set[str]:
    sql = handles.ledger.reading()  # type: ignore[attr-defined]
    return {row["key"] for row in sql.text("select key from deliveries", {})}


def lose(handles: Handles, job: Job) -> None:
    """Begin an attempt and have its delivery come again."""
    delivery = next_delivery(handles.job(job.id))
    handles.begin(job)
    assert handles.life.begin(delivery, "another") is None


def test_what_waits_for_a_gate_is_cancelled_with_it_and_not_barred_by_it(handles: Handles) -> None:
    parent, children = submit(handles, "a", "a", "a", waits={1: [0], 2: [0, 1]}, gates=True)
    handles.life.cancel(parent.id)
    assert handles.statuses(children) == ["cancelled"] * 3
    assert handles.job(parent.id).status is CANCELLED


def test_a_bar_is_handed_on_along_a_chain_of_gates(handles: Handles) -> None:
    _, (first, second, third) = submit(handles, "a", "b", "c", waits={1: [0], 2: [1]}, gates=True)
    handles.finish(first, failed())
    assert handles.statuses((second, third)) == ["skipped", "skipped"]


def test_a_gate_that_had_nothing_to_do_is_passed(handles: Handles) -> None:
    made = family("a", "b", waits={1: [0]}, gates=True)
    ending = (made.children[0].id, JobSkipped(reason="not needed"))
    handles.life.submit(replace(made.submission, endings=[ending]))
    assert handles.job(made.children[1].id).released


def test_a_retry_of_what_a_gate_still_bars_ends_at_once_and_says_so(handles: Handles) -> None:
    parent, (gate, later) = submit(handles, "a", "b", waits={1: [0]}, gates=True)
    handles.life.cancel(later.id)
    handles.finish(gate, failed())
    handles.life.retry(later.id)
    assert handles.job(later.id).status is SKIPPED
    assert "not retried with it" in handles.job(later.id).reason
    assert handles.job(parent.id).outcome == Outcome.FAILED
    assert handles.job(parent.id).stats.skipped == 1


def test_nothing_is_retried_in_a_run_that_is_being_cancelled(handles: Handles) -> None:
    parent, (first, second) = submit(handles, "a", "b", slots=2)
    handles.begin(first)
    handles.life.cancel(parent.id)
    with pytest.raises(IllegalTransition, match="cannot be retried now"):
        handles.life.retry(second.id)
    handles.life.begin(Delivery(job_id=first.id, attempt=1), "another")  # the cancelled attempt is lost
    assert handles.job(parent.id).status is CANCELLED
    handles.life.retry(second.id)
    assert handles.job(second.id).status is PENDING
    assert not handles.job(parent.id).cancel_requested


def test_what_was_released_waits_again_when_its_predecessor_is_retried(handles: Handles) -> None:
    _, (first, second) = submit(handles, "a", "b", waits={1: [0]}, slots=2)
    handles.finish(first, failed())
    assert handles.job(second.id).released
    stale = next_delivery(handles.job(second.id))
    handles.life.retry(first.id)
    assert not handles.job(second.id).released
    assert handles.life.begin(stale, "w") is None
    handles.finish(first)
    assert handles.finish(second).status is COMPLETED


def test_a_wait_that_comes_later_takes_a_release_back(handles: Handles) -> None:
    parent, (late,) = submit(handles, "late", slots=2)
    assert handles.job(late.id).released
    made = family("x", starter=parent, slots=2)
    handles.life.submit(replace(made.submission, waits=[Wait(job_id=late.id, on_id=made.parent.id)]))
    assert not handles.job(late.id).released
    handles.finish(made.children[0])
    assert handles.job(late.id).released


def test_a_pause_leaves_what_was_lost_its_hold_and_begins_nothing(handles: Handles) -> None:
    parent, (lost, fresh) = submit(handles, "a", "b", slots=2)
    lose(handles, lost)
    handles.life.pause(parent.id)
    assert handles.life.begin(next_delivery(handles.job(lost.id)), "w") is None
    assert (handles.job(lost.id).released, handles.job(fresh.id).released) == (True, False)
    assert handles.released() == set(), "nothing of a paused run is to be done"
    with_queue = handles.ledger
    with_queue.transact(lambda tx: tx.sql.run("delivery_done", key=f"{lost.id}/2", worker=None))  # type: ignore[attr-defined]
    handles.life.resume(parent.id)
    assert f"{lost.id}/2" in keys(handles)
    assert handles.begin(lost).attempt == 2


def test_a_pause_lets_other_runs_have_what_it_frees(handles: Handles) -> None:
    parent, _ = submit(handles, "a")
    _, (waiting,) = submit(handles, "a")
    assert not handles.job(waiting.id).released
    handles.life.pause(parent.id)
    assert handles.job(waiting.id).released


def test_the_whole_of_a_target_is_not_worked_on_beside_its_parts(handles: Handles) -> None:
    _, parts = submit(handles, "a", "b", slots=3)
    whole_parent = orchestration()
    whole = execution(whole_parent, 0)
    handles.life.submit(Submission(jobs=[whole_parent, whole]))
    _, (later,) = submit(handles, "c", slots=3)
    assert handles.released() == {*(part.id for part in parts), later.id}
    for job in (*parts, later):
        assert not handles.job(whole.id).released
        handles.finish(job)
    assert handles.job(whole.id).released
    _, (part,) = submit(handles, "d", slots=3)
    assert not handles.job(part.id).released
    handles.finish(whole)
    assert handles.job(part.id).released


def test_returned_attempts_come_later_and_later(handles: Handles) -> None:
    _, (job,) = submit(handles, "a", max_attempts=3)
    now = SystemClock().monotonic()
    for attempt in (1, 2):
        handles.finish(job, JobReturned(attempt=attempt, reason="connection lost"))
        sql = handles.ledger.reading()  # type: ignore[attr-defined]
        (row,) = sql.text("select due from deliveries where key = :key", {"key": f"{job.id}/{attempt + 1}"})
        assert row["due"] - now >= RETURN_DELAY * 2 ** (attempt - 1)
    poisoned = handles.finish(job, JobReturned(attempt=3, reason="connection lost"))
    assert poisoned.error is not None
    assert (poisoned.status, poisoned.error["kind"]) == (FAILED, "poisoned")
    assert "connection lost" in poisoned.error["message"]


def test_a_parent_is_never_begun(handles: Handles) -> None:
    parent, _ = submit(handles, "a")
    for attempt in (0, 1):
        assert handles.life.begin(Delivery(job_id=parent.id, attempt=attempt), "w") is None
    assert handles.job(parent.id).status is RUNNING


def test_a_result_that_comes_after_its_run_was_pruned_is_refused(handles: Handles) -> None:
    parent, (job,) = submit(handles, "a")
    zombie = handles.begin(job)
    handles.life.begin(Delivery(job_id=job.id, attempt=1), "another")
    handles.finish(job)
    handles.ledger.prune(SystemClock().now() + timedelta(seconds=1))
    assert handles.reader.job(parent.id) is None
    assert handles.life.end(zombie, Ended(event=done())) is None


def test_a_policy_stops_nested_databases_too(handles: Handles) -> None:
    run = orchestration(run=True, errors=ErrorPolicy(on_error=OnError.FAIL))
    first = execution(run, 0, hold="find", target="place")
    handles.life.submit(Submission(jobs=[run, first], slots={"place": 1}))
    strict = ErrorPolicy(on_error=OnError.STOP, stop_after=1)
    families = [family("a", "b", "c", target=f"fake:///{n}", starter=run, errors=strict) for n in range(3)]
    for made in families:
        handles.life.submit(made.submission)
    handles.finish(families[1].children[0], failed())
    assert {status for made in families for status in handles.statuses(made.children)} == {"failed", "skipped"}
    assert handles.job(first.id).status is SKIPPED
    assert handles.job(run.id).outcome == Outcome.FAILED


def test_a_policy_stops_what_an_inner_stop_has_stopped_already(handles: Handles) -> None:
    """Skipping what is left of one database fails it, and that alone makes the run skip the rest: each ends once."""
    run = orchestration(run=True, errors=ErrorPolicy(on_error=OnError.FAIL))
    last = execution(run, 5, hold="find", target="place")
    handles.life.submit(Submission(jobs=[run, last], slots={"place": 1}))
    half, whole = (family(*parts, target=f"fake:///{len(parts)}", starter=run) for parts in ("ab", "c"))
    for made in (half, whole):
        handles.life.submit(made.submission)
    handles.finish(half.children[0], failed())
    handles.finish(whole.children[0], failed())
    assert handles.statuses((*half.children, last)) == ["failed", "skipped", "skipped"]
    assert handles.job(run.id).outcome == Outcome.FAILED


def test_prune_takes_the_definition_and_the_keys_of_a_run(handles: Handles) -> None:
    run = orchestration(run=True)
    discovery = replace(execution(run, 0, hold="find", target="place"), type=JobType.DATABASE_DISCOVERY)
    documents = [("definition", run.id, to_json(JobDefinition(name="n", steps=())))]
    handles.life.submit(Submission(jobs=[run, discovery], slots={"place": 1}, documents=documents))
    made = family("a", starter=run)
    once = f"{discovery.id}:fake:///a"
    handles.life.submit(replace(made.submission, once=once))
    assert handles.reader.get("once", once) == {"job_id": made.parent.id}
    other, _ = submit(handles, "z", target="fake:///z")
    handles.finish(made.children[0])
    handles.finish(discovery)
    handles.ledger.prune(SystemClock().now() + timedelta(seconds=1))
    assert handles.reader.job(run.id) is None
    assert handles.reader.get("definition", run.id) is None
    assert handles.reader.get("once", once) is None
    assert handles.job(other.id).status is RUNNING


def test_a_budget_of_attempts_is_not_spent_by_the_life_before(handles: Handles) -> None:
    _, (job,) = submit(handles, "a", max_attempts=2)
    handles.finish(job, failed())
    handles.life.retry(job.id)
    lose(handles, job)
    assert handles.finish(job).attempt == 3


def test_an_attempt_that_is_returned_after_a_cancel_is_not_made_again(handles: Handles) -> None:
    parent, (job,) = submit(handles, "a")
    running = handles.begin(job)
    handles.life.cancel(parent.id)
    handles.life.end(running, Ended(event=JobReturned(attempt=1, reason="connection lost")))
    assert handles.job(job.id).cancel_requested
    assert handles.life.begin(next_delivery(handles.job(job.id)), "w") is None
    assert (handles.job(job.id).status, handles.job(job.id).attempt) == (CANCELLED, 1)


def test_a_verb_is_done_on_a_condition_that_is_asked_in_its_own_transaction(handles: Handles) -> None:
    parent, (child,) = submit(handles, "a")

    def running(tx: Tx) -> None:
        job = tx.job(child.id)
        if job is None or job.status is not RUNNING:
            raise LookupError

    with pytest.raises(LookupError):
        handles.life.provided(running).cancel(parent.id)
    assert not handles.job(parent.id).status.ended
    handles.begin(child)
    assert handles.life.provided(running).cancel(parent.id).cancel_requested
    assert handles.life.pause(parent.id).id == parent.id  # the verbs themselves have no condition


def test_what_waits_can_be_left_out_and_the_rest_goes_on(handles: Handles) -> None:
    parent, (first, second, third) = submit(handles, "a", "b", "a", waits={2: [0]})
    handles.life.skip(second.id, by="me")
    assert handles.job(second.id).reason == "left out by me"
    handles.finish(first)
    handles.finish(third)
    assert handles.job(parent.id).outcome == Outcome.DONE


def test_what_is_left_out_together_is_not_barred_by_its_gate(handles: Handles) -> None:
    parent, children = submit(handles, "a", "a", waits={1: [0]}, gates=True)
    handles.life.skip(parent.id)
    assert {handles.job(child.id).reason for child in children} == {"left out"}
    assert handles.job(parent.id).outcome == Outcome.NOTHING_TO_DO


def test_a_gate_that_is_left_out_bars_what_it_is_for(handles: Handles) -> None:
    _, (gate, rewrite) = submit(handles, "a", "a", waits={1: [0]}, gates=True)
    handles.life.skip(gate.id)
    assert handles.job(rewrite.id).status is SKIPPED


def test_what_runs_or_has_ended_cannot_be_left_out(handles: Handles) -> None:
    _, (job,) = submit(handles, "a")
    begun = handles.begin(job)
    with pytest.raises(IllegalTransition):
        handles.life.skip(job.id)
    handles.life.end(begun, Ended(event=done()))
    with pytest.raises(IllegalTransition):
        handles.life.skip(job.id)
