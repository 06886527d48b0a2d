"""The real command in processes of its own, on real files; and an engine whose operations last until the test says so."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

TIMEOUT = 60


@dataclass(frozen=True, slots=True)
class Done:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Started:
    """A command that runs, with its standard output read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.seen: list[dict[str, Any]] = []

    def await_event(self, name: str, **data: str) -> dict[str, Any]:
        """Read events until one with this name and data comes; the pipe closes when the command ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            self.seen.append(event)
            if event["event"] == name and data.items() <= event["data"].items():
                return event
        _, err = self.process.communicate(timeout=TIMEOUT)
        raise AssertionError(f"ended without {name}: {self.seen} {err}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> Done:
        out, err = self.process.communicate(timeout=TIMEOUT)
        return Done(self.process.returncode, out, err)


@dataclass(slots=True)
class Cli:
    """Starts `python -m dbupkeep` in a folder of the test."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __call__(self, *arguments: object, **environ: str) -> Done:
        process = self._popen(arguments, environ)
        out, err = process.communicate(timeout=TIMEOUT)
        return Done(process.returncode, out, err)

    def start(self, *arguments: object, **environ: str) -> Started:
        return Started(self._popen(arguments, environ))

    def _popen(self, arguments: tuple[object, ...], environ: dict[str, str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "dbupkeep", *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "PYTHONWARNINGS": "error", **self.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    found = Cli(tmp_path)
    yield found
    for process in found.started:
        process.kill()
        with process:  # closes its pipes
            process.wait()


def make_database(path: Path, *, rows: int = 9000, wal: bool = False, keep: int = 3) -> Path:
    """A file whose rows are mostly deleted; one in `keep` is left."""
    connection = sqlite3.connect(path)
    if wal:
        connection.execute("pragma journal_mode = wal")
    connection.executescript("create table t (id integer primary key, a text, b text); create index t_a on t (a)")
    connection.executemany("insert into t (a, b) values (?, ?)", ((f"a{n % 97}", "x" * 300) for n in range(rows)))
    connection.commit()
    connection.execute("delete from t where id % ?", (keep,))
    connection.commit()
    connection.close()
    return path


@pytest.fixture
def bloated(tmp_path: Path) -> Path:
    return make_database(tmp_path / "app.db")


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    folder = tmp_path / "srv"
    folder.mkdir()
    for number in range(3):
        make_database(folder / f"tenant-{number}.db", rows=4000)
    return folder


@pytest.fixture(scope="session")
def big_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 250 MB: enough that its VACUUM takes a good part of a second on any machine."""
    from dbupkeep.engines.sqlite import sample

    path = tmp_path_factory.mktemp("big") / "big.db"
    sample.make(path, 250 * 1024 * 1024)
    return path


ENGINE = '''
import os
from pathlib import Path
from dbupkeep.errors import Busy, OperationError
from dbupkeep.testing.scripted import ScriptedEngine

FOLDER = Path(os.environ["SCRIPT"])

def act(session, item, report):
    """Wait until a file named after the operation is there; what is in it says how it goes."""
    path = FOLDER / item.operation.value
    while not path.exists():
        session.work(0.02)
    said = path.read_text()
    if said == "busy":
        raise Busy("somebody holds a lock", hint="come again")
    if said:
        raise OperationError(said, hint="mend it")

engine = ScriptedEngine(act=act)
'''


@dataclass(frozen=True, slots=True)
class Script:
    """Says when the operations of `scripted://` databases end, and how."""

    folder: Path

    def let(self, *operations: str, said: str = "") -> None:
        for operation in operations:
            draft = self.folder / f".{operation}"
            draft.write_text(said)
            draft.rename(self.folder / operation)


@pytest.fixture
def script(cli: Cli, tmp_path: Path) -> Script:
    """An installed package that brings an engine by its entry point."""
    site, folder = tmp_path / "site", tmp_path / "script"
    info = site / "scripted-1.dist-info"
    info.mkdir(parents=True)
    folder.mkdir()
    (site / "scripted_engine.py").write_text(textwrap.dedent(ENGINE))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scripted\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[dbupkeep.engines]\nscripted = scripted_engine:engine\n")
    cli.environ.update(PYTHONPATH=str(site), SCRIPT=str(folder))
    return Script(folder)


@pytest.fixture
def database() -> Callable[..., Path]:
    return make_database
