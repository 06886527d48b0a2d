"""What a ledger and its queue owe when a run is ended that is too large for one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from typing_extensions import override

from dbupkeep import ending
from dbupkeep.clock import SystemClock
from dbupkeep.errors import IllegalTransition, LedgerError
from dbupkeep.events import JobCancelled, JobDeferred
from dbupkeep.jobs import Delivery, Job, JobStatus
from dbupkeep.ledger import Tx
from dbupkeep.lifecycle import Lifecycle, Submission
from dbupkeep.testing.faults import Faults, FaultyLedger
from dbupkeep.testing.pair_kit import (
    Family,
    Handles,
    check_record,
    done,
    execution,
    family,
    next_delivery,
    orchestration,
)
from dbupkeep.worker import Ended

FLAT = "fake:///flat"
SIZE = 3


class Fleet:
    """A run over one large database and some small ones; the first operation of each is gate to the others."""

    def __init__(self, pair: Handles) -> None:
        """Submit it, and begin the first operation of the large one."""
        self.run = orchestration(run=True)
        pair.life.submit(Submission(jobs=[self.run]))
        big = family(*"abcdefgh", target=FLAT, starter=self.run, waits={n: [0] for n in range(1, 8)}, gates=True)
        small = [
            family("a", "b", starter=self.run, target=f"fake:///{n}", waits={1: [0]}, gates=True) for n in range(4)
        ]
        self.families: Sequence[Family] = [big, *small]
        for new in self.families:
            pair.life.submit(new.submission)
        self.running = pair.begin(big.children[0])

    @property
    def jobs(self) -> list[Job]:
        """All of it, as submitted."""
        return [self.run, *(job for new in self.families for job in (new.parent, *new.children))]

    def waiting(self, pair: Handles) -> list[Job]:
        """Operations that wait still."""
        now = [pair.job(child.id) for new in self.families for child in new.children]
        return [job for job in now if job.status is JobStatus.PENDING]

    def check_over(self, pair: Handles, verb: str) -> None:
        """All that waited is cancelled, nothing was barred by another; what runs is told, or is not."""
        assert not self.waiting(pair)
        ended = [pair.job(child.id) for new in self.families for child in new.children if child.id != self.running.id]
        assert {job.status for job in ended} == {JobStatus.CANCELLED}
        assert pair.ledger.report(self.running.id, 1, None).cancel is (verb == "cancel")
        pair.life.end(self.running, Ended(event=JobCancelled(reason="asked") if verb == "cancel" else done()))
        assert pair.job(self.run.id).outcome == {"cancel": "cancelled", "stop": "stopped"}[verb]


def cut_off(pair: Handles, verb: str, job_id: str, *, after: int, by: str = "") -> None:
    """Ask it of a ledger that breaks once so many of its transactions are durable."""
    faults = Faults()
    broken = Lifecycle(FaultyLedger(pair.ledger, faults), pair.queue)
    faults.at(after, "committed", times=10**6)
    with pytest.raises(LedgerError):
        getattr(broken, verb)(job_id, by=by)


def a_turn_of(other: Handles, number: int) -> Job:
    """What another process submits, begins and ends between two transactions."""
    new = family(target=f"fake:///other{number}")
    other.life.submit(new.submission)
    return other.finish(new.children[0])


class EndingTests:
    """A run over thousands of databases is ended a slice at a time, and no slice is left over."""

    @pytest.fixture(params=["cancel", "stop"])
    def verb(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
        """What is asked for, where few jobs make a slice, so that few make many."""
        monkeypatch.setattr(ending, "SLICE", SIZE)
        return str(request.param)

    def test_others_get_their_turn_between_two_slices(self, pair: Handles, other: Handles, verb: str) -> None:
        """Each time that a slice is durable, another process submits, begins and ends; the caller returns when all is over."""
        fleet = Fleet(pair)
        turns: list[Job] = []
        faults = Faults(lambda: turns.append(a_turn_of(other, len(turns))))
        sliced = Lifecycle(FaultyLedger(pair.ledger, faults), pair.queue)
        faults.at(1, "committed", times=10**6)
        getattr(sliced, verb)(fleet.run.id, by="me")
        assert len(turns) > len(fleet.jobs) / SIZE
        assert all(turn.status is JobStatus.COMPLETED for turn in turns)
        assert fleet.run.id not in pair.released()
        fleet.check_over(pair, verb)

    def test_cut_off_anywhere_nothing_begins_and_whoever_asks_again_ends_it(self, pair: Handles, verb: str) -> None:
        """The wish is true before anything else; nothing is ended twice."""
        whole = 0
        for after in range(1, 12):
            fleet = Fleet(pair)
            cut_off(pair, verb, fleet.run.id, after=after)
            assert getattr(pair.job(fleet.run.id), f"{verb}_requested" if verb == "stop" else "cancel_requested")
            waiting = fleet.waiting(pair)
            whole += not waiting
            assert [pair.life.begin(next_delivery(job), "w") for job in waiting] == [None] * len(waiting)
            assert len(fleet.waiting(pair)) == len(waiting)
            getattr(pair.life, verb)(fleet.run.id)
            fleet.check_over(pair, verb)
            if whole:
                return
        pytest.fail("it takes more transactions than it should")

    def test_cut_off_it_can_be_gone_on_with(self, pair: Handles, verb: str) -> None:
        """By whoever finds the wish and what is owed, some slices at a time; what is over owes nothing."""
        fleet = Fleet(pair)
        cut_off(pair, verb, fleet.run.id, after=1)
        for _ in range(20):
            owed = [
                (wish, parent)
                for parent in map(pair.job, [fleet.run.id, *(new.parent.id for new in fleet.families)])
                for wish in ending.asked_of(parent)
                if not parent.status.ended and any(map(wish.is_owed, pair.reader.children(parent.id)))
            ]
            if not owed:
                break
            pair.life.end_below(owed[0][0], owed[0][1].id, most=1)
        assert not owed
        fleet.check_over(pair, verb)
        check_record(pair, fleet.jobs)

    def test_condition_is_asked_once(self, pair: Handles, verb: str) -> None:
        """The job as it was seen: what the verb itself changes is no reason to leave the rest."""
        fleet = Fleet(pair)

        def unchanged(tx: Tx) -> None:
            job = tx.job(fleet.run.id)
            if job is None or job.cancel_requested or job.stop_requested:
                raise IllegalTransition("it is not as it was seen")

        getattr(pair.life.provided(unchanged), verb)(fleet.run.id)
        fleet.check_over(pair, verb)

    def test_retry_meanwhile_takes_it_back(self, pair: Handles, verb: str) -> None:
        """Whoever was about to end the next slice leaves what was opened again."""
        fleet = Fleet(pair)
        getattr(pair.life, verb)(fleet.run.id)
        fleet.check_over(pair, verb)
        pair.life.retry(fleet.run.id)
        pair.life.end_below(ending.Ending(cancels=verb == "cancel"), fleet.run.id)
        assert len(fleet.waiting(pair)) == len(fleet.jobs) - 1 - len(fleet.families) - (verb == "stop")

    def test_what_waits_for_another_attempt(self, pair: Handles, verb: str) -> None:
        """Is given up with what has not started; one that is lost after a stop is made again, also where it was cut off."""
        run = orchestration(run=True)
        loose = [execution(run, place, hold=str(place)) for place in range(8)]
        pair.life.submit(Submission(jobs=[run, *loose], slots={loose[0].target: 8}))
        for job in (loose[0], loose[7]):
            pair.begin(job)
        pair.life.begin(Delivery(job_id=loose[7].id, attempt=1), "rescuer")
        cut_off(pair, verb, run.id, after=1)
        assert pair.job(loose[7].id).status is JobStatus.CANCELLED
        pair.life.begin(Delivery(job_id=loose[0].id, attempt=1), "rescuer")
        getattr(pair.life, verb)(run.id)
        if verb == "stop":
            pair.finish(loose[0], JobDeferred(reason="busy"))
        assert pair.job(loose[0].id).status is (JobStatus.DEFERRED if verb == "stop" else JobStatus.CANCELLED)
        assert pair.job(run.id).outcome == {"cancel": "cancelled", "stop": "stopped"}[verb]


class Later(SystemClock):
    """Two hours on."""

    @override
    def now(self) -> datetime:
        """The moment."""
        return super().now() + timedelta(hours=2)


class PuttingOffTests:
    """The time of a run over thousands of databases is over: what waits is put off a slice at a time."""

    @pytest.fixture
    def over(self, pair: Handles, monkeypatch: pytest.MonkeyPatch) -> Fleet:
        """A run that was to have ended an hour ago, as whoever takes `Later` for the time sees it."""
        monkeypatch.setattr(ending, "SLICE", SIZE)
        fleet = Fleet(pair)
        pair.life.limit(fleet.run.id, until=SystemClock().now() + timedelta(hours=1))
        return fleet

    def test_others_get_their_turn_and_all_is_put_off(self, pair: Handles, other: Handles, over: Fleet) -> None:
        """By whoever was to begin any of it; what runs goes on, and nothing is barred by what was put off before it."""
        turns: list[Job] = []
        faults = Faults(lambda: turns.append(a_turn_of(other, len(turns))))
        life = Lifecycle(FaultyLedger(pair.ledger, faults), pair.queue, Later())
        faults.at(1, "committed", times=10**6)
        assert life.begin(next_delivery(over.families[2].children[0]), "w") is None
        assert len(turns) > len(over.jobs) / SIZE
        self.check_over(pair, over)

    def test_cut_off_it_is_gone_on_with_by_who_begins_the_next(self, pair: Handles, over: Fleet) -> None:
        """Nothing begins meanwhile."""
        faults, life = Faults(), Lifecycle(pair.ledger, pair.queue, Later())
        broken = Lifecycle(FaultyLedger(pair.ledger, faults), pair.queue, Later())
        first = next_delivery(over.families[1].children[0])
        faults.at(3, "committed", times=10**6)
        with pytest.raises(LedgerError):
            broken.begin(first, "w")
        assert 0 < len(over.waiting(pair)) < 15
        assert life.begin(first, "w") is None
        self.check_over(pair, over)

    def test_what_a_person_says_meanwhile_counts(self, pair: Handles, other: Handles, over: Fleet) -> None:
        """A later end leaves the rest as it is."""
        faults = Faults(lambda: other.life.limit(over.run.id, open_end=True))
        life = Lifecycle(FaultyLedger(pair.ledger, faults), pair.queue, Later())
        faults.at(2, "committed")
        assert life.begin(next_delivery(over.families[1].children[0]), "w") is None
        assert len(over.waiting(pair)) > SIZE

    def check_over(self, pair: Handles, over: Fleet) -> None:
        """All that waited is deferred, and the run is once what runs has ended."""
        waited = [pair.job(child.id) for new in over.families for child in new.children if child.id != over.running.id]
        assert {job.status for job in waited} == {JobStatus.DEFERRED}
        pair.life.end(over.running, Ended(event=done()))
        assert pair.job(over.run.id).outcome == "deferred"
