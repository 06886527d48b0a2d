"""The part of the pair suite about live control: stop after what runs, and other limits while a run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from msgspec.structs import replace

from dbupkeep.clock import SystemClock
from dbupkeep.errors import IllegalTransition, UsageError
from dbupkeep.events import JobCancelled, JobDeferred, JobReturned, LimitsChanged, StopRequested
from dbupkeep.jobs import Delivery, Job, JobStatus, JobType
from dbupkeep.ledger import JobQuery
from dbupkeep.lifecycle import Submission
from dbupkeep.testing.pair_kit import (
    Handles,
    all_events,
    check_record,
    done,
    execution,
    failed,
    family,
    orchestration,
    together,
)
from dbupkeep.worker import Ended, Ending

OTHER = "fake:///b"


class StopTests:
    """A run that is stopped ends after what runs now, and that is final."""

    def test_what_waits_ends_and_what_runs_comes_to_its_end(self, pair: Handles) -> None:
        """The running operation is not told anything; the run's word is `stopped`; the second time changes nothing."""
        new = family(*"abcd", slots=2, waits={3: [2]})
        pair.life.submit(new.submission)
        pair.finish(new.children[0])
        running = pair.begin(new.children[1])
        assert pair.life.stop(new.parent.id, by="me").stop_requested
        assert pair.statuses(new.children) == ["completed", "running", "cancelled", "cancelled"]
        assert "stopped by me" in pair.job(new.children[2].id).reason
        assert not pair.ledger.report(running.id, 1, None).cancel
        record, events = pair.everything(), len(list(all_events(pair.reader)))
        pair.life.stop(new.parent.id)
        assert pair.everything() == record
        assert len(list(all_events(pair.reader))) == events
        pair.life.end(running, Ended(event=done()))
        ended = pair.job(new.parent.id)
        assert (ended.status, ended.outcome) == (JobStatus.CANCELLED, "stopped")
        assert StopRequested(by="me") in [each.event for each in all_events(pair.reader)]
        check_record(pair, [new.parent, *new.children])

    def test_run_with_nothing_left_to_give_up_ends_as_ever(self, pair: Handles) -> None:
        """It was asked to stop, but had started everything; a failure is said before all."""
        whole, broken = family("a"), family("b", "c", target=OTHER, slots=2)
        for new in (whole, broken):
            pair.life.submit(new.submission)
        running = [pair.begin(child) for child in (*whole.children, broken.children[0])]
        for new in (whole, broken):
            pair.life.stop(new.parent.id)
        pair.life.end(running[0], Ended(event=done()))
        pair.life.end(running[1], Ended(event=failed()))
        assert [pair.job(new.parent.id).outcome for new in (whole, broken)] == ["done", "failed"]

    def test_run_over_databases_finds_no_more(self, pair: Handles) -> None:
        """Its discovery is told to end, what it found last is refused, and each database ends by itself."""
        run = orchestration(run=True)
        finder = replace(execution(run, 0, target=""), type=JobType.DATABASE_DISCOVERY, hold="", target=OTHER)
        busy = family("a", "b", starter=run)
        idle = family("c", starter=run, target="fake:///c")
        pair.life.submit(Submission(jobs=[run, finder], slots={OTHER: 1}))
        pair.begin(finder)
        for new in (busy, idle):
            pair.life.submit(new.submission)
        working = pair.begin(busy.children[0])
        pair.life.stop(run.id)
        assert pair.ledger.report(finder.id, 1, None).cancel
        assert not pair.ledger.report(working.id, 1, None).cancel
        with pytest.raises(IllegalTransition, match="being stopped"):
            pair.life.submit(family("late", starter=run, target="fake:///d").submission)
        assert pair.statuses([idle.parent, busy.parent, run]) == ["cancelled", "running", "running"]
        with pytest.raises(IllegalTransition, match="cannot be retried"):
            pair.life.retry(idle.children[0].id)
        pair.life.end(pair.job(finder.id), Ended(event=JobCancelled(reason="asked")))
        pair.life.end(working, Ended(event=done()))
        assert [pair.job(job.id).outcome for job in (idle.parent, busy.parent, run)] == ["stopped"] * 3

    def test_lost_attempt_of_a_stopped_run_is_made_again(self, pair: Handles) -> None:
        """It had started: what it left behind is looked after, and it comes to its end."""
        new = family("a", "b")
        pair.life.submit(new.submission)
        pair.begin(new.children[0])
        pair.life.stop(new.parent.id)
        pair.life.begin(Delivery(job_id=new.children[0].id, attempt=1), "rescuer")
        assert pair.finish(new.children[0]).status is JobStatus.COMPLETED
        assert pair.job(new.parent.id).outcome == "stopped"

    def test_cancel_ends_what_a_stop_let_go_on(self, pair: Handles) -> None:
        """And the run's word is then `cancelled`."""
        new = family("a", "b")
        pair.life.submit(new.submission)
        running = pair.begin(new.children[0])
        pair.life.stop(new.parent.id)
        pair.life.cancel(new.parent.id)
        assert pair.ledger.report(running.id, 1, None).cancel
        pair.life.end(running, Ended(event=JobCancelled(reason="asked")))
        assert pair.job(new.parent.id).outcome == "cancelled"
        again = pair.life.retry(new.parent.id)
        assert len(again) == 2
        parent = pair.job(new.parent.id)
        assert (parent.stop_requested, parent.cancel_requested) == (False, False)

    def test_refused_where_there_is_nothing_to_stop(self, pair: Handles) -> None:
        """A run that has ended, and a single operation."""
        new = family()
        pair.life.submit(new.submission)
        with pytest.raises(IllegalTransition, match="single operation"):
            pair.life.stop(new.children[0].id)
        pair.finish(new.children[0])
        with pytest.raises(IllegalTransition, match="has ended: done"):
            pair.life.stop(new.parent.id)


class LimitTests:
    """Limits change while a run goes on, and the next operation keeps to them."""

    def test_fewer_at_a_time(self, pair: Handles) -> None:
        """What runs goes on, what was deliverable is withheld, and the next starts when few enough run."""
        new = family(*"abcde", slots=4)
        pair.life.submit(new.submission)
        running = [pair.begin(child) for child in new.children[:2]]
        root = pair.life.limit(new.children[0].id, at_a_time=1, by="me")
        assert (root.id, root.at_a_time) == (new.parent.id, 1)
        assert pair.released() == {job.id for job in running}
        assert pair.life.begin(Delivery(job_id=new.children[2].id, attempt=1), "w") is None
        pair.life.end(running[0], Ended(event=done()))
        assert pair.released() == {running[1].id}
        pair.life.end(running[1], Ended(event=done()))
        assert pair.released() == {new.children[2].id}
        assert not pair.queue.missing([f"{new.children[2].id}/1"])
        assert LimitsChanged(at_a_time=1, by="me") in [each.event for each in all_events(pair.reader)]
        check_record(pair, [new.parent, *new.children])

    def test_more_at_a_time(self, pair: Handles) -> None:
        """Also more than its database took before; the same limit again is no event."""
        new = family(*"abcd", slots=1)
        pair.life.submit(new.submission)
        pair.begin(new.children[0])
        pair.life.limit(new.parent.id, at_a_time=3)
        assert pair.released() == {child.id for child in new.children[:3]}
        assert not pair.queue.missing([f"{child.id}/1" for child in new.children[1:3]])
        events = len(list(all_events(pair.reader)))
        pair.life.limit(new.parent.id, at_a_time=3)
        assert len(list(all_events(pair.reader))) == events

    def test_limit_holds_for_all_databases_of_a_run_together(self, pair: Handles, other: Handles) -> None:
        """Whichever of them ends, the next one of any starts; finding databases does not count; others are not held up."""
        run = orchestration(run=True)
        finder = replace(execution(run, 0), type=JobType.DATABASE_DISCOVERY, hold="", target="fake:///place")
        parts = [family("x", "y", starter=run, target=f"fake:///{n}", slots=2) for n in range(4)]
        rival = family("z", target="fake:///3", slots=2)
        pair.life.submit(Submission(jobs=[run, finder], slots={"fake:///place": 1}))
        pair.begin(finder)
        for new in (*parts, rival):
            pair.life.submit(new.submission)
        pair.life.limit(run.id, at_a_time=2)
        own = [child for new in parts for child in new.children]
        done_in_turn: list[str] = []
        while out := _of(pair, own):
            assert len(out) <= 2
            begun = [(handles, handles.begin(job)) for handles, job in zip((pair, other), out, strict=False)]
            together(*(partial(handles.life.end, job, Ended(event=done())) for handles, job in begun))
            done_in_turn += [job.id for job in out]
            assert _of(pair, [rival.children[0]])
        assert sorted(done_in_turn) == sorted(child.id for child in own)
        late = family("x", "y", starter=run, target="fake:///late", slots=1)
        pair.life.submit(late.submission)
        assert len(_of(pair, late.children)) == 2

    def test_limit_is_kept_when_many_begin_at_once(self, pair: Handles, other: Handles) -> None:
        """Two processes do not each begin the last one."""
        for turn in range(4):
            new = family(*"abcdef", target=f"fake:///{turn}", slots=6)
            pair.life.submit(new.submission)
            pair.life.limit(new.parent.id, at_a_time=2)
            firsts = [Delivery(job_id=child.id, attempt=1) for child in new.children]
            lives = [pair.life, other.life] * 3
            together(*(partial(life.begin, first, "w") for life, first in zip(lives, firsts, strict=True)))
            assert pair.statuses(new.children).count("running") == 2
            pair.life.cancel(new.parent.id)

    def test_lost_attempt_waits_for_its_turn(self, pair: Handles) -> None:
        """One that is to be made again counts among those that run, once it runs, and is delivered when there is room."""
        new = family(*"ab", slots=2)
        pair.life.submit(new.submission)
        first, second = (pair.begin(child) for child in new.children)
        pair.life.limit(new.parent.id, at_a_time=1)
        pair.life.begin(Delivery(job_id=first.id, attempt=1), "rescuer")
        assert pair.life.begin(Delivery(job_id=first.id, attempt=2), "w") is None
        pair.life.end(second, Ended(event=done()))
        assert not pair.queue.missing([f"{first.id}/2"])
        assert pair.begin(first).attempt == 2

    def test_end_in_place_of_a_window(self, pair: Handles) -> None:
        """What runs is told by its next report, what would not fit is deferred, and it can be taken back."""
        soon = SystemClock().now() + timedelta(minutes=1)
        new = family(*"abc", slots=3)
        children = [replace(child, estimate={"seconds": 3600.0}) for child in new.children[1:]]
        pair.life.submit(replace(new.submission, jobs=[new.parent, new.children[0], *children]))
        running = pair.begin(new.children[0])
        pair.life.limit(new.parent.id, until=soon)
        told = pair.ledger.report(running.id, 1, None).until
        assert told is not None
        assert abs(told - soon) < timedelta(milliseconds=1)
        assert pair.life.begin(Delivery(job_id=children[0].id, attempt=1), "w") is None
        deferred = pair.job(children[0].id)
        assert deferred.status is JobStatus.DEFERRED
        assert "would not fit" in deferred.reason
        pair.life.limit(new.parent.id, at_a_time=3, open_end=True)
        assert pair.ledger.report(running.id, 1, None).until is None
        assert pair.begin(children[1]).until is None
        check_record(pair, [new.parent, new.children[0], *children])

    def test_refused(self, pair: Handles) -> None:
        """What is no limit, and any for a run that has ended."""
        new = family()
        pair.life.submit(new.submission)
        for at_a_time in (0, -1, 10_000):
            with pytest.raises(UsageError):
                pair.life.limit(new.parent.id, at_a_time=at_a_time)
        with pytest.raises(UsageError, match="in the past"):
            pair.life.limit(new.parent.id, until=datetime(2020, 1, 1, tzinfo=UTC))
        assert not pair.job(new.parent.id).at_a_time
        pair.finish(new.children[0])
        with pytest.raises(IllegalTransition, match="has ended"):
            pair.life.limit(new.parent.id, at_a_time=1)


class RepetitionTests:
    """What never gets its turn shows."""

    def test_third_deferral_in_a_row_is_an_event_and_a_count(self, pair: Handles) -> None:
        """From the third run on, in each; a run that does it begins anew."""
        said = []
        put_off = JobDeferred(reason="busy")
        endings: list[Ending] = [put_off, put_off, put_off, put_off, done(), put_off]
        for event in endings:
            new = family("a")
            pair.life.submit(new.submission)
            pair.finish(new.children[0], event)
            events = [each.event.name for each in all_events(pair.reader, correlation_id=new.parent.id)]
            said.append(("deferral_repeated" in events, pair.job(new.parent.id).stats.often))
        assert said == [(False, 0), (False, 0), (True, 1), (True, 1), (False, 0), (False, 0)]

    def test_attempt_given_back_by_a_process_that_ends_is_not_counted(self, pair: Handles) -> None:
        """However often that happens, its job is not given up; it is delivered again at once."""
        new = family(max_attempts=2)
        pair.life.submit(new.submission)
        for attempt in range(1, 6):
            pair.finish(
                new.children[0], JobReturned(attempt=attempt, reason="its process was told to end", counted=False)
            )
            assert pair.job(new.children[0].id).status is JobStatus.PENDING
        pair.finish(new.children[0], JobReturned(attempt=6, reason="lost the connection"))
        pair.finish(new.children[0], JobReturned(attempt=7, reason="lost the connection"))
        assert (pair.job(new.children[0].id).error or {})["kind"] == "poisoned"
        check_record(pair, [new.parent, *new.children])


def _of(pair: Handles, jobs: Sequence[Job]) -> list[Job]:
    """Those of these jobs that are deliverable or run."""
    ids = {job.id for job in jobs}
    return [job for job in pair.everything(JobQuery(released=True, newest_first=False)) if job.id in ids]
