"""The part of the pair suite about the store: transactions, documents, measurements, reads, pruning, migrations."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from dbupkeep.clock import SystemClock
from dbupkeep.errors import LedgerError, UnknownName
from dbupkeep.estimates import Measurement
from dbupkeep.events import JobCompleted, JobReturned, StageReached
from dbupkeep.jobs import Job, JobStatus, JobType
from dbupkeep.ledger import Backlog, JobQuery, Tx
from dbupkeep.operations import Operation
from dbupkeep.testing.pair_kit import (
    TARGET,
    Handles,
    Opener,
    Planted,
    all_events,
    done,
    failed,
    family,
    orchestration,
    together,
)
from dbupkeep.worker import Ended

MOMENT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def sample(target: str = TARGET, **changes: Any) -> Measurement:  # noqa: ANN401 - any field
    """A measurement."""
    plain = Measurement(
        at=MOMENT, engine="fake", target=target, object="t", operation=Operation.VACUUM, method="in place",
        seconds=0.1, work_bytes=10, bytes_before=2**40, bytes_after=1, values={"pages": 3, "share": 0.25},
    )  # fmt: skip
    return replace(plain, **changes)


class TransactionTests:
    """All or nothing, also where several threads and processes write."""

    def test_transaction_reads_what_it_wrote(self, pair: Handles) -> None:
        """And gives back what the closure returned."""

        def work(tx: Tx) -> object:
            pair.ledger.put(tx, "kind", "key", {"a": 1})
            return tx.get("kind", "key")

        assert pair.ledger.transact(work) == {"a": 1}
        assert pair.reader.get("kind", "key") == {"a": 1}

    def test_what_raises_leaves_nothing_and_harms_nobody(self, pair: Handles, other: Handles) -> None:
        """Transactions that fail at the same moment as others succeed."""

        def work(key: str, *, fails: bool) -> Callable[[Tx], str]:
            def write(tx: Tx) -> str:
                assert pair.ledger.put(tx, "kind", key, {"a": 1}, version=0)
                if fails:
                    raise Planted(key)
                return key

            return write

        for turn in range(5):
            works = [work(f"{turn}/{n}", fails=n % 2 == 1) for n in range(12)]
            results = together(
                *(partial((other if n % 4 else pair).ledger.transact, each) for n, each in enumerate(works))
            )
            for n, result in enumerate(results):
                assert isinstance(result, Planted) if n % 2 else result == f"{turn}/{n}"
                assert (pair.reader.get("kind", f"{turn}/{n}") is None) == bool(n % 2)

    def test_statement_that_fails_harms_nobody(self, pair: Handles) -> None:
        """Also when it is the store itself that refuses it."""

        def broken(tx: Tx) -> None:
            pair.ledger.put(tx, "kind", "broken", {})
            parent = orchestration()
            pair.ledger.insert(tx, [parent, parent], (), {})  # one identifier twice

        def sound(key: str) -> Callable[[], bool]:
            return lambda: pair.ledger.transact(lambda tx: pair.ledger.put(tx, "kind", key, {}, version=0))

        for turn in range(5):
            results = together(
                lambda: pair.ledger.transact(broken),
                *(sound(f"{turn}/{n}") for n in range(6)),
            )
            assert isinstance(results[0], LedgerError)
            assert results[1:] == [True] * 6
        assert pair.reader.get("kind", "broken") is None

    def test_documents_by_version(self, pair: Handles, other: Handles) -> None:
        """Versions count from 1; of two that write over the same one, one does."""

        def put(handles: Handles, doc: dict[str, Any], version: int | None) -> bool:
            return handles.ledger.transact(lambda tx: handles.ledger.put(tx, "kind", "key", doc, version=version))

        assert not put(pair, {"n": 0}, 1)
        assert put(pair, {"n": 1}, 0)
        assert not put(pair, {"n": 2}, 0)
        assert put(pair, {"n": 2}, 1)
        assert not put(pair, {"n": 3}, 1)
        assert put(pair, {"n": 3}, None)
        assert pair.reader.get("kind", "key") == {"n": 3}
        results = together(*(partial(put, handles, {"n": 4}, 3) for handles in (pair, other, pair, other)))
        assert sorted(map(str, results)) == ["False", "False", "False", "True"]
        assert pair.reader.get("kind", "other") is None

    def test_odd_texts_are_kept(self, pair: Handles) -> None:
        """Names and messages are data: quotes, placeholders, other scripts; what no store can hold does not fail."""
        odd = "a'b\"c%s %(x)s :id ::text \\ \n é 漢 🗄 {}"
        new = family(target=f"fake:///{odd}")
        child = replace(new.children[0], name=odd, config={"operation": "vacuum", "object": odd})
        pair.life.submit(replace(new.submission, jobs=[new.parent, child]))
        assert pair.job(child.id).name == odd
        assert pair.job(child.id).config["object"] == odd
        assert pair.everything(JobQuery(target=f"fake:///{odd}"))
        worst = "nul \0, half a pair \ud800"
        bad = JobCompleted(result={"effective": "yes", worst: worst, "rate": float("nan"), "most": float("inf")})
        pair.finish(child, bad)
        assert pair.job(child.id).status is JobStatus.COMPLETED
        assert pair.job(new.parent.id).status is JobStatus.COMPLETED


def _measure(pair: Handles, each: Measurement, tx: Tx) -> None:
    pair.ledger.measure(tx, each)


def _given(result: Any) -> Any:  # noqa: ANN401 - handles or what was raised instead
    return result


class ReadingTests:
    """What faces ask."""

    def test_job_by_the_beginning_of_its_id(self, pair: Handles) -> None:
        """Only where one job has it."""
        new = family("one", "two")
        pair.life.submit(new.submission)
        first = new.children[0]
        assert pair.job(first.id).id == first.id
        shortest = next(n for n in range(1, 37) if sum(j.id.startswith(first.id[:n]) for j in pair.everything()) == 1)
        assert pair.job(first.id[:shortest]).id == first.id
        assert pair.reader.job("") is None
        assert pair.reader.job("nobody") is None
        with pytest.raises(UnknownName):
            pair.reader.job(first.id[:2])

    def test_children_in_order_without_the_parent(self, pair: Handles) -> None:
        """By place, and a root is no child of itself."""
        new = family(*"abcde")
        shuffled = [new.parent, *reversed(new.children)]
        pair.life.submit(replace(new.submission, jobs=shuffled))
        assert [job.id for job in pair.reader.children(new.parent.id)] == [job.id for job in new.children]

    def test_queries(self, pair: Handles) -> None:
        """Each condition restricts, and they add up."""
        run = orchestration(run=True)
        inner = family("a", "b", slots=2, starter=run)
        outer = family("c", target="fake:///srv/b.db")
        pair.life.submit(replace(inner.submission, jobs=[run, *inner.submission.jobs]))
        pair.life.submit(outer.submission)
        pair.begin(inner.children[0])

        def found(**fields: Any) -> set[str]:  # noqa: ANN401 - the query's
            return {job.id for job in pair.everything(JobQuery(**fields))}

        assert found(statuses=(JobStatus.PENDING,)) == {inner.children[1].id, outer.children[0].id}
        assert found(types=(JobType.MAINTENANCE_RUN,)) == {run.id}
        assert found(target="b.db") == found(target="fake:///srv/b.db") == {outer.parent.id, outer.children[0].id}
        assert found(target="%.db") == set()
        assert found(roots=True) == {run.id, outer.parent.id}
        assert found(parent_id=run.id) == {inner.parent.id}
        assert found(correlation_id=run.id) == {run.id, inner.parent.id, *(job.id for job in inner.children)}
        assert found(correlation_id=run.id, statuses=(JobStatus.RUNNING,), parent_id=inner.parent.id) == {
            inner.children[0].id
        }
        assert found(released=True) == {*(job.id for job in inner.children), outer.children[0].id}

    @pytest.mark.parametrize("newest_first", [True, False])
    def test_pages_are_stable_while_jobs_are_added(self, pair: Handles, newest_first: bool) -> None:  # noqa: FBT001 - a parameter
        """No job twice, and none left out that was there at the beginning."""
        for _ in range(4):
            pair.life.submit(family("a").submission)
        there = {job.id for job in pair.everything()}
        seen: list[Job] = []
        cursor = ""
        while True:
            page = pair.reader.jobs(JobQuery(newest_first=newest_first), cursor=cursor, limit=3)
            seen.extend(page.jobs)
            cursor = page.cursor
            if not cursor:
                break
            if len(seen) < 10:
                pair.life.submit(family("a").submission)
        ids = [job.id for job in seen]
        assert ids == sorted(set(ids), reverse=newest_first)
        assert there <= set(ids)

    def test_follower_misses_nothing(self, pair: Handles, other: Handles) -> None:
        """By its cursor it gets every event once, in order, while several processes write."""
        families = [family("a", target=f"fake:///{n}") for n in range(4)]
        ended = threading.Event()
        seen: list[int] = []

        def follow() -> None:
            last = False
            while not last:
                last = ended.is_set()
                while found := pair.reader.events(seen[-1] if seen else 0, limit=7):
                    seen.extend(event.seq for event in found)

        def write(handles: Handles, new: Any) -> Callable[[], None]:  # noqa: ANN401 - a family
            def run() -> None:
                handles.life.submit(new.submission)
                handles.begin(new.children[0])
                for n in range(12):
                    handles.life.reach(handles.job(new.children[0].id), [StageReached(stage=f"stage {n}")])

            return run

        follower = threading.Thread(target=follow)
        follower.start()
        writers = [pair, other, pair, other]
        results = together(*(write(handles, new) for handles, new in zip(writers, families, strict=True)))
        ended.set()
        follower.join()
        assert results == [None] * 4
        assert seen == [event.seq for event in all_events(other.reader)]
        assert len(seen) == 4 * (2 + 1 + 12)

    def test_events_of_one_run(self, pair: Handles) -> None:
        """Of its parent and children, and no others."""
        mine, others = family("a"), family("b")
        for new in (mine, others):
            pair.life.submit(new.submission)
            pair.finish(new.children[0])
        names = [event.event.name for event in all_events(pair.reader, correlation_id=mine.parent.id)]
        assert names == ["job_submitted", "job_submitted", "job_started", "job_completed", "parent_settled"]

    def test_measurements(self, pair: Handles) -> None:
        """Newest first, by target or engine, with all that was in them."""
        samples = [sample(at=MOMENT + timedelta(days=n), seconds=0.1 * n) for n in range(3)]
        far = sample("fake:///b", engine="unreal", at=MOMENT + timedelta(days=9))
        for each in [*samples, far]:
            pair.ledger.transact(partial(_measure, pair, each))
        assert pair.reader.measurements(target=TARGET) == samples[::-1]
        assert pair.reader.measurements(target=TARGET, limit=1) == [samples[2]]
        assert pair.reader.measurements(engine="unreal") == [far]
        assert pair.reader.measurements(target=TARGET, until=samples[1].at) == [samples[1], samples[0]]
        assert pair.reader.measurements(until=samples[0].at - timedelta(microseconds=1)) == []
        assert pair.reader.measurements() == [far, *samples[::-1]]

    def test_targets_and_health(self, pair: Handles) -> None:
        """What the record knows of targets, and of itself."""
        assert pair.reader.health().oldest_pending_at is None
        first, second = family("a"), family("b", "c")
        for new in (first, second):
            pair.life.submit(new.submission)
        pair.finish(first.children[0])
        [target] = pair.reader.targets()
        assert (target.key, target.runs, target.last_status) == (TARGET, 2, "running")
        assert target.last_run_at == second.parent.created_at
        health = pair.reader.health()
        assert health.ok
        assert health.version > 0
        assert health.bytes > 0
        assert health.jobs == {"completed": 2, "running": 1, "pending": 2}
        assert health.oldest_pending_at == second.children[0].created_at


class KeepingTests:
    """Pruning, and the schema."""

    def test_prune_removes_whole_trees_that_ended(self, pair: Handles) -> None:
        """What runs or ended later stays, and so do measurements and others' plans."""
        run = orchestration(run=True)
        old, current = family("a", "b", slots=2, waits={1: [0]}, starter=run), family("c", slots=9)
        docs = [("plan", "old", {"n": 1}), ("plan", "current", {"n": 2})]
        mine = [replace(job, plan_id="old") for job in old.submission.jobs]
        theirs = [replace(job, plan_id="current") for job in current.submission.jobs]
        pair.life.submit(replace(old.submission, jobs=[run, *mine], documents=docs))
        pair.life.submit(replace(current.submission, jobs=theirs))
        pair.life.end(pair.begin(old.children[0]), Ended(event=done(), sample=sample()))
        future = SystemClock().now() + timedelta(days=1)
        assert pair.ledger.prune(future) == 0
        pair.finish(old.children[1], failed())
        assert pair.ledger.prune(SystemClock().now() - timedelta(days=1)) == 0
        assert pair.ledger.prune(future) == 4
        assert {job.id for job in pair.everything()} == {job.id for job in theirs}
        assert {event.correlation_id for event in all_events(pair.reader)} == {current.parent.id}
        assert pair.reader.get("plan", "old") is None
        assert pair.reader.get("plan", "current") == {"n": 2}
        assert pair.reader.measurements() == [sample()]
        assert pair.ledger.prune(future) == 0

    def test_what_a_run_cost_others_is_kept_by_attempt_and_summed(self, pair: Handles, other: Handles) -> None:
        """Two operations at once lose none of it; what is said again does not count twice; it goes with the run."""
        new = family("a", "b", slots=2)
        pair.life.submit(new.submission)
        first, second = (pair.begin(child) for child in new.children)
        assert pair.life.blocking(first, 0.0) == (0.0, 0.0)
        said = [(step / 10, step / 5) for step in range(1, 6)]
        together(
            lambda: [pair.life.blocking(first, one) for one, _ in said],
            lambda: [other.life.blocking(second, two) for _, two in said],
        )
        assert pair.life.blocking(first, 0.4) == (0.5, 1.5)
        pair.life.end(first, Ended(event=JobReturned(attempt=1)))
        again = pair.begin(new.children[0])
        assert pair.life.blocking(again, 1.0) == (1.5, 2.5)
        for job in (again, second):
            pair.life.end(job, Ended(event=done()))
        pair.ledger.prune(SystemClock().now() + timedelta(days=1))
        assert pair.reader.get("blocking", new.parent.id) is None

    def test_prune_forgets_old_plans_that_were_never_carried_out(self, pair: Handles) -> None:
        """A saved plan has no job that it goes with; a plan that is still wanted stays."""
        for kind in ("plan", "run_plan", "schedule"):
            pair.life.keep(kind, "saved", {"n": 1})
        pair.ledger.prune(SystemClock().now() - timedelta(days=1))
        assert pair.reader.get("plan", "saved") == pair.reader.get("run_plan", "saved") == {"n": 1}
        pair.ledger.prune(SystemClock().now() + timedelta(days=1))
        assert pair.reader.get("plan", "saved") is None
        assert pair.reader.get("run_plan", "saved") is None
        assert pair.reader.get("schedule", "saved") == {"n": 1}

    def test_backlog_counts_what_has_not_ended(self, pair: Handles) -> None:
        """Operations that wait, those of them that a worker could take, those at work; parents are none of them."""
        assert pair.reader.backlog() == Backlog()
        new = family("a", "b", "c")
        pair.life.submit(new.submission)
        waiting = pair.reader.backlog()
        assert (waiting.pending, waiting.deliverable, waiting.running) == (3, 1, 0)
        assert waiting.oldest_pending_at == pair.job(new.children[0].id).created_at
        pair.begin(new.children[0])
        working = pair.reader.backlog()
        assert (working.pending, working.deliverable, working.running) == (2, 0, 1)
        assert working.oldest_pending_at == pair.job(new.children[1].id).created_at
        for child in new.children[1:]:
            pair.life.skip(child.id)
        rest = pair.reader.backlog()
        assert (rest.pending, rest.running, rest.oldest_pending_at) == (0, 1, None)

    def test_event_numbers_are_not_used_again(self, pair: Handles) -> None:
        """A follower's cursor stays good when the newest events are pruned."""
        assert pair.reader.newest() == 0
        new = family("a")
        pair.life.submit(new.submission)
        pair.finish(new.children[0])
        last = [event.seq for event in all_events(pair.reader)][-1]
        assert pair.reader.newest() == last
        pair.ledger.prune(SystemClock().now() + timedelta(days=1))
        pair.life.submit(family("a").submission)
        assert min(event.seq for event in all_events(pair.reader)) > last

    def test_migration_may_be_repeated_by_many_at_once(self, opener: Opener) -> None:
        """On a new store, and on one in use."""
        opened = together(*(opener for _ in range(5)))
        assert not [result for result in opened if isinstance(result, BaseException)]
        handles = [Handles(partial(_given, result)) for result in opened]
        handles[0].life.submit(family("a").submission)
        for each in handles:
            each.ledger.migrate()
            each.queue.migrate()
            assert len(each.everything()) == 2
        for each in handles:
            each.close()
            each.close()

    def test_newer_schema_is_refused(self, pair: Handles, opener: Opener) -> None:
        """An old program does not touch what it does not know, and says what to do."""
        self.make_newer(pair)
        with pytest.raises(LedgerError) as caught:
            opener()
        assert "upgrade" in caught.value.hint

    def make_newer(self, pair: Handles) -> None:
        """Have the store say that a later version of the product made it."""
        raise NotImplementedError
