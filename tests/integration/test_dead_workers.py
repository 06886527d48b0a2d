"""What an ended process held is taken over at once, whatever is left of its lease; a frozen one keeps it."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from dbupkeep.app import App
from dbupkeep.clock import is_gone, mark_of, process_mark
from dbupkeep.config import Config
from dbupkeep.definitions import JobDefinition, Step, Target
from dbupkeep.health import Level
from dbupkeep.jobs import JobStatus
from dbupkeep.operations import Operation
from dbupkeep.testing.scripted import ScriptedEngine
from dbupkeep.views.condition import condition

HOUR = 3600.0

HOLDER = """
import sys
from dbupkeep.app import App
from dbupkeep.testing.scripted import ScriptedEngine

def hold(session, item, report):
    print("held", flush=True)
    sys.stdin.read()

app = App(sys.argv[1], lease=3600, load_engine=lambda _: ScriptedEngine(act=hold))
app.drain()
"""


def holding(ledger: Path) -> subprocess.Popen[str]:
    """A worker process in the middle of an operation."""
    worker = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(ledger)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "held\n"
    return worker


def submitted(app: App) -> str:
    target = Target(name="a", url="scripted:///a")
    step = Step(name="s", targets=(target,), operations=(Operation.VACUUM,))
    return app.databases.create_parent_job(step, JobDefinition(name="d", steps=(step,)))


def test_an_ended_worker_is_not_waited_for(tmp_path: Path) -> None:
    app = App(str(tmp_path / "ledger.db"), lease=HOUR, load_engine=lambda _: ScriptedEngine())
    parent = submitted(app)
    worker = holding(tmp_path / "ledger.db")
    worker.kill()
    worker.communicate()
    app.drain()
    [child] = app.reader.children(parent)
    app.close()
    assert (child.status, child.attempt) == (JobStatus.COMPLETED, 2)


def test_health_says_that_nobody_is_there_to_take_over(tmp_path: Path) -> None:
    app = App(str(tmp_path / "ledger.db"), lease=HOUR, load_engine=lambda _: ScriptedEngine())
    submitted(app)
    worker = holding(tmp_path / "ledger.db")
    (at_work,) = condition(app, Config()).only("workers").checks
    worker.kill()
    worker.communicate()
    (deserted,) = condition(app, Config()).only("workers").checks
    app.close()
    assert at_work.level is Level.OK
    assert deserted.level is Level.WARNING
    assert "nobody takes over what one was at (1 running)" in deserted.message


def test_a_frozen_worker_keeps_its_lease(tmp_path: Path) -> None:
    app = App(str(tmp_path / "ledger.db"), lease=HOUR, load_engine=lambda _: ScriptedEngine())
    parent = submitted(app)
    worker = holding(tmp_path / "ledger.db")
    os.kill(worker.pid, signal.SIGSTOP)
    stop = threading.Event()
    serving = threading.Thread(target=app.processor.serve, kwargs={"stop": stop})
    serving.start()
    serving.join(2.5)  # two looks at whether others have ended
    stop.set()
    serving.join()
    [child] = app.reader.children(parent)
    app.close()
    worker.kill()
    worker.communicate()
    assert (child.status, child.attempt) == (JobStatus.RUNNING, 1)


def test_a_mark_tells_a_process_from_all_others() -> None:
    mine = process_mark()
    assert not is_gone(mine)
    other = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    mark = mark_of(other.pid)
    assert mark != mine
    assert not is_gone(mark)
    other.communicate()
    assert is_gone(mark)
    assert not is_gone(mark.replace("pid:", "elsewhere:"))  # of another namespace, where numbers mean other processes
