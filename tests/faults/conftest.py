"""Processes that are started, killed, frozen and thawed, and databases for them to work on."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("processes.py")


class Processes:
    """Starts processes of `processes.py`. None is reaped before it is asked for, so a pid never means another."""

    def __init__(self, folder: Path, *, lease: float = 0.5) -> None:
        self.ledger = folder / "ledger.db"
        self.record = folder / "effects.jsonl"
        self.log = folder / "log.jsonl"
        self.lease = lease
        self.seconds = 0.05  # how long a scripted operation takes
        self.poison = ""
        self._program = subprocess.Popen(
            [sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._unreaped: set[int] = set()

    def start(self, role: str, **arguments: Any) -> int:
        app = {
            "ledger": str(self.ledger), "record": str(self.record), "lease": self.lease, "seconds": self.seconds,
            "poison": self.poison,
        }  # fmt: skip
        pid = self._order({"role": role, "app": app, "arguments": arguments, "log": str(self.log)})
        self._unreaped.add(pid)
        return pid

    def wait(self, pid: int) -> int:
        """How a process ended, once it has: its exit code, or minus the signal."""
        status = self._order({"reap": pid})
        self._unreaped.discard(pid)
        return status

    def run(self, role: str, **arguments: Any) -> int:
        return self.wait(self.start(role, **arguments))

    def signal(self, pid: int, number: signal.Signals) -> None:
        os.kill(pid, number)

    def kill(self, pid: int) -> int:
        self.signal(pid, signal.SIGKILL)
        return self.wait(pid)

    def effects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.record.read_text().splitlines()] if self.record.exists() else []

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def close(self) -> None:
        """End everything, also in the middle of an order that a failed test was waiting for."""
        for pid in self._unreaped:
            self.signal(pid, signal.SIGKILL)
        self._program.kill()
        self._program.communicate()

    def _order(self, order: dict[str, Any]) -> int:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(order) + "\n")
        self._program.stdin.flush()
        return int(self._program.stdout.readline())


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


class Databases:
    """Files with an index and with half of their rows deleted, and what became of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[Path, Any] = {}

    def make(self, name: str, *, rows: int, wal: bool = False) -> Path:
        path = self.folder / name
        with sqlite3.connect(path) as connection:
            if wal:
                connection.execute("pragma journal_mode = wal")
            connection.execute("create table t (id integer primary key, k integer, v text)")
            connection.execute("create index t_k on t (k)")
            values = ((n * 7919 % rows, str(n) * 40) for n in range(rows))
            connection.executemany("insert into t (k, v) values (?, ?)", values)
            connection.execute("delete from t where id % 2")
        connection.close()
        self.rows[path] = self.content(path)
        return path

    def content(self, path: Path) -> Any:
        return self._ask(path, "select * from t order by id")

    def verdict(self, path: Path) -> str:
        """What `integrity_check` says."""
        return str(self._ask(path, "pragma integrity_check")[0][0])

    def check(self) -> None:
        """Every database is sound, has the rows that it had, and nothing lies beside it.

        What SQLite keeps beside a file whose opener was killed goes with whoever opens it next, which is done here first.
        """
        for path, rows in self.rows.items():
            assert self.verdict(path) == "ok"
            assert self.content(path) == rows
        names = {entry.name for entry in self.folder.iterdir()}
        assert names == {path.name for path in self.rows}, "something was left behind"

    def _ask(self, path: Path, statement: str) -> list[Any]:
        connection = sqlite3.connect(path)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()


@pytest.fixture
def databases(tmp_path: Path) -> Databases:
    folder = tmp_path / "databases"
    folder.mkdir()
    return Databases(folder)
