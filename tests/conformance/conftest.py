"""The laboratories of the engines: what the public suite asks an adapter's test for."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from dbupkeep import engines
from dbupkeep.definitions import Target
from dbupkeep.engine import Engine
from dbupkeep.engines.sqlite import target_of
from dbupkeep.engines.sqlite.paths import path_of

pytest.register_assert_rewrite("dbupkeep.testing.engine_suite")

HASH = "import hashlib, sys; [print(hashlib.sha256(open(p, 'rb').read()).hexdigest()) for p in sys.argv[1:]]"


class SqliteLaboratory:
    """Files in a folder. They are made and counted by another library than the product's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()

    @property
    def engine(self) -> Engine:
        return engines.load("sqlite")

    def bloated(self) -> Target:
        return target_of(str(self._file(rows=20_000)))

    def missing(self) -> Target:
        return target_of(str(self._new()))

    def exists(self, target: Target) -> bool:
        path = path_of(target.url)
        return any(entry.name.startswith(path.name) for entry in path.parent.iterdir())

    def hostile(self, name: str) -> Target | None:
        if name.lower().startswith("sqlite_") or name.lower() == "victim":
            return None
        path = self._new()
        table, index = (f'"{text.replace(chr(34), chr(34) * 2)}"' for text in (name, f"i{name}"))
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE victim (a)")
            connection.executemany("INSERT INTO victim VALUES (?)", [(number,) for number in range(10)])
            connection.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, {table} TEXT)")
            connection.execute(f"CREATE INDEX {index} ON {table} ({table})")
            connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", [(n, "x" * 200) for n in range(500)])
            connection.execute(f"DELETE FROM {table} WHERE id > 100")
        connection.close()
        return target_of(str(path))

    def victims(self, target: Target) -> int:
        connection = sqlite3.connect(path_of(target.url))
        rows: int = connection.execute("SELECT count(*) FROM victim").fetchone()[0]
        connection.close()
        return rows

    def fingerprint(self, target: Target) -> str:
        path = path_of(target.url)
        files = sorted(str(entry) for entry in path.parent.iterdir() if entry.name.startswith(path.name))
        found = subprocess.run([sys.executable, "-c", HASH, *files], capture_output=True, check=True, text=True)
        return f"{files} {found.stdout}"

    def replaced(self, target: Target) -> None:
        Path(self._file(rows=20_000)).replace(path_of(target.url))

    def _new(self) -> Path:
        return self._folder / f"database-{next(self._numbers)}.db"

    def _file(self, *, rows: int) -> Path:
        path = self._new()
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b BLOB)")
            connection.execute("CREATE INDEX t_a ON t (a)")
            connection.execute("CREATE UNIQUE INDEX t_b ON t (b, id)")
            connection.executemany(
                "INSERT INTO t VALUES (?, ?, ?)", ((n, f"{n:040x}", os.urandom(100)) for n in range(rows))
            )
            connection.execute("DELETE FROM t WHERE id % 100 < 60 OR id < 8000")
        connection.close()
        return path


@pytest.fixture
def sqlite_lab(tmp_path: Path) -> SqliteLaboratory:
    return SqliteLaboratory(tmp_path)
