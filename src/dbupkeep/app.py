"""Puts everything together; the only file that sees everything. Fixes which queue belongs to which ledger."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dbupkeep import engines
from dbupkeep.audit import acting, actor
from dbupkeep.clock import Clock, SystemClock, new_id
from dbupkeep.codec import from_json, rfc3339, to_json
from dbupkeep.errors import Kind, Refused, UnknownName, UsageError
from dbupkeep.hooks import RunHooks
from dbupkeep.isolated import Isolation
from dbupkeep.ledger import Ledger, Reader
from dbupkeep.lifecycle import Lifecycle, Submission, Turn
from dbupkeep.logs import carries_password
from dbupkeep.manager import JobManager, Planned
from dbupkeep.managers.database_maintenance import DatabaseMaintenanceManager
from dbupkeep.managers.discovery import DatabaseDiscoveryManager
from dbupkeep.managers.maintenance_run import MaintenanceRunManager
from dbupkeep.orchestrator import ParentJobOrchestrator
from dbupkeep.plans import Plan, RunPlan
from dbupkeep.processor import JobProcessor
from dbupkeep.queue import Queue
from dbupkeep.registry import Registry
from dbupkeep.worker import JobWorker
from dbupkeep.workers.database_discovery import DatabaseDiscoveryWorker
from dbupkeep.workers.database_maintenance_operation import DatabaseMaintenanceOperationWorker

if TYPE_CHECKING:
    from dbupkeep.config import Config
    from dbupkeep.config.receivers import Receiver
    from dbupkeep.engine import Engine
    from dbupkeep.follower import Follower
    from dbupkeep.following import Following
    from dbupkeep.scheduler import Scheduler


EVERY_DAY = timedelta(days=1)

AUDIT_KEPT = timedelta(days=400)
"""How long entries of the audit trail are kept at least, however early their runs are forgotten."""

RETENTION = "retention"
"""Who forgets what is old when nobody asks for it."""


def default_ledger() -> str:
    """Where the ledger is when nobody says: `DBUPKEEP_LEDGER`, or a file in the user's state folder."""
    return os.environ.get("DBUPKEEP_LEDGER") or str(state_folder() / "ledger.db")


def state_folder() -> Path:
    """The user's state folder: `DBUPKEEP_STATE`, or the platform's own."""
    if set_by_user := os.environ.get("DBUPKEEP_STATE"):
        return Path(set_by_user)
    from platformdirs import user_state_path

    return user_state_path("dbupkeep", appauthor=False)


class App:
    """One ledger with its queue, and the roles that stand on them."""

    def __init__(
        self,
        location: str = "",
        *,
        clock: Clock | None = None,
        lease: float | None = None,
        load_engine: Callable[[str], Engine] | None = None,
        isolate: bool = True,
    ) -> None:
        """Open (or create) the ledger at a path or url. Raises `LedgerError`.

        With `isolate`, products that work inside the calling process are worked on in child processes. Only a
        short-lived process that opens no database itself may do without.
        """
        self.location = location or default_ledger()
        self.clock = clock or SystemClock()
        self._lease = lease
        self.ledger, self.reader, self.queue = open_pair(self.location, self.clock, lease)
        self._isolation = Isolation(load_engine or engines.load)
        find = self._isolation.load if isolate else (load_engine or engines.load)
        self.lifecycle = Lifecycle(self.ledger, self.queue, self.clock)
        self.orchestrator = ParentJobOrchestrator(self.lifecycle, self.reader)
        self.databases = DatabaseMaintenanceManager(
            lifecycle=self.lifecycle, orchestrator=self.orchestrator, reader=self.reader, engines=find,
            clock=self.clock, new_id=new_id,
        )  # fmt: skip
        self.runs = MaintenanceRunManager(
            lifecycle=self.lifecycle, orchestrator=self.orchestrator, reader=self.reader, databases=self.databases,
            engines=find, clock=self.clock, new_id=new_id,
        )  # fmt: skip
        self.managers = self._managers()
        self.workers = self._workers(find)
        self.hooks = RunHooks(reader=self.reader, lifecycle=self.lifecycle, queue=self.queue, clock=self.clock)
        self.processor = JobProcessor(
            ledger=self.ledger, queue=self.queue, lifecycle=self.lifecycle, workers=self.workers,
            sweep=self._sweep, clock=self.clock, hooks=self.hooks,
        )  # fmt: skip

    def _sweep(self) -> int:
        return self.orchestrator.sweep() + self.hooks.settle()

    def _managers(self) -> Registry[JobManager]:
        managers: Registry[JobManager] = Registry("action", "dbupkeep.managers", lambda make: make(self))
        for manager in (self.databases, self.runs, DatabaseDiscoveryManager(self.runs)):
            managers.register(manager.action, cast("JobManager", manager))
        return managers

    def _workers(self, find: Callable[[str], Engine]) -> Registry[JobWorker]:
        workers: Registry[JobWorker] = Registry("job type", "dbupkeep.workers", lambda make: make(self))
        self._operations = operation = DatabaseMaintenanceOperationWorker(
            reader=self.reader, engines=find, clock=self.clock
        )
        discovery = DatabaseDiscoveryWorker(
            reader=self.reader, databases=self.databases, managers=self.managers, engines=find, clock=self.clock
        )
        for worker in (operation, discovery):
            workers.register(worker.type, worker)
        return workers

    def scheduler(self) -> Scheduler:
        """What starts runs by themselves; a service has one, and gives it the jobs of its configuration."""
        from dbupkeep.looks import Looks, look
        from dbupkeep.scheduler import Scheduler

        looks = Looks(partial(look, self.runs, self.clock), self.clock)
        return Scheduler(reader=self.reader, lifecycle=self.lifecycle, runs=self.runs, looks=looks, clock=self.clock)

    def following(self) -> Following:
        """What has followers take in events; a service has one, and gives it the followers of its configuration."""
        from dbupkeep.following import Following

        return Following(reader=self.reader, lifecycle=self.lifecycle, clock=self.clock)

    def followers(self, config: Config) -> Sequence[Follower]:
        """The followers that a configuration wants; running totals are always among them."""
        from dbupkeep.followers.outbound import Reach
        from dbupkeep.followers.ping import PingFollower
        from dbupkeep.followers.totals import TotalsFollower
        from dbupkeep.followers.traces import TracesFollower, is_wanted

        pings = [
            PingFollower(job, url=ping.url, reach=Reach(private=ping.private, hosts=ping.hosts), reader=self.reader)
            for job, ping in config.pings.items()
        ]
        told = [self._receiver(receiver) for receiver in config.receivers.values()]
        traces = [TracesFollower(self.reader)] if is_wanted() else []
        return [TotalsFollower(self.reader), *traces, *pings, *told]

    def _receiver(self, receiver: Receiver) -> Follower:
        from dbupkeep.followers.apprise import AppriseFollower
        from dbupkeep.followers.notifications import Notifier
        from dbupkeep.followers.outbound import Reach
        from dbupkeep.followers.webhook import WebhookFollower

        notifier = Notifier(self.reader, receiver.jobs, receiver.on)
        if receiver.apprise is not None:
            return AppriseFollower(receiver.name, urls=receiver.apprise, notifier=notifier)
        if receiver.webhook is None or receiver.secret is None:
            raise UsageError(f"the receiver {receiver.name} has nowhere to go")
        return WebhookFollower(
            receiver.name, url=receiver.webhook, secret=receiver.secret, notifier=notifier,
            reach=Reach(private=receiver.private, hosts=receiver.hosts), clock=self.clock,
        )  # fmt: skip

    def prune(self, older_than: timedelta) -> int:
        """Forget runs that ended longer ago than that, and worker processes that are gone; returns jobs removed.

        Of the audit trail only what is older than `AUDIT_KEPT`, too.
        """
        self.queue.prune()
        now = self.clock.now()
        self.ledger.forget(now - max(older_than, AUDIT_KEPT), by=actor() or RETENTION)
        return self.ledger.prune(now - older_than)

    def tidy(self, keep: timedelta) -> int:
        """Prune, at most once a day whoever asks; with `keep` 0 never. Returns jobs removed."""
        done = self.reader.get("chore", "prune") or {}
        now = self.clock.now()
        if not keep or ("at" in done and now - datetime.fromisoformat(done["at"]) < EVERY_DAY):
            return 0
        self.lifecycle.keep("chore", "prune", {"at": rfc3339(now)})
        with acting(RETENTION):
            return self.prune(keep)

    @property
    def lease(self) -> float:
        """Seconds after which the work of a process that went away is taken over."""
        from dbupkeep.queues.embedded import lease_seconds

        return lease_seconds() if self._lease is None else self._lease

    def save(self, planned: Planned, turn: Turn | None = None) -> bool:
        """Keep a plan to be applied later, if nobody else had the turn; whether it was kept."""
        kind = "plan" if isinstance(planned, Plan) else "run_plan"
        return self.lifecycle.keep_all([(kind, planned.id, to_json(planned))], turn)

    def saved(self, plan_id: str) -> Planned:
        """A plan that was kept. Raises `UnknownName`."""
        document = self.reader.get("plan", plan_id)
        if document is not None:
            return from_json(Plan, document)
        document = self.reader.get("run_plan", plan_id)
        if document is not None:
            return from_json(RunPlan, document)
        raise UnknownName(f"there is no saved plan {plan_id}", hint="`dbupkeep plan --save` prints the id of a new one")

    def apply(self, planned: Planned, *, along: Submission | None = None) -> str:
        """Submit exactly this plan. Raises `Refused` of kind `drift` when a target no longer fits it.

        What `along` has (documents, a key that lets it happen once) is written in the same transaction; with a key that
        was used before nothing is, and the first run's id is returned.
        """
        if isinstance(planned, Plan):
            self.databases.check(planned)
        else:
            self.runs.check(planned)
        return self.runs.submit(planned, along=along)

    def drain(self, *, slots: int = 1, stop: threading.Event | None = None) -> None:
        """Execute what is in the queue until nothing is left that could run."""
        stop = stop or threading.Event()
        serving = threading.Thread(
            target=self.processor.serve, kwargs={"slots": slots, "stop": stop}, name="dbupkeep-drain"
        )
        serving.start()
        try:
            while serving.is_alive() and self.outstanding():
                stop.wait(0.02)
        finally:
            stop.set()
            serving.join()

    def outstanding(self) -> bool:
        """Whether a job is deliverable or runs."""
        from dbupkeep.ledger import JobQuery

        return bool(self.reader.jobs(JobQuery(released=True), limit=1).jobs)

    def close(self) -> None:
        """Let go of the ledger; safe to repeat."""
        self._operations.close()
        self._isolation.close()
        self.queue.close()
        self.ledger.close()


def is_on_server(location: str) -> bool:
    """Whether a ledger is kept by a server, and not in a file."""
    scheme, separator, _ = location.partition("://")
    return bool(separator) and scheme != "sqlite"


def open_pair(location: str, clock: Clock, lease: float | None = None) -> tuple[Ledger, Reader, Queue]:
    """A ledger with the queue that delivers on its transactions."""
    scheme, separator, _ = location.partition("://")
    if separator and scheme in ("postgresql", "postgres"):
        from dbupkeep.ledgers.postgresql import PostgresqlLedger
        from dbupkeep.queues.pgqueuer import PgqueuerQueue

        shared = PostgresqlLedger(location, clock)
        shared.migrate()
        delivery = PgqueuerQueue(shared, clock=clock, lease=lease)
        delivery.migrate()
        return shared, shared, delivery
    if is_on_server(location):
        raise UsageError(
            f"no ledger can be kept at {scheme}://", hint="give a path, sqlite:///PATH or postgresql://HOST/DATABASE"
        )
    from dbupkeep.ledgers.sqlite import SqliteLedger
    from dbupkeep.queues.embedded import EmbeddedQueue

    ledger = SqliteLedger(_file(location), clock)
    ledger.migrate()
    return ledger, ledger, EmbeddedQueue(ledger, clock=clock, lease=lease)


def ledger_file(location: str, *, to: str = "back up") -> Path:
    """The file of the ledger at a location, to `back up` or to `restore`. Raises `Refused` for one that is no file."""
    location = location or default_ledger()
    if not is_on_server(location):
        return _file(location)
    from dbupkeep.ledgers.postgresql.sessions import SCHEMA, Address

    address = Address(location)
    commands = {
        "back up": ("pg_dump", "--format=custom", f"--schema={SCHEMA}", "--file=ledger.dump", str(address)),
        "restore": (
            "pg_restore", "--clean", "--if-exists", "--single-transaction", f"--dbname={address}", "ledger.dump",
        ),
    }  # fmt: skip
    done = {"back up": "backed up", "restore": "restored"}
    raise Refused(
        f"the ledger {address} is on a server, and {done[to]} by its own tools",
        why="only they see it as it is at one moment",
        hint=f"use: {shlex.join(commands[to])}",
        kind=Kind.CAPABILITY,
    )


def _file(location: str) -> Path:
    """The file that a location names. Raises `UsageError` for one that would tell a password by its name."""
    if carries_password(location):
        raise UsageError(
            "the place of the ledger is neither a path nor a url",
            why="there is a password in it, and a file of that name would tell it",
            hint="write postgresql://USER@HOST:PORT/DATABASE, and leave the password to PGPASSWORD or a password file",
        )
    return Path(location.removeprefix("sqlite://")).expanduser().absolute()
