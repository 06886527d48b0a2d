"""A new file in the place of the old one: killed at every line of it, and raced by programs that open, write and close."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pytest
from msgspec.structs import replace

from dbupkeep import engines
from dbupkeep.codec import to_json
from dbupkeep.definitions import Policy
from dbupkeep.engine import Purpose, Scope
from dbupkeep.engines import sqlite as engine
from dbupkeep.engines.sqlite import rewrite, target_of
from dbupkeep.errors import Busy
from dbupkeep.estimates import History
from dbupkeep.isolated import Isolation
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem
from dbupkeep.testing.engine_suite import Recorder, item_of

pytestmark = pytest.mark.fault

LONG = 1000  # kills asked for by `make fault`

ALWAYS = Policy(force=True, thresholds={"vacuum": {"new_file_min_bytes": 0}})

JOURNALS = pytest.mark.parametrize("journal", ["delete", "wal"])

# Forks a process for each number that it is told, which does the item and is killed after so many lines of ours.
KILLED = """
import json, os, signal, sys
from dbupkeep.codec import from_json
from dbupkeep.engines import sqlite
from dbupkeep.engines.sqlite import rewrite, twin
from dbupkeep.plans import PlanItem

OURS = {rewrite.__file__, twin.__file__}

class Report:
    def __init__(self, notes): self.notes = notes
    def stage(self, name, message=""): pass
    def progress(self, progress): pass
    def follow(self, sample): pass
    def note(self, text):
        with open(self.notes, "a") as file:
            file.write(text + "\\n")

def work(told):
    left = told["lines"]
    def each(frame, event, argument):
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return each
    def trace(frame, event, argument):
        return each(frame, event, argument) if frame.f_code.co_filename in OURS else None
    session = sqlite.connect(sqlite.target_of(told["path"]), tag="dbupkeep:0123:1")
    sys.settrace(trace)
    done = session.run(from_json(PlanItem, told["item"]), Report(told["notes"]))
    sys.settrace(None)
    os._exit(0 if done.values["method"] == rewrite.METHOD else 1)

for line in sys.stdin:
    told = json.loads(line)
    child = os.fork()
    if child == 0:
        try:
            work(told)
        finally:
            os._exit(2)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forks:
    """Attempts in processes of their own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def attempt(self, path: Path, item: PlanItem, notes: Path, lines: int) -> int:
        """How it ended: 0 when it came to its end before so many lines."""
        assert self.process.stdin
        assert self.process.stdout
        told = {"path": str(path), "item": to_json(item), "notes": str(notes), "lines": lines}
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.fixture
def forks() -> Iterator[Forks]:
    made = Forks()
    yield made
    made.process.communicate()


def bloated(path: Path, journal: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t VALUES (?, ?)", ((n, f"{n:0200}") for n in range(400)))
        connection.execute("DELETE FROM t WHERE id < 300")
        connection.execute("COMMIT")
    path.chmod(0o640)


def planned(path: Path) -> PlanItem:
    scope = Scope(operations=(Operation.VACUUM,), now=datetime(2026, 1, 1, tzinfo=UTC))
    session = engine.connect(target_of(str(path)), purpose=Purpose.SURVEY)
    facts = engine.survey(session, scope)
    session.close()
    item = item_of(engine.assess(facts, ALWAYS, History(), scope)[0])
    assert item.method == rewrite.METHOD, item.evidence
    return item


def whole(path: Path) -> tuple[list[Any], str]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT * FROM t ORDER BY id").fetchall()
        return rows, connection.execute("PRAGMA journal_mode").fetchone()[0]


def settled(path: Path, item: PlanItem, notes: Path, old: int) -> None:
    """What the next attempt makes of it: the work is found done, or done now; either way exactly one file is left."""
    session = engine.connect(target_of(str(path)), tag="dbupkeep:0123:2")
    found = session.recover(item, "dbupkeep:0123:1", notes.read_text().splitlines() if notes.exists() else [])
    if path.stat().st_ino != old:
        assert found is not None
        assert found.values["replaced_inode"] == old
    if found is None:
        work = session.run(item, Recorder())
        found = session.verify(item, work)
    session.close()
    assert found.effective == "yes"
    assert found.after["free_pages"] == 0


def killed_at(folder: Path, forks: Forks, journal: str, lines: int) -> int:
    """Kill an attempt after so many lines, and check what it left; returns how it ended."""
    folder.mkdir()
    path, notes, foreign = folder / "app.db", folder.with_suffix(".notes"), folder / "app.db.new"
    bloated(path, journal)
    foreign.write_text("another's")
    rows, old, item = whole(path)[0], path.stat().st_ino, planned(path)
    ended = forks.attempt(path, item, notes, lines)
    assert path.stat().st_mode & 0o777 == 0o640
    before = [entry.name for entry in folder.iterdir()]
    assert whole(path)[0] == rows, (lines, before)
    settled(path, item, notes, old)
    assert whole(path) == (rows, journal), (lines, before)
    assert sorted(entry.name for entry in folder.iterdir()) == ["app.db", "app.db.new"], (lines, before)
    return ended


@JOURNALS
def test_killed_at_any_line_the_old_or_the_new_file_is_there_and_whole(
    tmp_path: Path, forks: Forks, journal: str, request: pytest.FixtureRequest
) -> None:
    step = 1 if request.config.getoption("--kills") >= LONG else 5
    lines, ends = random.randint(1, step), list[int]()
    while not ends or ends[-1] != 0:
        ends.append(killed_at(tmp_path / str(lines), forks, journal, lines))
        lines += step
    assert set(ends) == {-signal.SIGKILL, 0}
    assert len(ends) > 60 // step


# --- a race ---

# Opens, writes and closes, in bursts; tells each row that SQLite took, and dies of a row that it does not find again.
WRITER = """
import json, os, random, sqlite3, sys, time
path, number, journal, pauses = sys.argv[1], int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
chance, row = random.Random(number), number * 10_000_000
os.set_blocking(0, False)
def stop():
    try:
        return os.read(0, 1) == b""
    except BlockingIOError:
        return False
while not stop():
    time.sleep(chance.choice(pauses))
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    if journal != "wal":
        connection.execute("PRAGMA journal_mode = " + chance.choice(("delete", "memory", "off", "truncate")))
    for _ in range(chance.choice((1, 1, 3))):
        found = connection.execute("SELECT max(id) FROM t WHERE id BETWEEN ? AND ?", (number * 10_000_000, row)).fetchone()[0]
        if (found or row) != row:
            sys.exit(f"row {row} is gone, the last is {found}")
        connection.execute("INSERT INTO t VALUES (?, ?)", (row + 1, "x" * chance.choice((10, 500))))
        row += 1
        print(row, flush=True)
    connection.close()
"""


class Writers:
    """Programs that write what they are told is taken to a file each; `pauses` in seconds, from which each takes its own."""

    def __init__(self, path: Path, journal: str, count: int, *, pauses: tuple[float, ...]) -> None:
        self.rows = [path.with_suffix(f".{number}.rows") for number in range(1, count + 1)]
        self.processes = []
        for number, rows in enumerate(self.rows, 1):
            with rows.open("w") as out:
                command = [sys.executable, "-c", WRITER, str(path), str(number), journal, json.dumps(pauses)]
                self.processes.append(
                    subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.PIPE, text=True)
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def ended(self) -> set[int]:
        """Have them end, and return the rows that SQLite told them it had taken."""
        for process in self.processes:
            _, errors = process.communicate()
            assert (process.returncode, errors) == (0, "")
        return {int(line) for rows in self.rows for line in rows.read_text().split()}


@JOURNALS
def test_no_row_is_lost_that_programs_write_who_come_and_go(
    tmp_path: Path, journal: str, request: pytest.FixtureRequest
) -> None:
    wanted = 1_500 if request.config.getoption("--kills") >= LONG else 50
    path = tmp_path / "app.db"
    bloated(path, journal)
    item = replace(planned(path), evidence={})  # each try is about whatever file is there
    isolation, methods = Isolation(engines.load), list[str]()
    with Writers(path, journal, 2, pauses=(0, 0.001, 0.01, 0.1, 0.2)) as writers, closing(isolation):
        while methods.count(rewrite.METHOD) < wanted or methods.count("in place") < wanted / 5:
            methods.append(vacuumed(isolation, path, item, len(methods)))
        acknowledged = writers.ended()
    rows, mode = whole(path)
    assert acknowledged - {row[0] for row in rows} == set()
    assert len(acknowledged) > wanted / 5
    assert mode == journal
    assert [entry.name for entry in tmp_path.iterdir() if "dbupkeep" in entry.name] == []
    print(f"{journal}: {len(acknowledged)} rows written beside {len(methods)} rewrites, {wanted} of them by a new file")


@JOURNALS
def test_no_row_is_lost_either_when_the_attempts_are_killed(
    tmp_path: Path, forks: Forks, journal: str, request: pytest.FixtureRequest
) -> None:
    kills = 1_000 if request.config.getoption("--kills") >= LONG else 40
    path, notes = tmp_path / "app.db", tmp_path / "notes"
    bloated(path, journal)
    item, placed = planned(path), 0
    with Writers(path, journal, 2, pauses=(0, 0.1, 0.3, 0.5)) as writers:
        for _ in range(kills):
            old = path.stat().st_ino
            item = replace(item, evidence={"inode": old})
            notes.unlink(missing_ok=True)
            forks.attempt(path, item, notes, random.randint(100, 330))
            recovered(path, item, notes)
            placed += path.stat().st_ino != old
        acknowledged = writers.ended()
    rows, mode = whole(path)
    assert acknowledged - {row[0] for row in rows} == set()
    assert mode == journal
    assert [entry.name for entry in tmp_path.iterdir() if "dbupkeep" in entry.name] == []
    assert 0 < placed < kills


def recovered(path: Path, item: PlanItem, notes: Path) -> None:
    """What the next attempt does first, as soon as those who write let it."""
    while True:
        session = engine.connect(target_of(str(path)), tag="dbupkeep:0123:2")
        try:
            session.recover(item, "dbupkeep:0123:1", notes.read_text().splitlines() if notes.exists() else [])
        except Busy:
            continue
        else:
            return
        finally:
            session.close()


def vacuumed(isolation: Isolation, path: Path, item: PlanItem, attempt: int) -> str:
    """Rewrite it once in a child process, and say by which method; empty when it was too busy."""
    session = isolation.load("sqlite").connect(target_of(str(path)), tag=f"dbupkeep:0123:{attempt}")
    try:
        return str(session.run(item, Recorder()).values["method"])
    except Busy:
        return ""
    finally:
        session.close()
