"""The site as tests see it: visitors with browsers, scripted databases in this process, and a real service."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page

from dbupkeep.app import App
from dbupkeep.config import Config
from dbupkeep.definitions import JobDefinition, Schedule, Step, Target
from dbupkeep.engine import Report, Scope
from dbupkeep.facts import DatabaseFacts
from dbupkeep.jobs import Job
from dbupkeep.ledger import JobQuery
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision, Estimate, PlanItem, Proposal, Source
from dbupkeep.progress import measured
from dbupkeep.testing.pair_kit import eventually
from dbupkeep.testing.scripted import ScriptedEngine, ScriptedSession
from dbupkeep.views.cli.http import serving_http

TOKEN = "a-token-of-the-tests"  # noqa: S105 - of the tests
PATIENCE = 15_000
"""Milliseconds that a page may take to show something; it is waited for, never slept for."""


@dataclass  # no slots: the browser keeps its own marks on what listens to it
class Visitor:
    """Somebody with a browser."""

    browser: Browser
    url: str
    token: str = TOKEN
    contexts: list[BrowserContext] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def comes(self, path: str = "/", **context: Any) -> Page:
        """Log in, and go to a page."""
        page = self.stranger(**context)
        answer = page.request.post(
            f"{self.url}/login", form={"token": self.token, "next": "/healthz"}, headers={"Origin": self.url}
        )
        assert answer.ok
        page.goto(f"{self.url}{path}")
        return page

    def stranger(self, **context: Any) -> Page:
        """An empty page of somebody who is not logged in."""
        made = self.browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
        self.contexts.append(made)
        page = made.new_page()
        page.set_default_timeout(PATIENCE)
        self._listen(page)
        return page

    def _listen(self, page: Page) -> None:
        """Errors of scripts, of the policy for content and of what could not be loaded all come as such messages."""
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked(self, dialog: Dialog) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def leave(self) -> None:
        for context in self.contexts:
            context.close()


Visit = Callable[[str], Visitor]


@dataclass(slots=True)
class Play:
    """What the operations of `scripted://` databases do: those that are held wait until they are let go."""

    held: dict[str, threading.Event] = field(default_factory=dict)
    faults: dict[str, Exception] = field(default_factory=dict)  # by object or operation
    tables: Sequence[str] = ()
    pages: int = 1  # of four, that what is held has done

    def hold(self, operation: str) -> threading.Event:
        return self.held.setdefault(operation, threading.Event())

    def act(self, session: ScriptedSession, item: PlanItem, report: Report) -> None:
        for name in (item.object, item.operation.value):
            if name in self.held:
                while not self.held[name].is_set():
                    report.progress(measured(self.pages, 4, "pages", stage="scanning the heap"))
                    session.work(0.02)
            if name in self.faults:
                raise self.faults[name]

    def propose(self, facts: DatabaseFacts, scope: Scope) -> Sequence[Proposal]:
        if not self.tables:
            return [self._proposal(operation, "") for operation in scope.operations]
        return [self._proposal(operation, table) for table in self.tables for operation in scope.operations]

    def _proposal(self, operation: Operation, table: str) -> Proposal:
        estimate = Estimate(
            seconds=2.0, seconds_source=Source.HISTORY, gain_bytes=1 << 20, gain_source=Source.ESTIMATED
        )
        return Proposal(
            operation=operation, object=table, hold=table, decision=Decision.RUN, reason="as scripted", weight=2000,
            estimate=estimate,
        )  # fmt: skip


@dataclass(slots=True)
class Site:
    """The site in this process, on scripted databases."""

    app: App
    play: Play
    url: str
    config: Config
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def submit(self, name: str = "app.db", *, operations: str = "vacuum,analyze", parallel: int = 1) -> Job:
        """A run of one database."""
        target = Target(name=name, url=f"scripted:///{name}", parallel=parallel)
        chosen = tuple(Operation(each) for each in operations.split(","))
        step = Step(name="tidy", targets=(target,), operations=chosen)
        return self.job(self.app.databases.create_parent_job(step, JobDefinition(name=name, steps=(step,))))

    def submit_many(self, names: Sequence[str], *, name: str = "nightly", operations: str = "vacuum") -> Job:
        """A run over several databases."""
        targets = tuple(Target(name=each, url=f"scripted:///{each}") for each in names)
        chosen = tuple(Operation(each) for each in operations.split(","))
        step = Step(name="tidy", targets=targets, operations=chosen)
        return self.job(self.app.runs.create_run(JobDefinition(name=name, steps=(step,))))

    def job(self, job_id: str) -> Job:
        found = self.app.reader.job(job_id)
        assert found is not None
        return found

    def places(self) -> list[str]:
        """All pages that there are now."""
        runs = [f"/runs/{job.id}" for job in self.app.reader.jobs(JobQuery(roots=True)).jobs]
        return ["/", "/databases", "/history", "/schedule", "/audit", *runs]

    def work(self) -> None:
        """Carry out what there is until it has ended."""
        self.app.drain(slots=4)

    def begin_to_work(self) -> None:
        """Carry out what comes, in the background."""
        serve = {"slots": 4, "stop": self._stop}
        thread = threading.Thread(target=self.app.processor.serve, kwargs=serve, name="page-tests")
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        for event in self.play.held.values():
            event.set()
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def await_status(self, job_id: str, status: str) -> Job:
        eventually(f"the job is {status}", lambda: self.job(job_id).status == status)
        return self.job(job_id)


HOSTILE = "<img src=x onerror=window.ran=1>\"'><script>window.ran=1</script>"


def configuration() -> Config:
    place = Target(name="tenants", url="scripted:///tenants", pattern="*.db")
    one = Target(name="app", url="scripted:///app.db")
    step = Step(name="tidy", targets=(one,))
    jobs = (
        JobDefinition(name="nightly", steps=(step,), schedule=Schedule(cron="15 1 * * *", timezone="Europe/Berlin")),
        JobDefinition(name="by hand", steps=(step,)),
    )
    return Config(targets={each.name: each for each in (place, one)}, jobs={each.name: each for each in jobs})


@contextmanager
def site_on(folder: Path, config: Config) -> Iterator[Site]:
    play = Play()
    engine = ScriptedEngine(act=play.act, proposals=play.propose)
    app = App(str(folder / "ledger.db"), load_engine=lambda scheme: engine, isolate=False, lease=5)
    with serving_http(app, lambda: config, host="127.0.0.1", port=0, say=lambda text: None) as url:
        site = Site(app, play, url, config)
        yield site
        site.close()
    app.close()


@dataclass(slots=True)
class Service:
    """A real `serve` on a real SQLite file, in processes of its own."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; again on the port that it had."""
        arguments = ["serve", "--port", str(self.port), "--lease", "1"]
        places = {
            "DBUPKEEP_LEDGER": str(self.folder / "ledger.db"),
            "DBUPKEEP_CONFIG": str(self.folder / "config.toml"),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dbupkeep", *arguments],
            env={**os.environ, **places, "DBUPKEEP_TOKEN": TOKEN},
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"API and page: +http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
        raise AssertionError("the service ended before it served")

    def end(self, number: int) -> None:
        if self.process is not None:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            self.process.send_signal(number)
            if number == signal.SIGKILL:
                for child in children:
                    os.kill(int(child), number)
            with self.process:  # closes its pipe
                self.process.wait()
            self.process = None


CONFIG = """
version = 1
[targets.app]
url = "sqlite://{folder}/app.db"
[jobs.tidy]
[[jobs.tidy.steps]]
targets = ["app"]
operations = ["vacuum", "analyze", "reindex"]
"""
