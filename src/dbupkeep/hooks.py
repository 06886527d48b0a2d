"""Calls the programs that a job wants called around its runs and operations, and pays what is owed to an application.

That an application may be paused stands in the ledger before it is: whoever looks later, also after a kill -9 of
everything, finds the debt and resumes the application. It is resumed when its run has ended, and also when the last
process that could go on with the run leaves; then it is paused again once the run goes on.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from dbupkeep.clock import Clock
from dbupkeep.codec import from_json, rfc3339
from dbupkeep.definitions import Hooks
from dbupkeep.jobs import Job, JobStatus, JobType
from dbupkeep.ledger import Reader
from dbupkeep.lifecycle import Lifecycle, Turn
from dbupkeep.queue import Queue

log = logging.getLogger(__name__)

DEBTS = ("hook_debts", "open")
"""Kind and key of the document that says which runs have called something, and owe the opposite."""

KNOWN = 64
"""Runs whose hooks are kept at hand."""

OPERATION = JobType.DATABASE_MAINTENANCE_OPERATION

ALWAYS = ("PATH", "HOME", "LANG", "TZ")
"""Variables that every hook sees."""

LOOK = 0.1
"""Seconds between looks at a hook that another process is calling."""

AGAIN = timedelta(minutes=1)
"""After which a program that has to succeed is called again."""

TOLD = 500
"""Characters of what a failed program wrote that are kept."""

Debt = Mapping[str, Any]
"""`state` is opening, open, refused or closing; `job` is who opened, `hooks` what to call, `until` who closes has time."""


class RunHooks:
    """The hooks of all runs on one ledger; every process that executes jobs has one."""

    def __init__(self, *, reader: Reader, lifecycle: Lifecycle, queue: Queue, clock: Clock) -> None:
        """Stand on the ledger, and on the queue for who is there."""
        self._reader = reader
        self._lifecycle = lifecycle
        self._queue = queue
        self._clock = clock
        # What a run is configured with never changes: it is read once, not for each operation.
        self._hooks = lru_cache(maxsize=KNOWN)(self._hooks_of)

    def before(self, job: Job, stopping: Callable[[], bool]) -> str:
        """Call what comes before an operation, for the first one of a run also what comes before that.

        Returns why the operation must not start; empty when it may.
        """
        hooks = self._hooks(job.correlation_id) if job.type == OPERATION else None
        run = self._reader.job(job.correlation_id) if hooks else None
        if hooks is None or run is None:
            return ""
        refused = self._open(job, run, hooks, stopping) if hooks.around_run else ""
        return refused or self._call(hooks, "before_operation", run, job)

    def after(self, job: Job, status: str) -> None:
        """Call what comes after an operation, and after its run if that was the last one."""
        hooks = self._hooks(job.correlation_id) if job.type == OPERATION else None
        run = self._reader.job(job.correlation_id) if hooks else None
        if hooks is None or run is None:
            return
        self._call(hooks, "after_operation", run, job, status)
        if hooks.around_run:
            self.settle()

    def settle(self) -> int:
        """Pay what is owed: of runs that have ended, and of those that nobody is at any more. Returns how many."""
        paid = 0
        for run_id, debt in self._debts()[1].items():
            if self._is_owed(run_id, debt) and self._claim(run_id, debt):
                paid += self._pay(run_id, debt)
        return paid

    def _hooks_of(self, run_id: str) -> Hooks | None:
        run = self._reader.job(run_id)
        document = run.config.get("hooks") if run else None
        return from_json(Hooks, document) if document else None

    def _open(self, job: Job, run: Job, hooks: Hooks, stopping: Callable[[], bool]) -> str:
        """Have the run's first hooks called, once, by whoever comes first; the others wait for that."""
        pause = threading.Event()
        while True:
            version, debts = self._debts()
            debt = debts.get(run.id)
            if debt is None or (debt["state"] == "opening" and self._is_lost(debt, job)):
                opening = {"state": "opening", "job": job.id, "attempt": job.attempt, "hooks": run.config["hooks"]}
                if self._write(version, {**debts, run.id: opening}):
                    return self._opened(job, run, hooks, opening)
            elif debt["state"] in ("open", "refused"):
                return str(debt.get("reason", ""))
            if stopping():
                return "stopped before its hooks had been called"
            pause.wait(LOOK)

    def _opened(self, job: Job, run: Job, hooks: Hooks, opening: Debt) -> str:
        refused = self._call(hooks, "pause_application", run, job) or self._call(hooks, "before_run", run, job)
        self._change(run.id, {**opening, "state": "refused" if refused else "open", "reason": refused})
        return refused

    def _is_lost(self, debt: Debt, job: Job) -> bool:
        """Whether whoever was calling the first hooks is gone."""
        if debt["job"] == job.id:
            return True
        opener = self._reader.job(debt["job"])
        return opener is None or opener.status is not JobStatus.RUNNING or opener.attempt != debt["attempt"]

    def _is_owed(self, run_id: str, debt: Debt) -> bool:
        if debt["state"] == "closing" and self._clock.now() < datetime.fromisoformat(debt["until"]):
            return False  # somebody is at it
        run = self._reader.job(run_id)
        if run is None or run.status.ended:
            return True
        return bool(debt["hooks"].get("resume_application")) and not any(
            worker.alive and (not worker.lanes or run.lane in worker.lanes) for worker in self._queue.workers()
        )

    def _claim(self, run_id: str, debt: Debt) -> bool:
        version, debts = self._debts()
        if debts.get(run_id) != debt:
            return False
        until = rfc3339(self._clock.now() + 2 * from_json(Hooks, debt["hooks"]).timeout)
        return self._write(version, {**debts, run_id: {**debt, "state": "closing", "until": until}})

    def _pay(self, run_id: str, debt: Debt) -> bool:
        hooks, run = from_json(Hooks, debt["hooks"]), self._reader.job(run_id)
        if run is not None and run.status.ended and not debt.get("after_run"):
            self._call(hooks, "after_run", run, None, run.outcome)
        failed = self._call(hooks, "resume_application", run, None, run.outcome if run else "")
        if failed:
            log.error("an application may still be paused; it is tried again", extra={"reason": failed})
            until = rfc3339(self._clock.now() + AGAIN)
            self._change(run_id, {**debt, "state": "closing", "until": until, "after_run": True})
        else:
            self._change(run_id, None)
        return not failed

    def _call(self, hooks: Hooks, name: str, run: Job | None, job: Job | None, status: str = "") -> str:
        """Call one hook if there is one; why it did not succeed, empty when it did."""
        command: Sequence[str] = getattr(hooks, name)
        if not command:
            return ""
        told = {
            "DBUPKEEP_HOOK": name,
            "DBUPKEEP_RUN": run.id if run else "",
            "DBUPKEEP_JOB": run.name if run else "",
            "DBUPKEEP_OPERATION": str(job.config.get("operation", "")) if job else "",
            "DBUPKEEP_OBJECT": str(job.config.get("object", "")) if job else "",
            "DBUPKEEP_TARGET": job.target if job else "",
            "DBUPKEEP_STATUS": status,
        }
        kept = {each: os.environ[each] for each in (*ALWAYS, *hooks.environment) if each in os.environ}
        failed = call(command, {**kept, **told}, hooks.timeout)
        if failed:
            log.warning("a hook did not succeed", extra={"hook": name, "reason": failed})
            return f"the hook {name} {failed}"
        return ""

    def _debts(self) -> tuple[int, dict[str, Debt]]:
        document = self._reader.get(*DEBTS) or {}
        return int(document.get("version", 0)), dict(document.get("runs", {}))

    def _write(self, version: int, debts: Mapping[str, Debt]) -> bool:
        document = {"version": version + 1, "runs": debts}
        return self._lifecycle.keep_all((), Turn(kind=DEBTS[0], key=DEBTS[1], version=version, document=document))

    def _change(self, run_id: str, debt: Debt | None) -> None:
        """Say what a run owes now; None: nothing any more."""
        while True:
            version, debts = self._debts()
            others = {other: owed for other, owed in debts.items() if other != run_id}
            if self._write(version, others if debt is None else {**others, run_id: debt}):
                return


def call(command: Sequence[str], environ: Mapping[str, str], timeout: timedelta) -> str:
    """Run a program to its end, with nothing below it left; how it failed, with the end of what it wrote, or nothing."""
    try:
        process = subprocess.Popen(
            command, env=dict(environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return f"could not be started: {error.strerror}: {command[0]}"
    try:
        out, _ = process.communicate(timeout=timeout.total_seconds())
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"did not end within {timeout.total_seconds():g} s"
    if process.returncode == 0:
        return ""
    said = out.decode(errors="replace").strip()[-TOLD:]
    return f"ended with exit code {process.returncode}{f': {said}' if said else ''}"
