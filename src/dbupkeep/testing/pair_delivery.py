"""The part of the pair suite about delivery: serving, leases, lost and stalled worker processes, the sweep."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import pytest

from dbupkeep.clock import SystemClock
from dbupkeep.jobs import Delivery, JobStatus
from dbupkeep.ledger import JobQuery, Tx
from dbupkeep.testing.pair_kit import (
    PATIENCE,
    Handles,
    Log,
    Opener,
    Planted,
    done,
    eventually,
    failed,
    family,
    serving,
)
from dbupkeep.testing.pair_process import Elsewhere
from dbupkeep.worker import Ended


def deliver(pair: Handles, *deliveries: Delivery) -> None:
    """Enqueue deliveries in a transaction of their own."""
    pair.ledger.transact(lambda tx: pair.queue.enqueue(tx, deliveries))


def made(*names: str, lane: str = "default") -> list[Delivery]:
    """Deliveries of jobs that need not exist: the queue does not ask."""
    return [Delivery(job_id=name, attempt=1, lane=lane) for name in names]


class ServingTests:
    """Handing out deliveries."""

    def test_each_delivery_is_handed_out_once_and_gone(self, pair: Handles, other: Handles) -> None:
        """Two processes share the work."""
        items = made(*(f"job {n:02}" for n in range(20)))
        deliver(pair, *items)
        log = Log()
        with serving(pair.queue, log, slots=2), serving(other.queue, log, slots=2):
            eventually("all are handed out", lambda: len(log.got) >= len(items))
            eventually("all are gone", lambda: len(pair.queue.missing([i.key for i in items])) == len(items))
        assert sorted(log.keys) == [item.key for item in items]

    def test_same_key_is_one_delivery(self, pair: Handles) -> None:
        """Also while it is being handled, and also within one call."""
        first, last = made("a", "b")
        deliver(pair, first, first)
        deliver(pair, first)
        log = Log(lambda delivery, _: deliver(pair, first) if delivery == first else None)
        with serving(pair.queue, log):
            eventually("the first is gone", lambda: pair.queue.missing([first.key]))
            deliver(pair, last)
            eventually("the last is gone", lambda: pair.queue.missing([last.key]))
        assert log.keys == [first.key, last.key]

    def test_nothing_is_delivered_of_what_was_taken_back(self, pair: Handles) -> None:
        """Enqueueing is part of the ledger's transaction."""
        [phantom, real] = made("phantom", "real")

        def work(tx: Tx) -> None:
            pair.queue.enqueue(tx, [phantom])
            raise Planted

        with pytest.raises(Planted):
            pair.ledger.transact(work)
        assert pair.queue.missing([phantom.key]) == {phantom.key}
        assert pair.queue.missing([]) == set()
        log = Log()
        with serving(pair.queue, log):
            deliver(pair, real)
            eventually("the real one is handed out", lambda: log.got)
        assert log.keys == [real.key]

    @pytest.mark.parametrize("slots", [1, 3])
    def test_slots_limit_what_is_handled_at_a_time(self, pair: Handles, slots: int) -> None:
        """That many at once, and not one more."""
        deliver(pair, *made(*"abcdefg"))
        now, most = 0, 0
        lock, full = threading.Lock(), threading.Barrier(slots)

        def handle(delivery: Delivery, worker: str) -> None:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            if delivery.job_id in "abcdef"[: 2 * slots]:
                full.wait(PATIENCE)
            with lock:
                now -= 1

        log = Log(handle)
        with serving(pair.queue, log, slots=slots):
            eventually("all are handed out", lambda: len(log.got) == 7)
        assert most == slots

    def test_lanes(self, pair: Handles) -> None:
        """A process takes what its lanes name; one that names none takes all, in the order of submission."""
        here, there = made("a", "c", lane="here"), made("b", "d", lane="there")
        deliver(pair, here[0], there[0], here[1], there[1])
        some, rest = Log(), Log()
        with serving(pair.queue, some, lanes=["there", "nowhere"]):
            eventually("its lane is empty", lambda: len(some.got) == 2)
            assert not pair.queue.missing([item.key for item in here])
        with serving(pair.queue, rest):
            eventually("the rest is handed out", lambda: len(rest.got) == 2)
            deliver(pair, *made("e", lane="a new one"))
            eventually("a lane that was not there before is served", lambda: len(rest.got) == 3)
        assert (some.keys, rest.keys) == (["b/1", "d/1"], ["a/1", "c/1", "e/1"])

    def test_delay(self, pair: Handles) -> None:
        """A delivery is not handed out before it is due, and does not hold up others."""
        clock = SystemClock()
        start, times = clock.monotonic(), dict[str, float]()
        deliver(pair, Delivery(job_id="a", attempt=1, delay=0.5), Delivery(job_id="b", attempt=1))
        log = Log(lambda delivery, _: times.setdefault(delivery.job_id, clock.monotonic() - start))
        with serving(pair.queue, log):
            eventually("both are handed out", lambda: len(log.got) == 2)
        assert log.keys == ["b/1", "a/1"]
        assert times["a"] >= 0.5

    def test_stop_waits_for_the_handlers(self, pair: Handles) -> None:
        """What was taken is finished and gone, what was not stays."""
        deliver(pair, *made("a", "b"))
        begun, go, finished = threading.Event(), threading.Event(), list[str]()

        def handle(delivery: Delivery, worker: str) -> None:
            begun.set()
            go.wait(PATIENCE)
            finished.append(delivery.key)

        with serving(pair.queue, Log(handle)) as stop:
            assert begun.wait(PATIENCE)
            stop.set()
            go.set()
        assert finished == ["a/1"]
        assert pair.queue.missing(["a/1", "b/1"]) == {"a/1"}

    def test_handler_that_raises_gets_it_again(self, pair: Handles) -> None:
        """The delivery is not lost with the fault, and the slot goes on."""
        deliver(pair, *made("a"))

        def handle(delivery: Delivery, worker: str) -> None:
            if len(log.got) == 1:
                raise Planted

        log = Log(handle)
        with serving(pair.queue, log):
            eventually("it comes again", lambda: len(log.got) >= 2)
            eventually("it is gone", lambda: pair.queue.missing(["a/1"]))
        assert log.keys == ["a/1", "a/1"]

    def test_lease_is_renewed_while_the_handler_runs(self, pair: Handles, other: Handles, lease: float) -> None:
        """However long it takes, nobody else gets it."""
        deliver(pair, *made("long"))
        begun, go, clock = threading.Event(), threading.Event(), SystemClock()

        def handle(delivery: Delivery, worker: str) -> None:
            begun.set()
            go.wait(PATIENCE)

        mine, theirs = Log(handle), Log()
        with serving(pair.queue, mine):
            assert begun.wait(PATIENCE)
            with serving(other.queue, theirs):
                end = clock.monotonic() + 2.5 * lease
                eventually("some leases have passed", lambda: clock.monotonic() > end)
                deliver(pair, *made("next"))
                eventually("the other one is at work", lambda: theirs.got)
            go.set()
        assert (mine.keys[:1], theirs.keys) == (["long/1"], ["next/1"])
        assert len(pair.queue.missing(["long/1", "next/1"])) == 2

    def test_workers_are_known(self, pair: Handles) -> None:
        """With their lanes and what they hold; a process that ended is not among them."""
        deliver(pair, *made("a", lane="here"))
        begun, go = threading.Event(), threading.Event()

        def hold(delivery: Delivery, worker: str) -> None:
            begun.set()
            go.wait(PATIENCE)

        log = Log(hold)
        with serving(pair.queue, log, lanes=["here"]):
            assert begun.wait(PATIENCE)
            [worker] = eventually("it says that it is there", pair.queue.workers)
            assert (worker.id, worker.lanes, worker.busy, worker.alive) == (log.got[0][1], ("here",), ("a/1",), True)
            assert pair.queue.prune() == 0
            go.set()
        assert not [worker for worker in pair.queue.workers() if worker.alive]

    def test_sweep_finds_what_lost_its_delivery(self, pair: Handles) -> None:
        """A released job without a delivery is delivered again."""
        new = family()
        pair.life.submit(new.submission)
        key = f"{new.children[0].id}/1"
        with serving(pair.queue, Log()):
            eventually("its delivery is lost", lambda: pair.queue.missing([key]))
        assert pair.life.rescue(pair.everything(JobQuery(released=True))) == 1
        assert pair.life.rescue(pair.everything(JobQuery(released=True))) == 0
        with serving(pair.queue, Log(pair.life.begin)):
            eventually("it runs", lambda: pair.job(new.children[0].id).status is JobStatus.RUNNING)


@pytest.mark.slow
class LostWorkerTests:
    """Worker processes that are killed or stalled: real ones."""

    def test_each_crash_costs_one_attempt(self, pair: Handles, opener: Opener) -> None:
        """The delivery comes again with its key, ends that attempt and makes the next; the last one poisons the job."""
        new = family("a", max_attempts=2)
        pair.life.submit(new.submission)
        job = new.children[0]
        for attempt, status in ((1, JobStatus.PENDING), (2, JobStatus.FAILED)):
            with elsewhere(opener) as process:
                assert process.wait_for("begun") == f"{job.id}/{attempt}"
                process.kill()
            assert _first_handed_out(pair) == f"{job.id}/{attempt}"
            assert (pair.job(job.id).status, pair.job(job.id).attempt) == (status, attempt)
        assert (pair.job(job.id).error or {})["kind"] == "poisoned"
        assert pair.statuses([new.parent]) == ["failed"]

    def test_lost_delivery_comes_before_new_ones(self, pair: Handles, opener: Opener, lease: float) -> None:
        """Rescue comes first."""
        clock = SystemClock()
        first = family("a")
        pair.life.submit(first.submission)
        with elsewhere(opener) as process:
            process.wait_for("begun")
            process.kill()
        end = clock.monotonic() + lease  # it may have renewed at the last moment
        eventually("its lease runs out", lambda: clock.monotonic() > end)
        assert not any(worker.alive for worker in pair.queue.workers())
        deliver(pair, *made(*"bcd"))
        log = Log(pair.life.begin)
        with serving(pair.queue, log):
            eventually("all are handed out", lambda: len(log.got) == 5)
        assert log.keys[0] == f"{first.children[0].id}/1"
        assert sorted(log.keys[1:]) == sorted(["b/1", "c/1", "d/1", f"{first.children[0].id}/2"])
        assert pair.queue.prune() == 1
        assert pair.queue.workers() == []

    def test_stalled_worker_comes_back(self, pair: Handles, opener: Opener, lease: float) -> None:
        """Its late renewals and its late acknowledgement do nothing to the delivery that another holds by now."""
        new = family("a")
        pair.life.submit(new.submission)
        job = new.children[0]
        key = f"{job.id}/1"
        held, go = threading.Event(), threading.Event()
        clock = SystemClock()

        def hold(delivery: Delivery, worker: str) -> None:
            held.set()
            go.wait(PATIENCE)

        with elsewhere(opener) as zombie:
            zombie.wait_for("begun")
            zombie.stall()
            with serving(pair.queue, Log(hold)):
                assert held.wait(PATIENCE), "the delivery of a stalled worker is not handed out again"
                zombie.go_on()
                zombie.tell("end", failed().name)
                assert zombie.wait_for("ended") == "JobFailed"  # nothing had happened to the job yet
                end = clock.monotonic() + 2 * lease
                eventually("it acknowledged and renewed", lambda: clock.monotonic() > end)
                assert not pair.queue.missing([key])
                [holder] = [worker for worker in pair.queue.workers() if worker.busy]
                assert holder.busy == (key,)
                go.set()
        assert pair.queue.missing([key])

    def test_stalled_worker_is_fenced(self, pair: Handles, opener: Opener) -> None:
        """What it writes after another attempt took over is refused, and the other's result counts."""
        new = family("a")
        pair.life.submit(new.submission)
        job = new.children[0]
        with elsewhere(opener) as zombie:
            zombie.wait_for("begun")
            zombie.stall()
            with serving(pair.queue, Log(pair.life.begin)):
                eventually("another attempt runs", lambda: pair.job(job.id).attempt == 2)
                zombie.go_on()
                zombie.tell("report", "")
                assert zombie.wait_for("reported") == "fenced"
                zombie.tell("end", failed().name)
                assert zombie.wait_for("ended") == ""
        second = pair.job(job.id)
        assert (second.status, second.attempt) == (JobStatus.RUNNING, 2)
        assert pair.life.end(second, Ended(event=done())) is not None

    def test_zombie_does_not_renew_for_the_next_victim(self, pair: Handles, opener: Opener, lease: float) -> None:
        """A delivery whose second holder dies comes back, though the first one lives and thinks that it holds it."""
        deliver(pair, *made("a"))
        with elsewhere(opener, begins=False) as zombie:
            assert zombie.wait_for("begun") == "a/1"
            zombie.stall()
            with elsewhere(opener, begins=False) as second:
                assert second.wait_for("begun") == "a/1"
                zombie.go_on()
                second.kill()
            log = Log()
            with serving(pair.queue, log):
                eventually("it comes a third time", lambda: log.got)
            zombie.tell("leave", "")
            zombie.wait_for("left")
        assert pair.queue.missing(["a/1"])


def _first_handed_out(pair: Handles) -> str:
    """Begin what is handed out first, and take nothing more; its key."""
    stop = threading.Event()

    def begin(delivery: Delivery, worker: str) -> None:
        pair.life.begin(delivery, worker)
        stop.set()

    log = Log(begin)
    with serving(pair.queue, log, stop=stop):
        assert stop.wait(PATIENCE), "nothing is handed out"
    [key] = log.keys
    return key


@contextmanager
def elsewhere(opener: Opener, *, lanes: Sequence[str] = (), begins: bool = True) -> Generator[Elsewhere, None, None]:
    """A worker process that takes a delivery, holds it, and does what it is told."""
    process = Elsewhere(opener, lanes=lanes, begins=begins)
    try:
        yield process
    finally:
        process.kill()
