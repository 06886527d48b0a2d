"""The application meanwhile: eight readers and one that is idle in a transaction, beside each operation in turn."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import pytest

from dbupkeep.definitions import Policy
from dbupkeep.errors import Busy
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem
from dbupkeep.testing.engine_suite import item_of
from tests.plugins.postgresql import Server
from tests.plugins.postgresql_bench import Workbench, holding

pytestmark = [pytest.mark.engine("postgresql"), pytest.mark.fault, pytest.mark.slow, pytest.mark.xdist_group("latency")]

LOCK_WAIT = 0.5
ALLOWED = LOCK_WAIT + 0.1
BASELINE = 2.0

SETTINGS: Mapping[str, float] = {
    "lock_wait": LOCK_WAIT,
    "lock_tries": 2,
    "blocker_age": 0,
    "max_wait": 0.6,
    "cleanup_wait": 0.3,
}


READERS = """
import random, sys, threading, time, psycopg
ended, worst, count = threading.Event(), [0.0] * 8, [0] * 8

def read(number):
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        connection.execute("SELECT a FROM t WHERE id = 1")
        while not ended.wait(0.02):
            started = time.perf_counter()
            connection.execute("SELECT a FROM t WHERE id = %s", [random.randrange(60000)]).fetchall()
            worst[number] = max(worst[number], time.perf_counter() - started)
            count[number] += 1

threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
for thread in threads: thread.start()
while not all(count): time.sleep(0.01)
print("ready", flush=True)
sys.stdin.readline()
ended.set()
for thread in threads: thread.join()
print(max(worst), sum(count), flush=True)
"""


class Readers:
    """Eight clients that read a row at a time in a process of their own; how long each statement took is kept."""

    def __init__(self, bench: Workbench) -> None:
        command = [sys.executable, "-c", READERS, bench.database.url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def worst(self) -> float:
        """End them; the longest that any statement took, in seconds."""
        said, _ = self._process.communicate("end\n", timeout=60)
        seconds, count = said.split()
        assert int(count) > 50, "they hardly read"
        return float(seconds)


LONG = 1000  # kills asked for by `make fault`, which tries the newest server as well


@pytest.fixture
def benches(kills: int, postgresql: Callable[[int], Server]) -> Iterator[list[Workbench]]:
    """The server with pg_repack; in the long tier the newest too."""
    found = [bloated(postgresql(version)) for version in ((15, 18) if kills >= LONG else (15,))]
    yield found
    for bench in found:
        bench.database.drop()


def bloated(server: Server) -> Workbench:
    database = server.create()
    if server.version == 15:
        database.execute("CREATE EXTENSION pg_repack", "CREATE EXTENSION amcheck")
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a text)",
        "CREATE INDEX t_a ON t (a)",
        "INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 60000) n",
        "VACUUM ANALYZE t",
        "DELETE FROM t WHERE id % 10 < 3",
    )
    return Workbench(database=database)


def items(bench: Workbench) -> Iterator[PlanItem]:
    policy = Policy(force=True, consents=frozenset({"exclusive_lock"}), thresholds=dict.fromkeys(Operation, SETTINGS))
    for operation in Operation:
        yield from (item_of(each) for each in bench.due(operation, policy=policy))
    if bench.database.server.version == 15:  # the other way to rewrite, which pg_repack goes before
        bench.database.execute("DROP EXTENSION pg_repack")
        yield from (item_of(each) for each in bench.due(Operation.OPTIMIZE, policy=policy))


@pytest.mark.timeout(300)
def test_nobody_waits_for_longer_than_the_lock_timeout(benches: list[Workbench]) -> None:
    for bench in benches:
        nobody_waits(bench)


def nobody_waits(bench: Workbench) -> None:
    with holding(bench.database, "SELECT count(*) FROM t"):
        quiet = Readers(bench)
        threading.Event().wait(BASELINE)  # the time is the measure, and nothing waits for it
        baseline = quiet.worst()
        worst, done = {}, []
        for item in items(bench):
            readers = Readers(bench)
            threading.Event().wait(0.2)
            with suppress(Busy):
                bench.perform(item)
                done.append(item.method)
            name = f"{item.operation} {item.object} ({item.method})"
            worst[name] = readers.worst()
            print(f"{name}: {worst[name]:.3f} s, without maintenance {baseline:.3f} s")
    assert {"VACUUM FULL"}.isdisjoint(done), "it would have had to wait for the idle reader"
    late = {name: seconds for name, seconds in worst.items() if seconds > baseline + ALLOWED}
    assert late == {}
    methods = " ".join(worst)
    assert "VACUUM FULL" in methods
    assert "concurrently" in methods
    assert bench.database.server.version != 15 or "pg_repack" in methods
