"""Nobody sleeps through the end: a stop wakes slots that rest, and the last end of an attempt is told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Step, Target
from dbupkeep.operations import Operation
from dbupkeep.queues import embedded

PATIENCE = 20.0
"""Seconds after which something is held to sleep on."""


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(str(tmp_path / "ledger.db"), isolate=False)


def test_a_stop_wakes_every_slot(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "QUICK", 3600.0)  # an empty queue is looked at again in an hour
    monkeypatch.setattr(embedded, "LAZY", 3600.0)
    stop, looks = threading.Event(), threading.Semaphore(0)
    take = embedded._Worker._take

    def counted(worker: embedded._Worker, done: str) -> object:
        taken = take(worker, done)
        looks.release()
        return taken

    monkeypatch.setattr(embedded._Worker, "_take", counted)
    serving = threading.Thread(target=app.processor.serve, kwargs={"slots": 3, "stop": stop}, daemon=True)
    serving.start()
    for _ in range(3):
        assert looks.acquire(timeout=PATIENCE)
    stop.set()
    serving.join(PATIENCE)
    assert not serving.is_alive()
    app.close()


def test_the_end_of_the_last_attempt_is_told(app: App, tmp_path: Path) -> None:
    import apsw

    apsw.Connection(str(tmp_path / "small.db")).execute("CREATE TABLE t (a)")
    target = Target(name="small", url=f"sqlite://{tmp_path}/small.db")
    step = Step(name="check", targets=(target,), operations=(Operation.CHECK,))
    app.databases.create_parent_job(step, JobDefinition(name="small", steps=(step,)))
    stop = threading.Event()
    serving = threading.Thread(target=app.processor.serve, kwargs={"slots": 1, "stop": stop}, daemon=True)
    assert not app.processor.idle.is_set()
    serving.start()
    assert app.processor.idle.wait(PATIENCE)
    assert not app.outstanding()
    stop.set()
    serving.join(PATIENCE)
    app.close()
