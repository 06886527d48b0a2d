"""What stands between a client and a server: a path that can freeze, and a connection pooler."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.plugins.postgresql import Database, Server, free_port

PGBOUNCER = "/usr/sbin/pgbouncer"


class NetworkPath:
    """Forwards connections to a port. Frozen ones stay open, and nothing comes through any more."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._frozen: list[threading.Event] = []
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        """Freeze the connections of now; later ones get through."""
        for each in self._frozen:
            each.set()

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                frozen = threading.Event()
                self._frozen.append(frozen)
                self._sockets += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=(one, other, frozen), daemon=True).start()

    @staticmethod
    def _forward(source: socket.socket, sink: socket.socket, frozen: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if frozen.is_set():
                    continue  # swallowed; the connection stays open
                sink.sendall(data)
            if not frozen.is_set():
                sink.shutdown(socket.SHUT_RDWR)


@contextmanager
def network_path(server: Server) -> Iterator[NetworkPath]:
    path = NetworkPath(server.port)
    try:
        yield path
    finally:
        path.close()


@contextmanager
def pooler(server: Server, mode: str) -> Iterator[int]:
    """PgBouncer before a server, in a pool mode; yields its port."""
    if not Path(PGBOUNCER).exists():
        pytest.skip("PgBouncer is not here: as root, `sh scripts/packages` installs it")
    folder, port = Path(tempfile.mkdtemp(prefix="dbupkeep-pgbouncer-")), free_port()
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n"
        f"logfile = {folder}/log\npidfile = {folder}/pid\n"
        "ignore_startup_parameters = extra_float_digits\n"
    )
    settings.write_text(settings.read_text().replace("* = host", "* = user=postgres host"))
    user = []
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)
        user = [
            "setpriv",
            f"--reuid={account.pw_uid}",
            f"--regid={account.pw_gid}",
            "--clear-groups",
            "--pdeathsig=INT",
        ]
    process = subprocess.Popen([*user, PGBOUNCER, str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _answering(port, process, folder)
        yield port
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def _answering(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError((folder / "log").read_text() if (folder / "log").exists() else "it ended at once")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    raise RuntimeError("PgBouncer does not answer")


@contextmanager
def shared_pool(database: Database) -> Iterator[int]:
    """A pool in transaction mode before a database, used by an application; nothing must stay in its sessions. Yields its port."""
    settings = (
        "SELECT name, setting FROM pg_settings WHERE source = 'session' AND name <> 'application_name' ORDER BY name"
    )
    with pooler(database.server, "transaction") as port:
        through = {"port": port, "application_name": "the application", "prepare_threshold": None}
        with database.connect(**through) as application:
            before = application.execute(settings).fetchall()
        yield port
        with database.connect(**through) as application:
            assert application.execute(settings).fetchall() == before, "the application got our settings"
