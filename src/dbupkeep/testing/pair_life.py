"""The part of the pair suite about jobs: submission, the one write, release, attempts, cancel, retry, pause."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import pytest
from msgspec.structs import replace

from dbupkeep.clock import new_id
from dbupkeep.definitions import ErrorPolicy, OnError
from dbupkeep.errors import IllegalTransition, UnknownName
from dbupkeep.events import (
    EVENTS,
    Event,
    JobCancelled,
    JobDeferred,
    JobReturned,
    JobSkipped,
    JobStarted,
    JobSubmitted,
    ParentSettled,
    StageReached,
)
from dbupkeep.jobs import TRANSITIONS, Delivery, Job, JobStatus, Phase
from dbupkeep.ledger import JobQuery, Tx, Wait
from dbupkeep.lifecycle import Lifecycle, Submission, Turn
from dbupkeep.progress import measured
from dbupkeep.testing.faults import Faults, FaultyLedger
from dbupkeep.testing.pair_kit import (
    TARGET,
    Handles,
    Planted,
    all_events,
    check_holds,
    check_record,
    done,
    execution,
    failed,
    family,
    next_delivery,
    orchestration,
    planted,
    together,
)
from dbupkeep.worker import Ended, Ending

OTHER = "fake:///b"


class SubmissionTests:
    """A submission is one transaction: parent, children, waits, documents and deliveries."""

    def test_submission_is_one_record(self, pair: Handles) -> None:
        """All is there at once, and what nothing holds is deliverable."""
        new = family("one", "two", "two", slots=2, waits={2: [1]})
        assert pair.life.submit(new.submission)
        first, second, third = new.children
        assert pair.released() == {first.id, second.id}
        assert pair.queue.missing([f"{child.id}/1" for child in new.children]) == {f"{third.id}/1"}
        parent = pair.job(new.parent.id)
        assert (parent.stats.total, parent.stats.pending, parent.stats.weight_total) == (3, 3, 303)
        assert [event.event for event in all_events(pair.reader)] == [JobSubmitted()] * 4
        stored = [replace(child, released=False) for child in pair.reader.children(new.parent.id)]
        assert stored == list(new.children)

    def test_fault_at_any_statement_leaves_nothing(self, pair: Handles) -> None:
        """Nothing of a submission remains that failed, wherever it failed before it was committed."""
        faults = Faults(planted)
        life = Lifecycle(FaultyLedger(pair.ledger, faults), pair.queue)
        for fail_at in range(1, 200):
            new = family("one", "two", "two", waits={2: [1]})
            faults.at(fail_at)
            with pytest.raises(Planted):
                life.submit(replace(new.submission, once="key", documents=[("plan", "p", {"a": 1})]))
            if faults.passed[-1] == "committed":
                assert fail_at > 15, "too few statements were counted for this to say anything"
                assert pair.released() == {new.children[0].id}
                return
            assert not pair.everything()
            assert not list(all_events(pair.reader))
            assert pair.reader.get("plan", "p") is None
            keys = {f"{child.id}/1" for child in new.children}
            assert pair.queue.missing(keys) == keys
            assert not pair.reader.targets()
        pytest.fail("the submission never got through")

    def test_submission_with_the_same_key_is_made_once(self, pair: Handles, other: Handles) -> None:
        """Also when two processes submit at one moment."""
        for turn in range(5):
            news = [replace(family().submission, once=f"key {turn}") for _ in range(4)]
            lives = [pair.life, other.life, pair.life, other.life]
            results = together(*(partial(life.submit, new) for life, new in zip(lives, news, strict=True)))
            assert sorted(map(str, results)) == ["False", "False", "False", "True"]
        assert len(pair.everything(JobQuery(roots=True))) == 5

    def test_of_those_who_want_one_turn_one_has_it(self, pair: Handles, other: Handles) -> None:
        """Whoever decided on what another has changed meanwhile writes nothing at all."""
        for version in range(5):
            turn = Turn(kind="turns", key="one", version=version, document={"version": version + 1})
            news = [replace(family().submission, turn=turn, documents=[("by", str(n), {})]) for n in range(4)]
            lives = [pair.life, other.life, pair.life, other.life]
            results = together(*(partial(life.submit, new) for life, new in zip(lives, news, strict=True)))
            assert sorted(map(str, results)) == ["False", "False", "False", "True"]
            assert not pair.life.keep_all([("by", "late", {})], turn)
            assert pair.reader.get("turns", "one") == {"version": version + 1}
        assert len(pair.everything(JobQuery(roots=True))) == 5
        assert pair.reader.get("by", "late") is None

    def test_parent_must_exist_and_go_on(self, pair: Handles) -> None:
        """Nobody starts jobs below what is not there or has ended."""
        old = family()
        with pytest.raises(UnknownName):
            pair.life.submit(Submission(jobs=[execution(old.parent, 0)]))
        pair.life.submit(old.submission)
        pair.finish(old.children[0])
        with pytest.raises(IllegalTransition):
            pair.life.submit(Submission(jobs=[execution(old.parent, 1)]))
        assert len(pair.everything()) == 2

    def test_run_grows_while_it_runs(self, pair: Handles) -> None:
        """Jobs added later count with their parent, and its weight with the root's."""
        run = orchestration(run=True)
        finder = execution(run, 0)
        pair.life.submit(Submission(jobs=[run, finder], slots={TARGET: 1}))
        pair.begin(finder)
        late = family("one", "two", starter=run, target=OTHER)
        pair.life.submit(late.submission)
        pair.life.submit(Submission(jobs=[execution(late.parent, 2, target=OTHER)]))
        root = pair.job(run.id)
        assert (root.stats.total, root.stats.running, root.stats.weight_total) == (2, 2, 1 + 100 + 101 + 1)
        check_record(pair, [run, finder, late.parent, *late.children, *pair.reader.children(late.parent.id)[2:]])


class TransitionTests:
    """Only legal changes happen, each is one event, and a stale attempt changes nothing."""

    def test_only_the_table_is_legal(self, pair: Handles) -> None:
        """Each event is tried on a job in each status; what is refused leaves no trace."""
        legal = {(row.event.name, row.source) for row in TRANSITIONS}
        moves = {row.event.name for row in TRANSITIONS}
        for status in JobStatus:
            for name in sorted(moves):
                job = self._job_in(pair, status)
                events = len(list(all_events(pair.reader, correlation_id=job.correlation_id)))
                event = _example(name)

                def work(tx: Tx, job: Job = job, event: Event = event) -> object:
                    return pair.ledger.append(tx, job.id, event)

                if (name, status) in legal and not isinstance(event, ParentSettled):
                    pair.ledger.transact(work)
                    assert pair.job(job.id).status is not status
                    continue
                with pytest.raises(IllegalTransition) if (name, status) not in legal else _nothing():
                    pair.ledger.transact(work)
                if (name, status) not in legal:
                    assert pair.job(job.id) == job
                    assert len(list(all_events(pair.reader, correlation_id=job.correlation_id))) == events

    def _job_in(self, pair: Handles, status: JobStatus) -> Job:
        new = family(target=f"fake:///{new_id()}")
        child = new.children[0]
        pair.life.submit(new.submission)
        if status is JobStatus.RUNNING:
            pair.begin(child)
        elif status is not JobStatus.PENDING:
            endings: dict[JobStatus, Ending] = {
                JobStatus.COMPLETED: done(),
                JobStatus.FAILED: failed(),
                JobStatus.CANCELLED: JobCancelled(reason="asked"),
                JobStatus.SKIPPED: JobSkipped(reason="nothing to do"),
                JobStatus.DEFERRED: JobDeferred(reason="busy"),
            }
            pair.finish(child, endings[status])
        return pair.job(child.id)

    def test_unknown_job(self, pair: Handles) -> None:
        """A job that is not there cannot change."""
        with pytest.raises(UnknownName):
            pair.life.cancel("nobody")
        with pytest.raises(UnknownName):
            pair.life.settle("nobody")

    def test_stale_attempt_changes_nothing(self, pair: Handles) -> None:
        """What an attempt writes after another took over, or after the job ended, is refused."""
        new = family()
        pair.life.submit(new.submission)
        first = pair.begin(new.children[0], "slow")
        pair.life.begin(Delivery(job_id=first.id, attempt=1), "rescuer")
        assert pair.life.end(first, Ended(event=done())) is None
        second = pair.begin(first, "quick")
        before, events = pair.everything(), len(list(all_events(pair.reader)))
        assert pair.life.end(first, Ended(event=done())) is None
        pair.life.reach(first, [StageReached(stage="cleaning")])
        assert pair.ledger.report(first.id, 1, measured(1, 2, "bytes")).fenced
        assert pair.everything() == before
        assert len(list(all_events(pair.reader))) == events
        assert pair.life.end(second, Ended(event=done())) is not None
        assert pair.life.end(second, Ended(event=failed())) is None
        assert pair.job(first.id).status is JobStatus.COMPLETED

    def test_attempt_is_claimed_once(self, pair: Handles, other: Handles) -> None:
        """Of many that begin one attempt at one moment, one gets it, once; the others count it as lost."""
        new = family(max_attempts=50)
        pair.life.submit(new.submission)
        for _ in range(8):
            delivery = next_delivery(pair.job(new.children[0].id))
            lives = [pair.life, other.life, pair.life, other.life]
            results = together(*(partial(life.begin, delivery, "w") for life in lives))
            assert not [result for result in results if isinstance(result, BaseException)]
            assert len([result for result in results if result is not None]) == 1
            assert pair.job(new.children[0].id).status is JobStatus.PENDING
        started = [event for event in all_events(pair.reader) if isinstance(event.event, JobStarted)]
        assert [event.event.attempt for event in started] == list(range(1, 9))
        check_record(pair, [new.parent, *new.children])

    def test_report_tells_what_is_wanted(self, pair: Handles) -> None:
        """Progress is kept for the current attempt, and what people asked for comes back."""
        new = family()
        pair.life.submit(new.submission)
        job = pair.begin(new.children[0])
        control = pair.ledger.report(job.id, 1, measured(1, 4, "bytes"))
        assert (control.fenced, control.cancel, control.paused) == (False, False, False)
        assert (pair.job(job.id).progress or {})["fraction"] == 0.25
        pair.life.pause(job.id)
        assert pair.ledger.report(job.id, 1, None).paused
        assert (pair.job(job.id).progress or {})["fraction"] == 0.25
        pair.life.resume(job.id)
        pair.life.cancel(job.id)
        control = pair.ledger.report(job.id, 1, measured(2, 4, "bytes"))
        assert (control.fenced, control.cancel, control.paused) == (False, True, False)
        pair.life.end(job, Ended(event=JobCancelled(reason="asked")))
        assert pair.ledger.report(job.id, 1, None).fenced
        assert pair.ledger.report("nobody", 1, None).fenced


def _example(name: str) -> Event:
    fields = {"attempt": 1, "reason": "why", "status": "completed", "outcome": "done"}
    cls = EVENTS[name]
    return cls(**{key: value for key, value in fields.items() if key in cls.__struct_fields__})


class _nothing:  # noqa: N801 - reads as a statement
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


class AttemptTests:
    """Attempts are counted when they begin; a lost one is made again until there are no more."""

    def test_delivery_seen_again_is_never_run(self, pair: Handles) -> None:
        """It ends the attempt that was lost, makes the next delivery, and in the end poisons the job alone."""
        new = family("one", "two", slots=2)
        pair.life.submit(new.submission)
        job, sibling = new.children
        for attempt in (1, 2, 3):
            assert pair.begin(job).attempt == attempt
            assert pair.life.begin(Delivery(job_id=job.id, attempt=attempt), "rescuer") is None
            if attempt < 3:
                assert pair.job(job.id).status is JobStatus.PENDING
                assert not pair.queue.missing([f"{job.id}/{attempt + 1}"])
        poisoned = pair.job(job.id)
        assert (poisoned.status, (poisoned.error or {})["kind"]) == (JobStatus.FAILED, "poisoned")
        pair.finish(sibling)
        assert pair.job(new.parent.id).outcome == "failed"
        check_record(pair, [new.parent, *new.children])

    def test_stale_delivery_is_nothing_to_run(self, pair: Handles) -> None:
        """Neither an old attempt, nor one ahead, nor that of an ended or unknown job, nor one not released."""
        new = family("one", "one")
        pair.life.submit(new.submission)
        job, waiting = new.children
        for stale in (
            Delivery(job_id=job.id, attempt=0),
            Delivery(job_id=job.id, attempt=2),
            Delivery(job_id=waiting.id, attempt=1),
            Delivery(job_id="nobody", attempt=1),
        ):
            assert pair.life.begin(stale, "w") is None
        assert pair.statuses([job, waiting]) == ["pending", "pending"]
        pair.finish(job)
        assert pair.life.begin(Delivery(job_id=job.id, attempt=1), "w") is None
        assert pair.life.begin(Delivery(job_id=job.id, attempt=2), "w") is None
        assert pair.job(job.id).status is JobStatus.COMPLETED

    def test_returned_attempt_comes_again_until_none_is_left(self, pair: Handles) -> None:
        """A worker gives back; the last time that is a failure."""
        new = family(max_attempts=2)
        pair.life.submit(new.submission)
        pair.finish(new.children[0], JobReturned(attempt=1, reason="lost the connection"))
        returned = pair.job(new.children[0].id)
        assert (returned.status, returned.attempt) == (JobStatus.PENDING, 1)
        assert not pair.queue.missing([f"{returned.id}/2"])
        pair.finish(returned, JobReturned(attempt=2, reason="lost the connection"))
        assert (pair.job(returned.id).error or {})["kind"] == "poisoned"

    def test_lost_attempt_of_a_cancelled_job_is_its_end(self, pair: Handles) -> None:
        """Nobody asked for another one."""
        new = family()
        pair.life.submit(new.submission)
        pair.begin(new.children[0])
        pair.life.cancel(new.parent.id)
        assert pair.life.begin(Delivery(job_id=new.children[0].id, attempt=1), "rescuer") is None
        assert pair.statuses([*new.children, new.parent]) == ["cancelled", "cancelled"]


class ReleaseTests:
    """What may start: waits, gates, holds, slots, pauses."""

    def test_order_on_one_object(self, pair: Handles) -> None:
        """Vacuum, then reindex, then analyze; each is released by the end of the one before."""
        new = family("t", "t", "t", slots=3, waits={1: [0], 2: [0, 1]})
        pair.life.submit(new.submission)
        for child in new.children:
            assert pair.released() == {child.id}
            pair.finish(child, failed())
        assert pair.statuses([new.parent]) == ["failed"]

    def test_gate_bars_what_follows(self, pair: Handles) -> None:
        """A gate that fails has its successors skipped with the reason; a plain wait goes on."""
        new = family("a", "b", "c", "d", slots=4, waits={1: [0], 2: [1]}, gates=True)
        waits = [*new.submission.waits, Wait(job_id=new.children[3].id, on_id=new.children[0].id)]
        pair.life.submit(replace(new.submission, waits=waits))
        pair.finish(new.children[0], failed())
        assert pair.statuses(new.children) == ["failed", "skipped", "skipped", "pending"]
        assert "vacuum is failed" in pair.job(new.children[1].id).reason
        assert pair.released() == {new.children[3].id}

    def test_wait_that_is_named_twice_is_one(self, pair: Handles) -> None:
        """What is waited for twice must end once only."""
        new = family("a", "b", slots=2, waits={1: [0, 0]})
        pair.life.submit(new.submission)
        pair.finish(new.children[0])
        assert pair.released() == {new.children[1].id}

    def test_hold_is_unique_across_runs(self, pair: Handles) -> None:
        """The same object waits in the other run, and is released by the end of the first."""
        first, second = family("t", slots=4), family("t", "u", slots=4)
        pair.life.submit(first.submission)
        pair.life.submit(second.submission)
        assert pair.released() == {first.children[0].id, second.children[1].id}
        pair.finish(first.children[0])
        assert pair.released() == {second.children[0].id, second.children[1].id}
        assert not pair.queue.missing([f"{second.children[0].id}/1"])

    def test_hold_is_kept_over_lost_attempts(self, pair: Handles) -> None:
        """Until the job ends: what a lost attempt left is cleaned up by the next one first."""
        first, second = family("t", slots=4), family("t", slots=4)
        pair.life.submit(first.submission)
        pair.life.submit(second.submission)
        pair.begin(first.children[0])
        pair.life.begin(Delivery(job_id=first.children[0].id, attempt=1), "rescuer")
        assert pair.released() == {first.children[0].id}
        pair.finish(first.children[0])
        assert pair.released() == {second.children[0].id}

    def test_slots_of_a_target(self, pair: Handles) -> None:
        """No more than the target takes, in order, and other targets are not held up."""
        many = family(*"abcde", slots=2)
        far = family(target=OTHER)
        pair.life.submit(many.submission)
        pair.life.submit(far.submission)
        assert pair.released() == {child.id for child in [*many.children[:2], far.children[0]]}
        pair.finish(many.children[1])
        assert pair.released() == {many.children[0].id, many.children[2].id, far.children[0].id}

    def test_many_that_want_one_hold_do_not_block_others(self, pair: Handles) -> None:
        """Slots that become free at once go to what is ready, however many stand before it for the same object."""
        first = family("x", "y", "z", slots=3)
        runs = [family("t", slots=3) for _ in range(12)]
        last = family("u", "v", slots=3)
        for new in [first, *runs, last]:
            pair.life.submit(new.submission)
        pair.life.cancel(first.parent.id)
        assert pair.released() == {runs[0].children[0].id, *(child.id for child in last.children)}

    def test_slots_hold_when_many_free_them_at_once(self, pair: Handles, other: Handles) -> None:
        """Two processes do not each fill the last slot, whether they submit or let runs go on."""
        for turn in range(5):
            target = f"fake:///{turn}"
            news = [family(f"x{n}", f"y{n}", target=target, slots=1) for n in range(4)]
            lives = [pair.life, other.life, pair.life, other.life]
            results = together(*(partial(life.submit, new.submission) for life, new in zip(lives, news, strict=True)))
            assert results == [True] * 4
            check_holds(pair, {target: 1})
            assert sum(job.target == target for job in pair.everything(JobQuery(released=True))) == 1
            for new in news:
                pair.life.pause(new.parent.id)
            assert not any(job.target == target for job in pair.everything(JobQuery(released=True)))
            resumed = together(*(partial(life.resume, new.parent.id) for life, new in zip(lives, news, strict=True)))
            assert not [result for result in resumed if isinstance(result, BaseException)]
            check_holds(pair, {target: 1})
            assert sum(job.target == target for job in pair.everything(JobQuery(released=True))) == 1

    def test_only_named_targets_are_looked_at(self, pair: Handles) -> None:
        """Release leaves alone what it was not asked about."""
        near, far = family(), family(target=OTHER)

        def write(tx: Tx) -> list[str]:
            for new in (near, far):
                pair.ledger.insert(tx, new.submission.jobs, (), new.submission.slots)
            return [delivery.job_id for delivery in pair.ledger.release(tx, [TARGET])]

        assert pair.ledger.transact(write) == [near.children[0].id]
        assert pair.released() == {near.children[0].id}

    def test_pause_withholds_and_resume_releases(self, pair: Handles) -> None:
        """What runs goes on; what was deliverable is not begun; another run gets the slot meanwhile."""
        new, rival = family("a", "b", slots=2), family("c", slots=2)
        pair.life.submit(new.submission)
        pair.begin(new.children[0])
        pair.life.pause(new.children[1].id)
        pair.life.pause(new.parent.id)
        assert pair.job(new.parent.id).paused
        assert pair.life.begin(Delivery(job_id=new.children[1].id, attempt=1), "w") is None
        pair.life.submit(rival.submission)
        assert pair.released() == {new.children[0].id, rival.children[0].id}
        pair.finish(rival.children[0])
        assert pair.released() == {new.children[0].id}
        pair.life.resume(new.parent.id)
        pair.life.resume(new.parent.id)
        assert pair.released() == {child.id for child in new.children}
        assert not pair.queue.missing([f"{new.children[1].id}/1"])

    def test_lost_attempt_of_a_paused_run_waits(self, pair: Handles) -> None:
        """It is not begun before the run goes on, and then it is delivered."""
        new = family()
        pair.life.submit(new.submission)
        job = pair.begin(new.children[0])
        pair.life.pause(job.id)
        pair.life.begin(Delivery(job_id=job.id, attempt=1), "rescuer")
        assert pair.life.begin(Delivery(job_id=job.id, attempt=2), "w") is None
        assert pair.job(job.id).status is JobStatus.PENDING
        pair.life.resume(job.id)
        assert not pair.queue.missing([f"{job.id}/2"])
        assert pair.begin(job).attempt == 2


class RequestTests:
    """Cancel, retry, error policies, and parents that follow their children."""

    def test_cancel_is_idempotent_in_every_state(self, pair: Handles) -> None:
        """What waits ends, what runs is told, what ended stays; the second time changes nothing."""
        new = family(*"abcd", slots=2, waits={3: [2]})
        pair.life.submit(new.submission)
        pair.finish(new.children[0])
        running = pair.begin(new.children[1])
        pair.life.cancel(new.parent.id, by="me")
        assert pair.statuses(new.children) == ["completed", "running", "cancelled", "cancelled"]
        assert pair.job(running.id).cancel_requested
        record, events = pair.everything(), len(list(all_events(pair.reader)))
        for job in [new.parent, *new.children]:
            pair.life.cancel(job.id)
        assert pair.everything() == record
        assert len(list(all_events(pair.reader))) == events
        pair.life.end(running, Ended(event=JobCancelled(reason="asked")))
        assert pair.job(new.parent.id).outcome == "cancelled"
        pair.life.cancel(new.parent.id)
        assert pair.released() == set()
        check_record(pair, [new.parent, *new.children])

    def test_retry_reopens_what_had_ended(self, pair: Handles) -> None:
        """Parents up to the root run again, with another attempt; done work stays done."""
        run = orchestration(run=True)
        new = family("a", "b", slots=2, starter=run, max_attempts=1)
        pair.life.submit(replace(new.submission, jobs=[run, *new.submission.jobs]))
        pair.finish(new.children[0])
        pair.finish(new.children[1], failed())
        assert pair.statuses([new.parent, run]) == ["failed", "failed"]
        assert [job.id for job in pair.life.retry(run.id)] == [new.children[1].id]
        assert pair.statuses([*new.children, new.parent, run]) == ["completed", "pending", "running", "running"]
        assert pair.finish(new.children[1]).attempt == 2
        assert pair.statuses([new.parent, run]) == ["completed", "completed"]
        with pytest.raises(IllegalTransition):
            pair.life.retry(run.id)
        check_record(pair, [run, new.parent, *new.children])

    def test_retried_predecessor_is_waited_for_again(self, pair: Handles) -> None:
        """Also by what had become deliverable meanwhile."""
        new = family("a", "b", slots=2, waits={1: [0]})
        pair.life.submit(new.submission)
        pair.finish(new.children[0], failed())
        assert pair.released() == {new.children[1].id}
        pair.life.retry(new.children[0].id)
        assert pair.released() == {new.children[0].id}
        assert pair.life.begin(Delivery(job_id=new.children[1].id, attempt=1), "w") is None
        pair.finish(new.children[0])
        assert pair.released() == {new.children[1].id}
        assert pair.begin(new.children[1]).attempt == 1

    def test_error_policy_stops_what_has_not_started(self, pair: Handles) -> None:
        """The siblings that wait are skipped; the one that runs goes on."""
        new = family(*"abc", slots=2, errors=ErrorPolicy(on_error=OnError.FAIL))
        pair.life.submit(new.submission)
        running = pair.begin(new.children[1])
        pair.finish(new.children[0], failed())
        assert pair.statuses(new.children) == ["failed", "running", "skipped"]
        pair.life.end(running, Ended(event=done()))
        assert pair.job(new.parent.id).status is JobStatus.FAILED

    def test_settling_is_idempotent(self, pair: Handles) -> None:
        """A parent ends once, whoever settles it and however often."""
        new = family()
        pair.life.submit(new.submission)
        assert pair.life.settle(new.parent.id).status is JobStatus.RUNNING
        pair.finish(new.children[0])
        events = len(list(all_events(pair.reader)))
        assert pair.life.settle(new.parent.id).status is JobStatus.COMPLETED
        assert len(list(all_events(pair.reader))) == events

    @pytest.mark.parametrize("seed", range(4))
    def test_any_order_of_requests_keeps_the_record_whole(self, pair: Handles, seed: int) -> None:
        """A random walk over all verbs: counts equal a recount, events make the state, holds and slots are kept."""
        random_ = random.Random(seed)  # noqa: S311 - chooses cases
        run = orchestration(run=True)
        inner = family("t", "u", "t", slots=2, waits={2: [0, 1]}, starter=run, max_attempts=2)
        outer = family("t", "u", "v", slots=2, waits={1: [0]}, gates=True, errors=ErrorPolicy(on_error=OnError.STOP))
        pair.life.submit(replace(inner.submission, jobs=[run, *inner.submission.jobs]))
        pair.life.submit(outer.submission)
        submitted = [run, inner.parent, *inner.children, outer.parent, *outer.children]
        for _ in range(40):
            _step(pair, random_, submitted)
            check_record(pair, submitted)
            check_holds(pair, {TARGET: 2})
        _finish_all(pair, [run, outer.parent])
        assert all(job.status.ended for job in pair.everything())
        check_record(pair, submitted)


def _step(pair: Handles, random_: random.Random, jobs: Sequence[Job]) -> None:
    """One random verb on one random job."""
    job = pair.job(random_.choice(jobs).id)
    attempt = max(1, job.attempt)
    endings: tuple[Ending, ...] = (done(), failed(), JobReturned(attempt=attempt), JobCancelled(reason="asked"))
    verb = random_.choice(
        [*["begin", "end"] * 3, "lose", "cancel", "stop", "limit", "retry", "pause", "resume", "settle"]
    )
    if verb == "begin":
        pair.life.begin(next_delivery(job), "w")
    elif verb == "end" and job.phase is Phase.EXECUTION:
        pair.life.end(replace(job, attempt=attempt), Ended(event=random_.choice(endings)))
    elif verb == "lose":
        pair.life.begin(Delivery(job_id=job.id, attempt=attempt), "rescuer")
    elif verb in ("retry", "limit", "stop"):
        wanted = {"at_a_time": random_.choice([1, 2])} if verb == "limit" else {}
        with suppress(IllegalTransition):
            getattr(pair.life, verb)(job.id, **wanted)
    elif verb == "settle" and job.phase is Phase.ORCHESTRATION:
        pair.life.settle(job.id)
    elif verb in ("cancel", "pause", "resume") and random_.random() < 0.5:
        getattr(pair.life, verb)(job.id)


def _finish_all(pair: Handles, roots: Sequence[Job]) -> None:
    """Bring what is left to its end, by what is deliverable only."""
    for root in roots:
        pair.life.resume(root.id)
    while out := pair.everything(JobQuery(released=True)):
        for job in out:
            running = job if job.status is JobStatus.RUNNING else pair.life.begin(next_delivery(job), "w")
            if running is not None:
                pair.life.end(running, Ended(event=done()))
