"""A ledger with runs on it, by a clock that a test may tell, and followers that write down what they are given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dbupkeep.app import App
from dbupkeep.clock import SystemClock
from dbupkeep.definitions import JobDefinition, Step, Target
from dbupkeep.engine import Report
from dbupkeep.errors import Busy, OperationError
from dbupkeep.events import ParentSettled, Recorded
from dbupkeep.follower import Memory, Message, Undelivered
from dbupkeep.jobs import Job
from dbupkeep.operations import parse
from dbupkeep.plans import PlanItem
from dbupkeep.testing.scripted import ScriptedEngine, ScriptedSession


class ToldClock:
    """The system's clock, until it is told how late it is."""

    def __init__(self) -> None:
        self.later = timedelta()
        self._real = SystemClock()

    def now(self) -> datetime:
        return self._real.now() + self.later

    def monotonic(self) -> float:
        return self._real.monotonic() + self.later.total_seconds()

    def wait(self, **duration: float) -> None:
        self.later += timedelta(**duration)


@dataclass
class Notes:
    """A follower that makes a message of each run that ended, and writes down what is delivered."""

    name: str = "notes"
    from_start: bool = True
    fails: Callable[[Message], str] = lambda _: ""
    refuses: bool = False
    taken: list[int] = field(default_factory=list)
    delivered: list[Message] = field(default_factory=list)
    tried: threading.Event = field(default_factory=threading.Event)

    def fold(self, memory: Memory, events: Sequence[Recorded], now: datetime) -> Sequence[Message]:
        messages = []
        for each in events:
            self.taken.append(each.seq)
            if isinstance(each.event, ParentSettled):
                memory["runs"] = memory.get("runs", 0) + 1
                text = f"run {memory['runs']}"
                messages.append(Message(id=f"{each.correlation_id}.{each.seq}", kind="ended", at=each.at, text=text))
        return messages

    def deliver(self, message: Message) -> None:
        self.tried.set()
        if reason := self.fails(message):
            raise Undelivered(reason, refused=self.refuses)
        self.delivered.append(message)

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.delivered]


class Bench:
    """A ledger, and an engine whose operations do what the test says."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.db"
        self.clock = ToldClock()
        self.says: dict[str, str] = {}
        self.engine = ScriptedEngine(act=self._act)
        self.opened: list[App] = []
        self.app = self.open()

    def open(self) -> App:
        app = App(str(self.path), clock=self.clock, load_engine=lambda _: self.engine, isolate=False)
        self.opened.append(app)
        return app

    def run(self, name: str = "nightly", *urls: str, operations: Sequence[str] = ("vacuum",)) -> Job:
        """Run a job to its end."""
        targets = tuple(Target(name=url.rpartition("/")[2], url=url) for url in urls or ("scripted:///a",))
        step = Step(name="step 1", targets=targets, operations=parse(list(operations)))
        run_id = self.app.runs.create_run(JobDefinition(name=name, steps=(step,)))
        self.app.drain()
        return self.job(run_id)

    def job(self, job_id: str) -> Job:
        found = self.app.reader.job(job_id)
        assert found is not None
        return found

    def parts(self, app: App | None = None) -> dict[str, Any]:
        """What a post and the following stand on."""
        app = app or self.app
        return {"reader": app.reader, "lifecycle": app.lifecycle, "clock": self.clock}

    def _act(self, session: ScriptedSession, item: PlanItem, report: Report) -> None:
        said = self.says.get(item.operation.value, "")
        if said == "busy":
            raise Busy("somebody holds a lock")
        if said:
            raise OperationError(said, hint="mend it")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for app in made.opened:
        app.close()


@pytest.fixture
def notes() -> type[Notes]:
    return Notes
