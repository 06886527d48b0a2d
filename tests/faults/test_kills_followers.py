"""Services are killed at random moments while they follow a ledger: every message arrives, in order, and counters are exact."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Step, Target
from dbupkeep.events import ParentSettled
from dbupkeep.operations import parse
from dbupkeep.outbox import state_of
from dbupkeep.testing.pair_kit import eventually
from dbupkeep.testing.scripted import ScriptedEngine
from dbupkeep.totals import Totals

SERVICE = """
import os, sys, threading, time
from dbupkeep.app import App
from dbupkeep.events import ParentSettled
from dbupkeep.follower import Message
from dbupkeep.followers.totals import TotalsFollower
from dbupkeep import following

following.LOOK = 0.02

class Writes:
    name, from_start = "writes", True
    def fold(self, memory, events, now):
        found = [e for e in events if isinstance(e.event, ParentSettled)]
        memory["seen"] = memory.get("seen", 0) + len(found)
        return [Message(id=f"{e.seq}", kind="ended", at=e.at) for e in found]
    def deliver(self, message):
        with open(sys.argv[2], "a") as file:
            file.write(message.id + "\\n")
        time.sleep(0.001)

app = App(sys.argv[1])
service = following.Following(reader=app.reader, lifecycle=app.lifecycle, clock=app.clock)
service.use([Writes(), TotalsFollower(app.reader)])
service.start()
threading.Event().wait()
"""


class Services:
    """Two of them on one ledger; whoever is killed is started again."""

    def __init__(self, *arguments: str) -> None:
        self.arguments = arguments
        self.running = [self.start() for _ in range(2)]

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", SERVICE, *self.arguments])

    def kill_one(self, chance: random.Random) -> None:
        number = chance.randrange(2)
        os.kill(self.running[number].pid, signal.SIGKILL)
        self.running[number].wait()
        self.running[number] = self.start()

    def end(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    made = App(str(tmp_path / "ledger.db"), load_engine=lambda _: ScriptedEngine(), isolate=False)
    yield made
    made.close()


@pytest.mark.fault
@pytest.mark.slow
def test_services_are_killed_and_nothing_is_lost(app: App, tmp_path: Path, kills: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    heard = tmp_path / "heard"
    heard.touch()
    services = Services(str(tmp_path / "ledger.db"), str(heard))
    step = Step(name="1", targets=(Target(name="a", url="scripted:///a"),), operations=parse(["vacuum"]))
    rounds = max(5, kills // 10)
    try:
        for _ in range(rounds):
            for _ in range(chance.randrange(1, 6)):
                app.runs.create_run(JobDefinition(name="nightly", steps=(step,)))
            app.drain()
            services.kill_one(chance)
        newest = app.reader.newest()
        eventually("the last one is delivered", lambda: str(_settled(app)[-1]) in heard.read_text().split())
        eventually("all is counted", lambda: _place(app) >= newest)
    finally:
        services.end()
    wanted, got = _settled(app), [int(line) for line in heard.read_text().split()]
    first = list(dict.fromkeys(got))
    assert first == wanted, "lost, or in another order"
    assert len(got) - len(first) <= rounds, "told again more often than somebody was killed"
    totals = state_of(app.reader, "totals")
    assert totals is not None
    assert dict(Totals(totals.memory).counts("runs")) == {("done",): len(_roots(app))}
    print(f"{rounds} kills, {len(wanted)} messages, {len(got) - len(first)} of them twice")


def _settled(app: App) -> list[int]:
    return [each.seq for each in app.reader.events(limit=1_000_000) if isinstance(each.event, ParentSettled)]


def _roots(app: App) -> list[str]:
    found = app.reader.events(limit=1_000_000)
    return [
        each.job_id for each in found if isinstance(each.event, ParentSettled) and each.job_id == each.correlation_id
    ]


def _place(app: App) -> int:
    state = state_of(app.reader, "totals")
    return state.after if state else -1
