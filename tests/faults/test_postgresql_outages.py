"""Servers that go away in the middle of a run: restarted, failed over, replaced, full, without their tables. Each run settles."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from msgspec.structs import replace

from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Policy, Setting, Step, Target
from dbupkeep.engines.postgresql import volumes
from dbupkeep.engines.postgresql.urls import target_of
from dbupkeep.jobs import Job, JobStatus, Phase
from dbupkeep.ledger import JobQuery
from dbupkeep.operations import Operation, parse
from tests.plugins.postgresql import NEWEST, Database, Server, clone, start
from tests.plugins.postgresql_bench import until
from tests.plugins.postgresql_phases import invalid, strangers

if TYPE_CHECKING:
    from tests.faults.conftest import Processes

pytestmark = [pytest.mark.engine("postgresql"), pytest.mark.slow, pytest.mark.fault, pytest.mark.xdist_group("outages")]

LONG = 1000  # kills asked for by `make fault`
TABLES = 3
ENDED_WELL = {JobStatus.COMPLETED, JobStatus.DEFERRED, JobStatus.SKIPPED}
EXCLUDED = ("pg_catalog.*", "information_schema.*")

SLOW = """CREATE FUNCTION slow(k int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
          PERFORM pg_catalog.pg_sleep(0.0005); RETURN k; END $$"""


class Work:
    """What is submitted, and what became of it."""

    def __init__(self, ledger: Path, target: Target) -> None:
        self.app = App(str(ledger), isolate=False)
        self.target = target

    def submit(
        self, *operations: str, consents: Sequence[str] = (), thresholds: Mapping[str, Mapping[str, Setting]] | None = None
    ) -> str:  # fmt: skip
        policy = Policy(
            force=True, max_attempts=1000, consents=frozenset(consents),
            thresholds=thresholds or {"reindex": {"cleanup_wait": 2.0}},
        )  # fmt: skip
        wanted = parse(list(operations or ("vacuum", "reindex", "analyze")))
        step = Step(name="step", targets=(self.target,), policy=policy, operations=wanted)
        return self.app.databases.create_parent_job(step, JobDefinition(name="job", steps=(step,)))

    def jobs(self, *statuses: JobStatus) -> list[Job]:
        found = self.app.reader.jobs(JobQuery(statuses=statuses), limit=10_000).jobs
        return [job for job in found if job.phase is Phase.EXECUTION]

    def told(self) -> Counter[object]:
        return Counter((job.status.value, str(job.error or job.reason)[:300]) for job in self.jobs())


def filled(server: Server) -> Database:
    """Tables that are vacuumed quickly, with an index each that takes a while to build."""
    database = server.create()
    database.execute(SLOW)
    for number in range(TABLES):
        database.execute(
            f"CREATE TABLE t{number} (id int PRIMARY KEY, k int)",
            f"INSERT INTO t{number} SELECT n, n FROM generate_series(1, 600) n",
            f"CREATE INDEX t{number}_k ON t{number} (slow(k))",
        )
    return database


def target(*servers: Server, database: Database, parallel: int = 2) -> Target:
    """One database on one server, or wherever it takes changes."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    more = "&target_session_attrs=read-write" if len(servers) > 1 else ""
    url = f"postgresql://postgres@{hosts}/{database.name}?sslmode=disable{more}"
    return replace(target_of(url, exclude=EXCLUDED), parallel=parallel)


def nothing_left(database: Database) -> bool:
    """Whether no session of ours is on the server, and none of our locks."""
    sessions = "SELECT FROM pg_stat_activity WHERE application_name LIKE 'dbupkeep:%'"
    return not database.query(sessions) and not database.query("SELECT FROM pg_locks WHERE locktype = 'advisory'")


def at_work(database: Database) -> bool:
    """Whether one of the indexes that take a while is built."""
    slow = """SELECT FROM pg_stat_progress_create_index JOIN pg_stat_activity USING (pid)
               WHERE query ~ '"t\\d_k"' AND phase LIKE 'building index%'"""
    with suppress(psycopg.Error):
        return bool(database.query(slow))
    return False


@pytest.fixture
def server() -> Iterator[Server]:
    own = start(NEWEST)
    yield own
    own.remove()


@pytest.mark.timeout(1200)
def test_restarts_in_the_middle_of_runs(kills: int, processes: Processes, server: Server) -> None:
    dice = random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}")
    database = filled(server)
    theirs = strangers(database, "t0_k_ccnew", table="t0")
    work = Work(processes.ledger, target(server, database=database))
    worker = processes.start("serve", slots=2)
    restarts = 20 if kills >= LONG else 2
    for _ in range(restarts):
        if len(work.jobs(JobStatus.PENDING, JobStatus.RUNNING)) < TABLES:
            work.submit()
        until(lambda: at_work(database), seconds=120)
        time.sleep(dice.uniform(0.0, 0.3))  # the moment is the point, and nothing waits for it
        server.stop(dice.choice(("INT", "QUIT")))
        time.sleep(dice.uniform(0.0, 1.0))
        server.start_again()
    processes.kill(worker)
    assert processes.run("drain", slots=2) == 0
    jobs = work.jobs()
    print(f"{restarts} restarts, {len(jobs)} operations, {sum(job.attempt for job in jobs)} attempts")
    assert {job.status for job in jobs} <= ENDED_WELL, work.told()
    assert any(job.attempt > 1 and job.status is JobStatus.COMPLETED for job in jobs), "none was hit"
    work.submit()  # what was marked as ours because it could not be dropped goes with the next run
    assert processes.run("drain", slots=2) == 0
    assert invalid(database) == theirs
    until(lambda: nothing_left(database))
    work.app.close()


@pytest.mark.timeout(300)
def test_a_standby_takes_over_in_the_middle_of_a_run(processes: Processes, server: Server) -> None:
    database = filled(server)
    standby = clone(server)
    try:
        work = Work(processes.ledger, target(server, standby, database=database, parallel=1))
        until(lambda: server_is_near(server), seconds=30)
        parent = work.submit()
        worker = processes.start("serve", slots=1)
        until(lambda: at_work(database), seconds=60)
        before = len(work.jobs(JobStatus.COMPLETED))
        server.stop("QUIT")
        until(
            lambda: "waiting for the server" in str([job.progress for job in work.jobs(JobStatus.RUNNING)]), seconds=30
        )
        there = Database(server=standby, name=database.name)
        assert there.value("SELECT pg_is_in_recovery()")
        there.execute("SELECT pg_promote()")
        until(lambda: ended(work, parent), seconds=120)
        processes.kill(worker)
        jobs = work.jobs()
        assert {job.status for job in jobs} <= ENDED_WELL, work.told()
        assert len(work.jobs(JobStatus.COMPLETED)) > before
        assert any(job.attempt > 1 for job in jobs), "the one that ran was made again"
        assert invalid(there) == set()
        assert "/* dbupkeep" in standby.log, "it was worked on there"
        assert {job.target for job in jobs} == {jobs[0].target}, "one database, whichever server answers"
        until(lambda: nothing_left(there))
        work.app.close()
    finally:
        standby.remove()


@pytest.mark.timeout(300)
def test_another_server_in_its_place_is_not_worked_on(processes: Processes, server: Server) -> None:
    database = filled(server)
    foreign = start(NEWEST)
    try:
        with foreign.connect() as connection:
            connection.execute(f"CREATE DATABASE {database.name}")
        other = Database(server=foreign, name=database.name)
        other.execute(SLOW, "CREATE TABLE t0 (id int PRIMARY KEY, k int)", "CREATE INDEX t0_k ON t0 (slow(k))")
        work = Work(processes.ledger, target(server, foreign, database=database, parallel=1))
        parent = work.submit("reindex", "vacuum")
        worker = processes.start("serve", slots=1)
        until(lambda: at_work(database), seconds=60)
        server.stop("QUIT")
        until(lambda: ended(work, parent), seconds=120)
        processes.kill(worker)
        failed = work.jobs(JobStatus.FAILED)
        assert failed, work.told()
        assert {(job.error or {})["kind"] for job in failed} == {"replaced"}
        assert "/* dbupkeep" not in foreign.log, "no statement of maintenance ever got there"
        work.app.close()
    finally:
        foreign.remove()


@pytest.mark.timeout(300)
def test_a_table_that_is_dropped_in_the_middle_is_left_out(processes: Processes, server: Server) -> None:
    database = filled(server)
    work = Work(processes.ledger, target(server, database=database, parallel=1))
    parent = work.submit("reindex")
    worker = processes.start("serve", slots=1)
    until(lambda: at_work(database), seconds=60)
    busy = {row[0] for row in database.query("SELECT relid::regclass::text FROM pg_stat_progress_create_index")}
    gone = next(name for name in (f"t{number}" for number in range(TABLES - 1, -1, -1)) if name not in busy)
    database.execute(f"DROP TABLE {gone}")
    until(lambda: ended(work, parent), seconds=60)
    processes.kill(worker)
    skipped = [job for job in work.jobs(JobStatus.SKIPPED) if "is gone" in job.reason]
    assert {str(job.config["object"]) for job in skipped} <= {f"public.{gone}_k", f"public.{gone}_pkey"}
    assert skipped
    assert {job.status for job in work.jobs()} == {JobStatus.COMPLETED, JobStatus.SKIPPED}
    settled = work.app.reader.job(parent)
    assert settled is not None
    assert settled.outcome == "done"
    work.app.close()


# --- a full disk ---


@pytest.fixture
def small_volume(server: Server) -> Iterator[Path]:
    """A volume of 24 MB with a tablespace on it."""
    folder = server.folder / "volume"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0777", "tmpfs", str(folder)]
    if (
        os.geteuid() != 0
        or not shutil.which("mount")
        or subprocess.run(command, check=False, capture_output=True).returncode
    ):
        pytest.skip("no small volume can be mounted here")
    space = folder / "space"
    space.mkdir()
    owner = server.data.stat()
    os.chown(space, owner.st_uid, owner.st_gid)
    with server.connect() as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{space}'")
    yield folder
    server.stop("QUIT")
    subprocess.run(["umount", str(folder)], check=True)


def fill(volume: Path) -> None:
    """All but two megabytes of it."""
    free = os.statvfs(volume)
    (volume / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - (2 << 20)))


def tables_on(server: Server) -> Database:
    database = server.create()
    for name, rows in (("big", 60_000), ("second", 4000)):
        database.execute(
            f"CREATE TABLE {name} (id int PRIMARY KEY, a text) TABLESPACE small",
            f"INSERT INTO {name} SELECT n, md5(n::text) || md5((-n)::text) FROM generate_series(1, {rows}) n",
            f"CREATE INDEX {name}_a ON {name} (a) TABLESPACE small",
            f"VACUUM ANALYZE {name}",
        )
    database.execute("CHECKPOINT")
    return database


@pytest.mark.timeout(300)
@pytest.mark.parametrize("operation", [Operation.OPTIMIZE, Operation.REINDEX])
def test_a_full_disk_stops_what_takes_room_and_gives_it_back(
    tmp_path: Path, server: Server, small_volume: Path, operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tables_on(server)
    fill(small_volume)
    left = os.statvfs(small_volume).f_bavail
    monkeypatch.setattr(volumes, "free", lambda _: "{}")  # nobody foresees it
    work = Work(tmp_path / "ledger.db", target(server, database=database, parallel=1))
    limits = {operation.value: {"lock_wait": 5.0, "cleanup_wait": 5.0}}
    parent = work.submit(operation.value, "analyze", consents=["exclusive_lock"], thresholds=limits)
    work.app.drain()
    one_alarm(work)
    assert invalid(database) == set()
    assert database.value("SELECT count(*) FROM big") == 60_000
    database.execute("CHECKPOINT")
    until(lambda: os.statvfs(small_volume).f_bavail >= left - 20)
    server.stop("QUIT")
    server.start_again()  # recovery has the room that it needs
    (small_volume / "filler").unlink()
    for job in work.jobs(JobStatus.FAILED, JobStatus.DEFERRED):
        work.app.lifecycle.retry(job.id)
    work.app.drain()
    assert {job.status for job in work.jobs()} <= {JobStatus.COMPLETED, JobStatus.SKIPPED}, work.told()
    settled = work.app.reader.job(parent)
    assert settled is not None
    assert settled.outcome == "done"
    work.app.close()


def one_alarm(work: Work) -> None:
    """One operation failed, what takes room as well is put off, and the rest is done."""
    failed = work.jobs(JobStatus.FAILED)
    assert [(job.error or {})["kind"] for job in failed] == ["space"], f"one alarm, not many: {work.told()}"
    assert "big" in str(failed[0].config["object"])
    assert "CHECKPOINT" in str((failed[0].error or {})["hint"])
    deferred = work.jobs(JobStatus.DEFERRED)
    assert deferred
    assert all("a disk was full a moment ago" in job.reason for job in deferred)
    assert any(job.config["operation"] == "analyze" for job in work.jobs(JobStatus.COMPLETED))


def server_is_near(server: Server) -> bool:
    with server.connect() as connection:
        found = connection.execute("SELECT replay_lsn = pg_current_wal_lsn() FROM pg_stat_replication").fetchall()
    return found == [(True,)]


def ended(work: Work, parent: str) -> bool:
    job = work.app.reader.job(parent)
    return job is not None and job.status.ended
