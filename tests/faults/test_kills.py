"""Workers are killed and frozen at random moments while they maintain real databases; then everything is accounted for.

Nothing may be lost, nothing completed twice, nothing left running; every database is sound and has its rows, the ledger
is sound, and the events tell exactly what the record says.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Policy, Step, Target
from dbupkeep.errors import UpkeepError
from dbupkeep.jobs import JobStatus, Phase
from dbupkeep.ledger import JobQuery
from dbupkeep.operations import parse
from tests.faults.replaying import recorded, replayed

if TYPE_CHECKING:
    from tests.faults.conftest import Databases, Processes

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]

DATABASES = 30
WORKERS = 3
LEAST_LOST = 0.2
"""The share of kills that has to hit an attempt while it runs, or the test shows too little."""


class Work:
    """Keeps enough submitted that the workers never run dry, and says what became of it."""

    def __init__(self, ledger: Path, paths: list[Path]) -> None:
        self.app = App(str(ledger), isolate=False)
        self.paths = paths
        self.parents: list[str] = []

    def submit_round(self) -> None:
        """One parent for each database; one that was just cut off cannot be surveyed now, and is left out."""
        policy = Policy(force=True, max_attempts=100)
        for path in self.paths:
            step = Step(
                name="step", targets=(Target(name=path.name, url=f"sqlite://{path}"),), policy=policy,
                operations=parse(["vacuum", "analyze"]),
            )  # fmt: skip
            try:
                self.parents.append(
                    self.app.databases.create_parent_job(step, JobDefinition(name="job", steps=(step,)))
                )
            except UpkeepError as error:
                print(f"not submitted: {error.message}")

    def unended(self) -> int:
        query = JobQuery(statuses=(JobStatus.PENDING, JobStatus.RUNNING))
        return sum(job.phase is Phase.EXECUTION for job in self.app.reader.jobs(query, limit=10_000).jobs)


class Mayhem:
    """Kills and freezes workers at random moments, and starts others in their place."""

    def __init__(self, processes: Processes, dice: random.Random) -> None:
        self.processes, self.dice = processes, dice
        self.workers = [processes.start("serve", slots=1) for _ in range(WORKERS)]
        # By pid. A clock of its own, because what a process is frozen in the middle of may hold up all others.
        self.thaws: dict[int, threading.Timer] = {}
        self.kills = self.freezes = 0

    def strike(self) -> None:
        """Wait a moment, then hit one."""
        time.sleep(self.dice.uniform(0.0, 0.08))  # the moment is the point, and nothing waits for it
        place = self.dice.randrange(len(self.workers))
        pid = self.workers[place]
        frozen = [one for one, thaw in self.thaws.items() if thaw.is_alive()]
        if pid in frozen:
            return
        if len(frozen) < WORKERS - 1 and self.dice.random() < 0.06:
            self.freeze(pid)
        else:
            status = self.processes.kill(pid)
            assert status == -signal.SIGKILL, f"a worker ended by itself: {status}"
            self.kills += 1
            self.workers[place] = self.processes.start("serve", slots=1)

    def freeze(self, pid: int) -> None:
        """Stop it for longer than its lease."""
        self.processes.signal(pid, signal.SIGSTOP)
        self.freezes += 1
        thaw = threading.Timer(2.5 * self.processes.lease, self.processes.signal, (pid, signal.SIGCONT))
        thaw.start()
        self.thaws[pid] = thaw

    def end(self) -> None:
        """Thaw all, and let nobody work any more."""
        for thaw in self.thaws.values():
            thaw.join()
        for pid in self.workers:
            self.processes.kill(pid)


@pytest.fixture
def work(processes: Processes, databases: Databases) -> Iterator[Work]:
    paths = [databases.make(f"{n:02}.db", rows=30_000, wal=n % 2 == 0) for n in range(DATABASES)]
    made = Work(processes.ledger, paths)
    yield made
    made.app.close()


def account(work: Work, processes: Processes, mayhem: Mayhem) -> int:
    """Nothing is missing, twice or open; how many attempts were lost."""
    history, jobs = replayed(work.app), recorded(work.app)
    print(f"{len(jobs)} jobs, {sum(history.starts.values())} attempts")
    history.check_against(jobs)
    history.check_ended()
    operations = [job for job in jobs if job.phase is Phase.EXECUTION]
    failed = Counter((job.status, str(job.error or job.reason)) for job in operations)
    # A worker that is frozen in the middle of a write keeps the database locked: then the next attempt is deferred.
    assert {job.status for job in operations} <= {JobStatus.COMPLETED, JobStatus.SKIPPED, JobStatus.DEFERRED}, failed
    assert sum(job.status is JobStatus.DEFERRED for job in operations) <= mayhem.freezes, failed
    assert set(history.endings.values()) == {1}, "an operation has ended twice"
    parents = [job for job in jobs if job.phase is Phase.ORCHESTRATION]
    assert {job.status for job in parents} <= {JobStatus.COMPLETED, JobStatus.DEFERRED}
    assert {job.id for job in jobs if job.is_root} == set(work.parents), "a run was lost"
    begun = Counter(effect["tag"] for effect in processes.effects() if effect["when"] == "began")
    assert max(begun.values()) == 1, "one attempt was executed twice"
    return history.lost


@pytest.mark.fault
@pytest.mark.timeout(3600)
def test_nothing_is_lost_and_nothing_done_twice(
    kills: int, processes: Processes, databases: Databases, work: Work
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    work.submit_round()
    mayhem = Mayhem(processes, random.Random(seed))
    started = time.monotonic()
    while mayhem.kills < kills:
        if work.unended() < 2 * WORKERS:
            work.submit_round()
        mayhem.strike()
    mayhem.end()
    struck = time.monotonic() - started
    assert [processes.wait(pid) for pid in [processes.start("drain", slots=1) for _ in range(2)]] == [0, 0]

    lost = account(work, processes, mayhem)
    print(f"{mayhem.kills} kills and {mayhem.freezes} freezes in {struck:.1f} s, and {lost} lost attempts")
    assert lost >= LEAST_LOST * kills, "too few kills hit work"

    work.app.close()
    databases.check()
    assert databases.verdict(processes.ledger) == "ok"
    beside = {path.name for path in processes.ledger.parent.iterdir()}
    assert beside == {"databases", "ledger.db", "effects.jsonl", "log.jsonl"}, "something was left behind"


@pytest.mark.fault
@pytest.mark.timeout(600)
def test_the_real_command_killed_with_its_children(
    kills: int, processes: Processes, databases: Databases, work: Work
) -> None:
    """`dbupkeep worker` works on SQLite in child processes; a kill reaches the parent alone."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    work.submit_round()
    command = [sys.executable, "-m", "dbupkeep", "--ledger", str(processes.ledger), "worker", "--drain", "--lease", "1"]
    for _ in range(max(8, kills // 25)):
        if work.unended() < 2 * WORKERS:
            work.submit_round()
        seen = work.app.reader.events(0, limit=100_000)[-1].seq
        with subprocess.Popen(command, env={**os.environ}, stderr=subprocess.DEVNULL) as process:
            while not [one for one in work.app.reader.events(seen) if one.event.name == "job_started"]:
                assert process.poll() is None
                time.sleep(0.005)
            time.sleep(dice.uniform(0.0, 0.1))
            process.kill()
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0

    history = replayed(work.app)
    print(f"{sum(history.starts.values())} attempts, {history.lost} of them lost")
    history.check_against(recorded(work.app))
    history.check_ended()
    assert {job.status for job in recorded(work.app)} <= {JobStatus.COMPLETED, JobStatus.SKIPPED}
    assert history.lost >= 2
    work.app.close()
    databases.check()
    assert databases.verdict(processes.ledger) == "ok"
