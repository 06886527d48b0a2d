"""Workers are killed while they rebuild indexes: never two attempts on one table, and no unfinished index of ours."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Policy, Step
from dbupkeep.engines.postgresql.inquiry import group_of
from dbupkeep.facts import ObjectFacts
from dbupkeep.jobs import Job, JobStatus, Phase
from dbupkeep.ledger import JobQuery
from dbupkeep.operations import parse
from tests.plugins.postgresql import Database
from tests.plugins.postgresql_bench import Workbench, until
from tests.plugins.postgresql_phases import SETUP, held, invalid, strangers

if TYPE_CHECKING:
    from tests.faults.conftest import Processes

pytestmark = [pytest.mark.engine("postgresql"), pytest.mark.slow, pytest.mark.fault, pytest.mark.xdist_group("kills")]

TABLES = 5
WORKERS = 2
LONG = 1000  # kills asked for by `make fault`

# A rebuild that is long enough to be hit, with the rows of a table that is not.
SLOW = """CREATE FUNCTION slow(k int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
          PERFORM pg_catalog.pg_sleep(0.0005); RETURN k; END $$"""

ON_ONE_TABLE = r"""
SELECT coalesce(substring(query FROM 'REINDEX INDEX CONCURRENTLY "public"."(t\d)_'),
                substring(query FROM '(?:VACUUM|ANALYZE) .*"public"."(t\d)"')) AS name, count(DISTINCT pid)
  FROM pg_stat_activity
 WHERE state = 'active' AND application_name ~ '^dbupkeep:[0-9a-f]+:\d+$' AND query ~ '^/\* dbupkeep .*\*/ (REINDEX|VACUUM|ANALYZE)'
 GROUP BY name
"""


@dataclass(slots=True)
class Seen:
    """What was seen on the server."""

    looks: int = 0
    at_work: int = 0
    together: Counter[str] | None = None


@contextmanager
def looked_at(database: Database) -> Iterator[Seen]:
    """Look all the time for two sessions of ours that work on one table."""
    seen, ended = Seen(together=Counter()), threading.Event()

    def look() -> None:
        with database.connect() as connection:
            while not ended.is_set():
                found = connection.execute(ON_ONE_TABLE).fetchall()
                assert seen.together is not None
                seen.together.update(name for name, number in found if name and number > 1)
                seen.at_work += bool(found)
                seen.looks += 1

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


class Work:
    """What is submitted, and what became of it."""

    def __init__(self, processes: Processes, bench: Workbench, *, group_from: int) -> None:
        self.group_from = group_from
        self.app = App(str(processes.ledger), isolate=False)
        self.bench = bench

    def submit(self) -> None:
        settings = {"cleanup_wait": 2.0, "group_from": self.group_from}
        policy = Policy(force=True, max_attempts=1000, thresholds={"reindex": settings})
        step = Step(
            name="step", targets=(replace(self.bench.target, parallel=3),), policy=policy,
            operations=parse(["vacuum", "reindex", "analyze"]),
        )  # fmt: skip
        self.app.databases.create_parent_job(step, JobDefinition(name="job", steps=(step,)))

    def operations(self, *statuses: JobStatus) -> list[Job]:
        jobs = self.app.reader.jobs(JobQuery(statuses=statuses), limit=10_000).jobs
        return [job for job in jobs if job.phase is Phase.EXECUTION]


def rebuilt_again(jobs: list[Job]) -> bool:
    """Whether a kill hit a rebuild: it is chance which operation is at work."""
    return any(job.attempt > 1 and job.config["operation"] == "reindex" for job in jobs)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("group_from", [1000, 2])
def test_killed_workers_leave_no_index_and_are_never_two_on_one_table(
    kills: int, processes: Processes, newest: Workbench, group_from: int
) -> None:
    dice = random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}")
    newest.database.execute(SLOW)
    for number in range(TABLES):
        newest.database.execute(
            f"CREATE TABLE t{number} (id int PRIMARY KEY, k int)",
            f"INSERT INTO t{number} SELECT n, n FROM generate_series(1, 600) n",
            f"CREATE INDEX t{number}_k ON t{number} (slow(k))",
        )
    theirs = strangers(newest.database, "t0_k_ccnew", table="t0") | strangers(
        newest.database, "t1_k_ccnew1", table="t1"
    )
    work = Work(processes, newest, group_from=group_from)
    workers = [processes.start("serve", slots=2) for _ in range(WORKERS)]
    with looked_at(newest.database) as seen:
        least = kills // 5 if kills >= LONG else 10
        for number in range(5 * least):
            if number >= least and rebuilt_again(work.operations()):
                break
            if len(work.operations(JobStatus.PENDING, JobStatus.RUNNING)) < WORKERS:
                work.submit()
            until(lambda: work.operations(JobStatus.RUNNING), seconds=60)
            # The moment is the point, and nothing waits for it; now and then a later one, so that the run gets on.
            time.sleep(dice.random() * dice.choice((0.3, 0.3, 2.0)))
            place = dice.randrange(WORKERS)
            assert processes.kill(workers[place]) == -signal.SIGKILL
            workers[place] = processes.start("serve", slots=2)
        for pid in workers:
            processes.kill(pid)
        assert processes.run("drain", slots=2) == 0
    jobs = work.operations()
    print(f"{len(jobs)} operations, {sum(job.attempt for job in jobs)} attempts, {seen}")
    assert {job.status for job in jobs} <= {JobStatus.COMPLETED, JobStatus.DEFERRED, JobStatus.SKIPPED}, Counter(
        (job.status, str(job.error)) for job in jobs
    )
    assert rebuilt_again(jobs)
    assert seen.at_work
    assert not seen.together
    work.submit()  # what a deferred attempt marked as ours goes with the next run
    assert processes.run("drain", slots=2) == 0
    assert invalid(newest.database) == theirs
    work.app.close()


def test_what_a_killed_worker_had_done_of_a_group_is_remembered(processes: Processes, newest: Workbench) -> None:
    """The last one has its new index when the worker is killed: the attempt after it finds all done, and keeps that."""
    newest.database.execute(
        *(each.replace("(1, 2000)", "(1, 200)") for each in SETUP), "ALTER TABLE t DROP CONSTRAINT t_pkey"
    )
    beside = next(f"s{n}" for n in count() if group_of(table(f"s{n}")) == group_of(table("t")))
    newest.database.execute(
        f"CREATE TABLE {beside} (id int PRIMARY KEY)", f"INSERT INTO {beside} SELECT generate_series(1, 200)"
    )
    work = Work(processes, newest, group_from=2)
    with held(newest.database, "waiting for readers before dropping") as hold:
        work.submit()
        worker = processes.start("serve", slots=2)
        hold.arrive()
        processes.kill(worker)
        hold.release()
    assert processes.run("drain", slots=2) == 0
    (job,) = [each for each in work.operations() if each.config["operation"] == "reindex" and "object" in each.config]
    assert (job.status, job.attempt, (job.result or {})["recovered"]) == (JobStatus.COMPLETED, 2, True)
    (kept,) = [
        each
        for each in work.app.reader.measurements()
        if each.object == job.config["object"] and each.operation == "reindex"
    ]
    assert {part.object for part in kept.parts} == {"public.t_k", f"public.{beside}_pkey"}
    assert invalid(newest.database) == set()
    work.app.close()


def table(name: str) -> ObjectFacts:
    return ObjectFacts(name=f"public.{name}", kind="table", bytes=0)
