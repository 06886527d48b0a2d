"""A service over a long time: killed as a whole again and again it goes on, and run after run it grows no bigger."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Policy, Step, Target
from dbupkeep.errors import Busy
from dbupkeep.events import JobStarted
from dbupkeep.jobs import Job, JobStatus, Phase
from dbupkeep.ledger import JobQuery
from dbupkeep.operations import parse
from dbupkeep.testing.pair_kit import eventually
from tests.faults.replaying import recorded, replayed

if TYPE_CHECKING:
    from tests.faults.conftest import Databases

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]

GROWTH = 1.1
"""What may be there at the end, as a multiple of what was there after the warm-up."""

AT_ONCE = 4
"""Runs that are kept submitted."""

EVERY_SECOND = """
version = 1
[targets.a]
url = "sqlite://{path}"
[policies.always]
force = true
max_attempts = 100
[jobs.often]
every = "1s"
policy = "always"
[[jobs.often.steps]]
targets = ["a"]
operations = ["vacuum", "analyze"]
"""


@dataclass
class Service:
    """`dbupkeep serve` as a person starts it, with a client that submits runs on the same ledger."""

    folder: Path
    text: str = "version = 1\n"
    process: subprocess.Popen[bytes] | None = None
    submitted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = self.folder / "ledger.db"
        self.config = self.folder / "config.toml"
        self.config.write_text(self.text)
        self.app = App(str(self.ledger), isolate=False)

    def start(self) -> None:
        command = [sys.executable, "-m", "dbupkeep", "serve", "--port", "0", "--lease", "1"]
        places = ["--ledger", str(self.ledger), "--config", str(self.config)]
        self.process = subprocess.Popen([*command, *places], stderr=subprocess.DEVNULL)

    def submit(self, path: Path) -> str:
        step = Step(
            name="step", targets=(Target(name=path.name, url=f"sqlite://{path}"),), operations=parse(["vacuum", "analyze"]),
            policy=Policy(force=True, max_attempts=100),
        )  # fmt: skip
        self.submitted.append(eventually("what was cut off is rolled back", lambda: self._submit(step)))
        return self.submitted[-1]

    def _submit(self, step: Step) -> str:
        """The run, or nothing while half of what was cut off is in the file: the service is about to roll it back."""
        try:
            return self.app.databases.create_parent_job(step, JobDefinition(name="asked", steps=(step,)))
        except Busy:
            return ""

    def going(self) -> list[Job]:
        """Runs that have not ended."""
        return list(self.app.reader.jobs(JobQuery(roots=True, statuses=(JobStatus.PENDING, JobStatus.RUNNING))).jobs)

    def pids(self) -> list[int]:
        """The service with all processes below it."""
        assert self.process is not None
        assert self.process.poll() is None, "the service has ended by itself"
        return _tree(self.process.pid)

    def kill(self) -> None:
        """All of it at one moment, as when a machine fails; the ledger's locks go with it."""
        assert self.process is not None
        found = self.pids()
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none starts another meanwhile
            for pid in found:
                os.kill(pid, number)
        self.process.wait()
        eventually("all of it is gone", lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in found))

    def end(self) -> None:
        assert self.process is not None
        pid = self.process.pid
        eventually("it has come so far that it listens to signals", lambda: _catches(pid, signal.SIGTERM))
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0


def _catches(pid: int, number: signal.Signals) -> bool:
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def _tree(pid: int) -> list[int]:
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            found.extend(_tree(int(child)))
    return found


@pytest.fixture
def services(tmp_path: Path) -> Iterator[list[Service]]:
    made: list[Service] = []
    yield made
    for service in made:
        if service.process is not None and service.process.poll() is None:
            service.kill()
        service.app.close()


@pytest.mark.fault
@pytest.mark.timeout(3600)
def test_service_that_is_killed_as_a_whole_goes_on(
    kills: int, tmp_path: Path, databases: Databases, services: list[Service]
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    scheduled = databases.make("scheduled.db", rows=20_000)
    asked = [databases.make(f"asked-{n}.db", rows=20_000, wal=n % 2 == 0) for n in range(6)]
    service = Service(tmp_path, EVERY_SECOND.format(path=scheduled))
    services.append(service)
    struck = 0
    for _ in range(4 if kills <= 200 else kills // 25):
        service.start()
        seen = service.app.reader.events(0, limit=1_000_000)[-1:]
        after = seen[0].seq if seen else 0
        for path in asked:
            service.submit(path)
        eventually("it works", lambda after=after: _started_after(service, after))  # type: ignore[misc]
        time.sleep(dice.uniform(0.0, 0.4))  # the moment is the point, and nothing waits for it
        struck += any(job.status is JobStatus.RUNNING and job.phase is Phase.EXECUTION for job in recorded(service.app))
        service.kill()
    unended = len(service.going())
    service.config.write_text("version = 1\n")  # nothing new by schedule, so that it comes to an end
    service.start()
    while left := len(service.going()):
        eventually("more of what was left is done", lambda left=left: len(service.going()) < left)  # type: ignore[misc]
    service.end()

    lost = account(service)
    print(f"{struck} kills in the middle of work, {lost} lost attempts, {unended} runs were left to the last start")
    assert struck
    service.app.close()
    databases.check()
    assert databases.verdict(service.ledger) == "ok"


def account(service: Service) -> int:
    """Nothing is missing, twice or open; how many attempts were lost."""
    history, jobs = replayed(service.app), recorded(service.app)
    history.check_against(jobs)
    history.check_ended()
    roots = {job.id: job for job in jobs if job.is_root}
    assert set(service.submitted) <= set(roots), "a run was lost"
    others = [job for job in jobs if job.status not in (JobStatus.COMPLETED, JobStatus.SKIPPED)]
    assert all(job.status is JobStatus.DEFERRED for job in others)
    assert all("interrupted transaction" in job.reason for job in others if job.phase is Phase.EXECUTION)
    assert set(history.endings.values()) == {1}, "an operation has ended twice"
    tags = Counter(
        each.event.tag for each in service.app.reader.events(0, limit=1_000_000) if isinstance(each.event, JobStarted)
    )
    assert max(tags.values()) == 1, "one attempt was begun twice"
    due = [job for job in roots.values() if job.name == "often"]
    assert due, "nothing was started by its schedule"
    return history.lost


def _started_after(service: Service, after: int) -> bool:
    return any(isinstance(each.event, JobStarted) for each in service.app.reader.events(after))


@dataclass(frozen=True, slots=True)
class Size:
    """What a service takes up, all of its processes together."""

    memory: int  # KiB resident
    files: int  # open descriptors
    wal: int  # bytes

    @classmethod
    def of(cls, service: Service) -> Size:
        pids = service.pids()
        wal = Path(f"{service.ledger}-wal")
        return cls(
            memory=sum(_resident(pid) for pid in pids),
            files=sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
            wal=wal.stat().st_size if wal.exists() else 0,
        )


def _resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


@pytest.mark.fault
@pytest.mark.timeout(3600)
def test_runs_in_a_row_leave_nothing_behind(
    kills: int, tmp_path: Path, databases: Databases, services: list[Service]
) -> None:
    runs = 120 if kills <= 200 else 2 * kills
    path = databases.make("small.db", rows=400)
    service = Service(tmp_path)
    services.append(service)
    service.start()
    _have_done(service, path, runs // 2)
    warm = Size.of(service)
    _have_done(service, path, runs - runs // 2)
    grown = Size.of(service)
    print(f"{runs} runs: {warm} after the first half, {grown} at the end")
    service.end()
    assert grown.memory <= GROWTH * warm.memory
    assert grown.files <= math.ceil(GROWTH * warm.files)
    assert grown.wal <= GROWTH * warm.wal
    assert Counter(job.status for job in recorded(service.app) if job.is_root) == {JobStatus.COMPLETED: runs}


def _have_done(service: Service, path: Path, runs: int) -> None:
    """So many runs, a few of them submitted at a time."""
    started = len(service.submitted)
    while len(service.submitted) - started < runs:
        eventually("there is room for another", lambda: len(service.going()) < AT_ONCE)
        service.submit(path)
    eventually("all are done", lambda: not service.going())
