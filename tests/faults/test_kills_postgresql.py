"""Workers are killed while PostgreSQL works for them: two sessions of ours are never on one table, and nothing is lost."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Policy, Step
from dbupkeep.jobs import JobStatus, Phase
from dbupkeep.ledger import JobQuery
from dbupkeep.operations import parse
from tests.plugins.postgresql import Database
from tests.plugins.postgresql_bench import Workbench

if TYPE_CHECKING:
    from tests.faults.conftest import Processes

pytestmark = [pytest.mark.engine("postgresql"), pytest.mark.slow, pytest.mark.fault, pytest.mark.xdist_group("kills")]

TABLES = 6
WORKERS = 2

ON_ONE_TABLE = """
SELECT substring(query FROM 'VACUUM .*"(t\\d)"') AS name, count(*) FROM pg_stat_activity
 WHERE state = 'active' AND application_name ~ '^dbupkeep:[0-9a-f]+:\\d+$' AND query ~ 'VACUUM \\('
 GROUP BY name HAVING count(*) > 1
"""


@contextmanager
def looked_at(database: Database, seen: Counter[str]) -> Iterator[None]:
    """Count what is never to be seen, and how often was looked."""
    ended = threading.Event()

    def look() -> None:
        with database.connect() as connection:
            while not ended.is_set():
                seen.update(row[0] for row in connection.execute(ON_ONE_TABLE).fetchall())
                seen["looks"] += 1

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.timeout(1800)
def test_two_attempts_are_never_on_one_table(kills: int, processes: Processes, newest: Workbench) -> None:
    dice = random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}")
    for number in range(TABLES):
        newest.bloat(f"t{number}", rows=40_000, dead=15_000)
    newest.slowly("20ms")
    app = App(str(processes.ledger), isolate=False)

    def submit() -> None:
        policy = Policy(force=True, max_attempts=1000, thresholds={"vacuum": {"group_from": 1000}})
        step = Step(
            name="step", targets=(replace(newest.target, parallel=3),), operations=parse(["vacuum"]), policy=policy
        )
        app.databases.create_parent_job(step, JobDefinition(name="job", steps=(step,)))

    def running() -> int:
        jobs = app.reader.jobs(JobQuery(statuses=(JobStatus.RUNNING,)), limit=1000).jobs
        return sum(job.phase is Phase.EXECUTION for job in jobs)

    seen: Counter[str] = Counter()
    workers = [processes.start("serve", slots=2) for _ in range(WORKERS)]
    with looked_at(newest.database, seen):
        for number in range(max(20, kills // 5)):
            if number % 10 == 0:
                submit()
            until_work(running)
            time.sleep(dice.uniform(0.0, 0.3))  # the moment is the point, and nothing waits for it
            place = dice.randrange(WORKERS)
            assert processes.kill(workers[place]) == -signal.SIGKILL
            workers[place] = processes.start("serve", slots=2)
        for pid in workers:
            processes.kill(pid)
        newest.database.execute(f"ALTER DATABASE {newest.database.name} RESET ALL")
        assert processes.run("drain", slots=2) == 0
    jobs = [job for job in app.reader.jobs(JobQuery(), limit=10_000).jobs if job.phase is Phase.EXECUTION]
    print(f"{len(jobs)} operations, {sum(job.attempt for job in jobs)} attempts, {seen['looks']} looks")
    assert {job.status for job in jobs} <= {JobStatus.COMPLETED, JobStatus.DEFERRED}, Counter(
        (job.status, str(job.error or job.reason)) for job in jobs
    )
    assert any(job.attempt > 1 for job in jobs)
    assert set(seen) == {"looks"}, seen
    app.close()


def until_work(running: Callable[[], int]) -> None:
    """Wait until something runs; a moment is enough, for there may be nothing left."""
    pause = threading.Event()
    for _ in range(40):
        if running():
            return
        pause.wait(0.05)
