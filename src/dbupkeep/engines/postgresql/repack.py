"""Runs pg_repack's own client on one table, as gently as it can be, and clears up after it.

It is told to cancel nobody (`--no-kill-backend`) and to try for its locks for a second at most, in tries of
0.5 s at most. Whether it did its work is seen by the table's file, not by its words.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dbupkeep.engine import Report
from dbupkeep.engines.postgresql import blockers, blocking, needs, words
from dbupkeep.engines.postgresql.blocking import CLOSELY, Toll
from dbupkeep.engines.postgresql.extensions import READY, REPACK
from dbupkeep.engines.postgresql.names import split
from dbupkeep.errors import Busy, Kind, OperationError, Refused, UpkeepError
from dbupkeep.facts import Value
from dbupkeep.logs import printable
from dbupkeep.plans import PlanItem
from dbupkeep.progress import Progress

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle
    from dbupkeep.engines.postgresql.versions import Version

PROGRAM = "pg_repack"
_DEBIAN = Path("/usr/lib/postgresql")
_LOCK_SECONDS = 0
"""As it counts whole seconds, and makes each try 0.1 s longer than the one before, none waits for more than 0.5 s."""

_GRACE = 15.0
"""Seconds that the client gets to clear up by itself when it is told to stop."""

_WAITS = "Waiting for"
_SAID = 20

_ENVIRONMENT = {
    "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE",
    "service": "PGSERVICE", "passfile": "PGPASSFILE", "sslmode": "PGSSLMODE", "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY", "sslrootcert": "PGSSLROOTCERT", "sslcrl": "PGSSLCRL", "gssencmode": "PGGSSENCMODE",
    "channel_binding": "PGCHANNELBINDING", "krbsrvname": "PGKRBSRVNAME", "options": "PGOPTIONS",
    "target_session_attrs": "PGTARGETSESSIONATTRS", "connect_timeout": "PGCONNECT_TIMEOUT",
}  # fmt: skip
"""How libpq's parameters are handed to another program: never in its arguments."""


def state(handle: Handle) -> str:
    """`ready`, or the sentence that says what is lacking and what to do."""
    installed = handle.rows("repack_version")
    if not installed:
        return REPACK.lack(handle)
    version = str(installed[0]["version"])
    found = {program: _version(program) for program in programs()}
    if version in found.values():
        return READY
    if found:
        return f"the pg_repack here is {', '.join(sorted(set(found.values())))}, and the server's is {version}: they must match"
    return f"pg_repack {version} is on the server, but its client is not on this machine: install it here as well"


def programs() -> list[str]:
    """The clients on this machine."""
    known = [str(path) for path in sorted(_DEBIAN.glob(f"*/bin/{PROGRAM}"), reverse=True)]
    first = shutil.which(PROGRAM)
    return list(dict.fromkeys([*([first] if first else []), *known]))


def run(handle: Handle, item: PlanItem, report: Report, table: Mapping[str, Any]) -> dict[str, Value]:
    """Do it. Raises `Busy` where a lock or an older transaction is in the way, `Refused`, `Interrupted`, ..."""
    ready = state(handle)
    if ready != READY:
        raise Refused("pg_repack cannot be used", why=ready, hint="then plan again", kind=Kind.CAPABILITY)
    if found := handle.rows("repack_objects", {"oid": table["oid"]}):
        raise Busy(
            f"{item.object} has what another pg_repack made for it",
            why=", ".join(f"{row['kind']} {row['name']}" for row in found),
            hint="it is at work, or was cut off: drop the trigger first, then the tables of the schema repack",
        )
    blockers.preflight(
        handle, [table["oid"]], needs.number(item.options, "blocker_age"), f"the rewrite of {item.object}"
    )
    report.note(note(table))
    report.stage("rewriting (pg_repack)", item.object)
    client = _Client(handle, item, report)
    try:
        client.work()
    finally:
        if not handle.connection.closed:
            clear(handle, table["oid"], lock_wait=needs.number(item.options, "lock_wait"))
    schema, name = split(item.object)
    now = handle.rows("heap_state", {"schema": schema, "name": name})
    if now and now[0]["filenode"] == table["filenode"]:
        raise client.failure()
    return {"lock_wait_seconds": round(client.waited, 3), **client.toll.values()}


def note(table: Mapping[str, Any]) -> str:
    """What an attempt keeps before it begins: the file of the table says later whether it was written anew."""
    kept = {name: table[name] for name in ("oid", "filenode", "bytes", "index_bytes")}
    return json.dumps({"repack": kept})


def noted(notes: Sequence[str]) -> dict[str, int] | None:
    """What the last attempt noted before it began; None when none did."""
    found: dict[str, int] | None = None
    for note in notes:
        with suppress(ValueError, KeyError, TypeError):
            found = json.loads(note)["repack"]
    return found


def clear(handle: Handle, oid: int, *, lock_wait: float, tries: int = 20) -> Sequence[Mapping[str, Any]]:
    """Remove what our pg_repack left for a table, the trigger first; returns what is still there."""
    from psycopg import sql

    from dbupkeep.engines.postgresql.bytewise import Name

    pause = threading.Event()
    for _ in range(tries):
        left = handle.rows("repack_objects", {"oid": oid})
        if not left:
            return []
        for row in left:
            name = Name(row["name"])
            if row["kind"] == "trigger":
                table = Name(row["schema"], row["table_name"])
                statement = sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(name, table)
            else:
                kind = sql.SQL("TABLE" if row["kind"] == "table" else "TYPE")
                statement = sql.SQL("DROP {} IF EXISTS {}").format(kind, Name("repack", row["name"]))
            with suppress(UpkeepError):
                handle.clear_up(statement, lock_wait=lock_wait or 0.5)
        pause.wait(0.2)
    return handle.rows("repack_objects", {"oid": oid})


def arguments(program: str, table: str, *, superuser: bool) -> list[str]:
    """The command. Pure; nothing that connects is in it."""
    found = [
        program,
        "--no-kill-backend",
        f"--wait-timeout={_LOCK_SECONDS}",
        "--no-order",
        "--no-analyze",
        "--no-password",
    ]
    return [*found, *([] if superuser else ["--no-superuser-check"]), f"--table={table}"]


def environment(parameters: Mapping[str, str], around: Mapping[str, str], tag: str, version: Version) -> dict[str, str]:
    """What libpq in the client goes by: our own parameters, before those of the environment. Pure."""
    given = {_ENVIRONMENT[name]: value for name, value in parameters.items() if name in _ENVIRONMENT and value}
    found = {**around, **given, "PGAPPNAME": tag, "LC_ALL": "C"}
    # It lifts the limit of statements itself, by a statement, and no other: it copies a table in one transaction.
    limits = ["statement_timeout", *(["transaction_timeout"] if version.has(17) else [])]
    found["PGOPTIONS"] = " ".join([found.get("PGOPTIONS", ""), *(f"-c {name}=0" for name in limits)]).strip()
    return found


class _Client:
    """The client while it works."""

    def __init__(self, handle: Handle, item: PlanItem, report: Report) -> None:
        self._handle, self._item, self._report = handle, item, report
        self._said: deque[str] = deque(maxlen=_SAID)
        self._stopped_for = ""
        self._fault: Busy | None = None
        self.waited = 0.0
        self.toll = Toll()

    def work(self) -> None:
        """Run it to its end, whatever that is. Raises `Interrupted` when a stop was asked for."""
        with self._process() as process:
            reader = threading.Thread(target=self._read, args=(process,), daemon=True)
            reader.start()
            started = looked = perf_counter()
            while not _ended(process, CLOSELY):
                now = perf_counter()
                self._look(now - looked)
                self._count_the_toll()
                looked = now
                if self._stopped_for or self._must_stop(now - started):
                    _stop(process)
                    break
            reader.join(timeout=2.0)
        self._handle.check_stop()

    def failure(self) -> UpkeepError:
        """Why the table is still the old one."""
        said = next((line for line in reversed(self._said) if line.startswith(("ERROR", "WARNING"))), "")
        if self._fault is not None:
            return self._fault
        if self._stopped_for == "deadline":
            return OperationError(
                "the work took longer than its deadline and was stopped", hint="raise `deadline`", kind=Kind.INTERRUPTED
            )
        if self._stopped_for or not said.startswith("ERROR"):
            return Busy(
                f"{self._item.object} could not be rewritten now",
                why=self._stopped_for or said or "its lock could not be had within a second",
                hint="nothing is changed, nobody was cancelled, and it comes back with the next run",
            )
        return OperationError("pg_repack failed", why=said, hint="the table is as it was")

    @contextmanager
    def _process(self) -> Iterator[subprocess.Popen[str]]:
        from dbupkeep.engines.postgresql import bytewise

        handle = self._handle
        version = str(handle.row("repack_version")["version"])
        program = next(program for program in programs() if _version(program) == version)
        command = [
            bytewise.sent(argument, handle.connection)
            for argument in arguments(program, self._item.object, superuser=handle.identity.superuser)
        ]
        parameters = {**handle.parameters, "user": handle.identity.role, "dbname": handle.identity.database}
        around = environment(parameters, os.environ, handle.tag, handle.identity.version)
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            errors="replace", env=around, start_new_session=True,
        )  # fmt: skip
        try:
            with process:
                yield process
                if process.poll() is None:
                    _stop(process)
        finally:
            if process.poll() is None:
                process.kill()

    def _read(self, process: subprocess.Popen[str]) -> None:
        for line in process.stderr or ():
            self._said.append(printable(line.strip()))

    def _look(self, passed: float) -> None:
        """Say what it is at; nobody counts how far it is."""
        last = self._said[-1] if self._said else ""
        if _WAITS in last:
            self.waited += passed
            self._report.progress(
                Progress(stage=f"waiting for older transactions ({last.partition(_WAITS)[2].strip()})")
            )
            return
        with suppress(UpkeepError):
            rows = self._handle.rows("at_work_under", {"tag": self._handle.tag})
            self._report.progress(Progress(stage=_stage(rows)))

    def _count_the_toll(self) -> None:
        with suppress(UpkeepError):
            if self.toll.look(self._handle, self._handle.identity.pid, self._handle.tag):
                self._fault = blocking.over(self._item, self._report, self.toll.seconds)
                self._stopped_for = "budget" if self._fault else ""

    def _must_stop(self, passed: float) -> bool:
        deadline, patience = (needs.number(self._item.options, name) for name in ("deadline", "max_wait"))
        if self._handle.stopping:
            self._stopped_for = "stop"
        elif deadline and passed > deadline:
            self._stopped_for = "deadline"
        elif patience and self.waited > patience:
            self._stopped_for = f"older transactions did not end within {words.duration(patience)}"
        return bool(self._stopped_for)


def _stage(rows: Sequence[Mapping[str, Any]]) -> str:
    active = next((row for row in rows if row["state"] == "active"), None)
    if active is None:
        return "between steps"
    query = str(active["query"]).lstrip().upper()
    if active["phase"]:
        return f"building an index: {active['phase']}"
    if query.startswith(("INSERT INTO REPACK.TABLE", "CREATE TABLE REPACK")):
        return "copying rows"
    return {"CREATE": "building an index", "LOCK": "trying for a lock"}.get(query.split(" ", 1)[0], "applying changes")


def _ended(process: subprocess.Popen[str], seconds: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
        return True
    return False


def _stop(process: subprocess.Popen[str]) -> None:
    """Have it clear up and end; only a process that we started is signalled."""
    for number, patience in ((signal.SIGINT, _GRACE), (signal.SIGTERM, _GRACE)):
        process.send_signal(number)
        if _ended(process, patience):
            return
    process.kill()


def _version(program: str) -> str:
    try:
        found = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip().removeprefix("pg_repack ").strip()
