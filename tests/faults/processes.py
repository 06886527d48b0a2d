"""Run as a program: has everything imported, and forks a process for each line that it is told; see `Processes`.

A fork before anything is open is the quickest honest way to a new process: 200 kills cost 200 starts. What a process
does is one of the functions in `ROLES`; it never comes back to the loop.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from dbupkeep import ending, engines
from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Policy, Step, Target
from dbupkeep.engine import Engine, Purpose, Report, Session, Work
from dbupkeep.engines import sqlite  # noqa: F401 - the point is to have it imported
from dbupkeep.errors import LedgerError
from dbupkeep.logs import LogFormat, set_up
from dbupkeep.operations import parse
from dbupkeep.plans import PlanItem
from dbupkeep.testing.faults import Faults, FaultyLedger
from dbupkeep.testing.scripted import Effect, ScriptedEngine, ScriptedSession


class Watched:
    """An engine whose sessions write down what they do to which database."""

    def __init__(self, engine: Engine, record: ScriptedEngine) -> None:
        self._engine, self._record = engine, record

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def connect(self, target: Target, *, tag: str = "", purpose: Purpose = Purpose.WORK) -> Session:
        session: Any = self._engine.connect(target, tag=tag, purpose=purpose)
        run = session.run

        def noted(item: PlanItem, report: Report) -> Work:
            self._note(tag, target, item, "began")
            work: Work = run(item, report)
            self._note(tag, target, item, "done")
            return work

        session.run = noted
        return cast("Session", session)

    def _note(self, tag: str, target: Target, item: PlanItem, when: str) -> None:
        self._record.note(
            Effect(tag=tag, url=target.url, operation=item.operation.value, object=item.object, when=when)
        )


def scripted(record: str, seconds: float, poison: str) -> ScriptedEngine:
    """Operations that take a while; the poisonous one ends its process."""

    def act(session: ScriptedSession, item: PlanItem, report: Report) -> None:
        if f"{session.target.url} {item.operation}" == poison:
            os._exit(77)
        session.work(seconds)

    return ScriptedEngine(act=act, record=Path(record))


def open_app(ledger: str, record: str, lease: float, seconds: float, poison: str) -> App:
    fake = scripted(record, seconds, poison)

    def load(scheme: str) -> Engine:
        return fake if scheme == "scripted" else Watched(engines.load(scheme), fake)

    return App(ledger, lease=lease, load_engine=load, isolate=False)


def serve(app: App, slots: int) -> None:
    """Work until killed."""
    app.processor.serve(slots=slots, stop=threading.Event())


def drain(app: App, slots: int) -> None:
    """Work until nothing is left."""
    app.drain(slots=slots)


def submit(app: App, url: str, operations: list[str], die_at: int) -> None:
    """Have a database maintained, and be killed at the nth thing that is done to the ledger for it."""
    faults = Faults(lambda: os.kill(os.getpid(), signal.SIGKILL))
    app.lifecycle._ledger = FaultyLedger(app.ledger, faults)
    target = Target(name=url.rpartition("/")[2], url=url)
    step = Step(name="step", targets=(target,), operations=parse(operations), policy=Policy(force=True))
    plan = app.databases.plan(step, JobDefinition(name="job", steps=(step,)))
    if die_at:
        faults.at(die_at)
    app.databases.submit(plan)


def end(app: App, verb: str, job_id: str, die_at: int) -> None:
    """Cancel or stop a run in many slices, and be killed before or after the nth time that something is made durable."""
    faults = Faults(lambda: os.kill(os.getpid(), signal.SIGKILL))
    app.lifecycle._ledger = FaultyLedger(app.ledger, faults)
    ending.SLICE = 3
    faults.at(die_at, "commit")
    getattr(app.lifecycle, verb)(job_id)


def fork(app: App) -> None:
    """Fork with the ledger open: the child has to be refused, and the parent goes on."""
    app.reader.targets()
    pid = os.fork()
    if pid == 0:
        refused = 0
        for use in (lambda: app.ledger.transact(lambda tx: tx.job("")), app.reader.targets, app.ledger.migrate):
            try:
                use()
            except LedgerError:
                refused += 1
        app.ledger.close()
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3, "the child may use its parent's ledger"
    app.ledger.transact(lambda tx: tx.job(""))


ROLES: dict[str, Callable[..., None]] = {"serve": serve, "drain": drain, "submit": submit, "end": end, "fork": fork}


def child(role: str, app: dict[str, Any], arguments: dict[str, Any], log: str) -> None:
    code = 1
    try:
        with Path(log).open("a", encoding="utf-8") as stream:
            set_up(LogFormat.JSON, level=logging.INFO, stream=stream)
            opened = open_app(**app)
            ROLES[role](opened, **arguments)
            opened.close()
            code = 0
    finally:
        os._exit(code)


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        if "reap" in order:
            _, status = os.waitpid(order["reap"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            child(**order)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
