"""The command `serve`: a scheduler in this process, and worker processes of its own."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click
from msgspec import Struct, field
from msgspec.structs import replace

from dbupkeep.audit import Act, actor
from dbupkeep.config import Config, find
from dbupkeep.errors import LedgerError, UsageError
from dbupkeep.jobs import Job, JobStatus
from dbupkeep.ledger import JobQuery
from dbupkeep.scheduler import LOOK, Fired, is_scheduled
from dbupkeep.schedules import Do
from dbupkeep.views import words
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.executing import default_slots
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.cli.http import serving_http
from dbupkeep.views.cli.job_words import state
from dbupkeep.views.cli.requests import canonical, canonical_target
from dbupkeep.views.cli.running import lease_option
from dbupkeep.views.cli.serving import Asked, listening
from dbupkeep.views.cli.systemd import notify
from dbupkeep.views.cli.workers import Workers
from dbupkeep.views.cli.working import grace_option
from dbupkeep.views.counting import of_databases
from dbupkeep.views.lengths import took

if TYPE_CHECKING:
    from dbupkeep.app import App

TICK = 0.1
"""Seconds between looks at signals and worker processes."""

TIDY = 3600.0
"""Seconds between looks whether old runs are to be forgotten."""

SHOWN = 200
"""Runs that are followed at a time."""


@click.command()
@click.option(
    "--workers",
    type=click.IntRange(0, 64),
    metavar="N",
    default=1,
    show_default=True,
    help="Worker processes; 0 where others work on the same ledger.",
)
@click.option(
    "--jobs",
    "slots",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Operations at a time in each; default: twice the processors, at most 4.",
)
@lease_option
@grace_option
@click.option("--host", help="Address of the HTTP API and the page; default: 127.0.0.1, or as [server] says.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Their port; 0: any free one; default: 8390, or as [server] says."
)
@common
def serve(
    console: Console,
    *,
    workers: int,
    slots: int | None,
    lease: float | None,
    grace: timedelta,
    host: str | None,
    port: int | None,
) -> int:
    """Start the jobs of the configuration when they are due, execute them, and serve API and page, until told to stop.

    SIGTERM or Ctrl-C end it after what runs (at the latest after --grace: what still runs then is stopped, and made
    again at the next start), a second one at once; SIGHUP, or a change of the file, has the
    configuration read again.
    """
    watched = Configuration(console)
    watched.load()
    with console.app(lease=lease, isolate=True) as app, listening() as asked, watched.hanging_up(), serving_http(
        app, lambda: watched.config, host=host, port=port, say=console.say, logged=console.is_logged
    ):  # fmt: skip
        team = Workers(
            arguments=_arguments(console, slots or default_slots(), lease, grace),
            count=workers, now=app.clock.monotonic, say=console.say,
        )  # fmt: skip
        service = Service(console=console, app=app, watched=watched, team=team)
        service.run(asked)
    if console.as_json:
        console.document({"ended_by": asked.by[0] if asked.by else None, "runs_started": service.started})
    return Exit.DONE


class Configuration(Struct):
    """The configuration of a service: read again when its file changes or a SIGHUP comes; a faulty one is not taken."""

    console: Console
    config: Config = field(default_factory=Config)
    fault: str = ""  # why the file on disk was not taken
    _stamp: tuple[object, ...] = ()
    _asked: threading.Event = field(default_factory=threading.Event)

    def load(self) -> None:
        """Read it. Raises `UsageError` and `DefinitionError`."""
        self._stamp = self._look()
        config = self.console.config()
        self.config = replace(
            config,
            jobs={name: canonical(job) for name, job in config.jobs.items()},
            targets={name: canonical_target(target) for name, target in config.targets.items()},
        )

    def renew(self) -> bool:
        """Read it again if there is a reason; whether there is another one now."""
        if not self._asked.is_set() and self._look() == self._stamp:
            return False
        self._asked.clear()
        try:
            self.load()
        except UsageError as error:
            self.fault = error.message
            self.console.say(f"The new configuration is not taken: {error.message}. The old one stays in force.", "red")
            return False
        self.fault = ""
        return True

    def act(self, what: str) -> Act:
        """What the audit trail says of it: which file came into force, and the hash of what was in it."""
        file = self.config.file
        try:
            digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
        except OSError:  # taken away in this moment; the next look sees it
            digest = ""
        return Act(who=actor(), what=what, on=file, detail={"sha256": digest} if digest else {})

    @contextmanager
    def hanging_up(self) -> Iterator[None]:
        """Take SIGHUP as the wish to read it again."""

        def hung_up(_number: int, _frame: FrameType | None) -> None:
            self._asked.set()

        before = signal.signal(signal.SIGHUP, hung_up)
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, before)

    def _look(self) -> tuple[object, ...]:
        """What changes when the file does: its place, its time, its size."""
        path = find(self.console.config_file)
        try:
            found = path.stat() if path else None
        except OSError:
            found = None
        return (path, found.st_mtime_ns, found.st_size, found.st_ino) if found else (path,)


class Service(Struct, kw_only=True):
    """The loop of a service."""

    console: Console
    app: App
    watched: Configuration
    team: Workers
    started: int = 0
    _shown: dict[str, Job] = field(default_factory=dict)

    def run(self, asked: Asked) -> None:
        """Go on until a signal, then until the worker processes have ended."""
        scheduler, following, pause = self.app.scheduler(), self.app.following(), threading.Event()
        scheduler.use(self.watched.config.jobs)
        following.use(self.app.followers(self.watched.config))
        self._greet()
        self._guarded(lambda: self.app.lifecycle.record(self.watched.act("serve")))
        self.team.mend()
        following.start()
        notify("READY=1")
        look_at = tidy_at = self.app.clock.monotonic()
        while not asked.times:
            now = self.app.clock.monotonic()
            if now >= look_at:
                look_at = now + LOOK
                if self.watched.renew():
                    self._guarded(lambda: self.app.lifecycle.record(self.watched.act("configuration_reload")))
                    scheduler.use(self.watched.config.jobs)
                    following.use(self.app.followers(self.watched.config))
                    self._greet()
                self._guarded(lambda: scheduler.configured(self.watched.config.file, self.watched.fault))
                self._guarded(lambda: self._told(scheduler.look()))
                notify("WATCHDOG=1")
            if now >= tidy_at:
                tidy_at = now + TIDY
                self._guarded(lambda: self.app.tidy(self.watched.config.retention))
            self.team.mend()
            pause.wait(TICK)
        self._guarded(scheduler.close)
        self._stop(asked, pause)
        following.close()

    def _stop(self, asked: Asked, pause: threading.Event) -> None:
        notify("STOPPING=1")
        self.console.say("Ending after what runs now; a second signal ends it at once.")
        self.team.send(signal.SIGTERM)
        while self.team.pids:
            if asked.times > 1:
                self.team.send(signal.SIGKILL)
                self.console.say("Leaving at once; what ran is taken over at the next start.")
                os._exit(128 + int(signal.Signals[asked.by[-1]]))
            notify("WATCHDOG=1")
            pause.wait(TICK)
        self._guarded(lambda: self._told([]))

    def _guarded(self, look: Callable[[], object]) -> None:
        """A ledger that cannot be used now is no reason to end: the next look may find it well."""
        try:
            look()
        except LedgerError as error:
            self.console.say(f"The ledger cannot be used: {error.message}", "yellow")

    def _greet(self) -> None:
        count = sum(is_scheduled(job) for job in self.watched.config.jobs.values())
        place = self.watched.config.file or "no configuration file"
        jobs = f"{words.counted(count, 'job')} by schedule"
        self.console.say(f"Serving {jobs} ({place}). See when:  dbupkeep schedule", "dim")

    def _told(self, fired: Sequence[Fired]) -> None:
        """Say what was started or left out, and how the runs ended that were seen going on: a line each."""
        for each in fired:
            self.started += each.do is Do.START
            self.console.say(f"{_now(self.app)}  {words.name(each.name)}: {_said(each)}")
        going = JobQuery(roots=True, statuses=(JobStatus.PENDING, JobStatus.RUNNING))
        now = {job.id: job for job in self.app.reader.jobs(going, limit=SHOWN).jobs}
        for each in fired:
            if each.run_id and each.run_id not in now and (job := self.app.reader.job(each.run_id)):
                self._shown[job.id] = job
        for job_id in [known for known in self._shown if known not in now]:
            if ended := self.app.reader.job(job_id):
                self.console.say(f"{_now(self.app)}  {_ended(of_databases(self.app.reader, ended))}")
            del self._shown[job_id]
        self._shown.update(now)


def _said(fired: Fired) -> str:
    due = words.moment(fired.due)
    if fired.do is Do.START:
        return f"started, due {due}{', caught up on' if fired.late else ''} · {fired.run_id[:13]}"
    if fired.do is Do.NOTHING:
        return f"could not look whether anything is due: {words.name(fired.reason)}"
    return f"{'waits' if fired.do is Do.HOLD else 'left out'}, due {due}: {fired.reason}"


def _ended(job: Job) -> str:
    counts = ", ".join(
        f"{count} {word}" for word in ("completed", "failed", "cancelled", "skipped", "deferred")
        if (count := getattr(job.stats, word))
    )  # fmt: skip
    return f"{words.name(job.name)}: {state(job)} · {counts or 'nothing'} · {took(job)} · {job.id[:13]}"


def _now(app: App) -> str:
    return words.moment(app.clock.now())


def _arguments(console: Console, slots: int, lease: float | None, grace: timedelta) -> list[str]:
    """What the worker processes are told; the rest they read from the environment, as this process did."""
    told = ["--jobs", str(slots), "--grace", f"{grace.total_seconds():g}s", "--log-format", console.log_format.value]
    told += ["--ledger", console.ledger] if console.ledger else []
    told += ["--lease", str(lease)] if lease is not None else []
    told += ["-v"] * max(0, console.verbosity) + ["-q"] * (console.verbosity < 0)
    return told
